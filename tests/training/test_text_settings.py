"""Runs with texts of their own: trained, saved, captioned and resumed with the same ones."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from toy_run import Toy, make_trainer, train_toy

from evlvideo.assembly.models import open_model, start_model
from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.config.text import TextConfig
from evlvideo.data.loading.collate import visual_inputs
from evlvideo.errors import UserError
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.inference.caption_files import caption_files
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.training.resuming.settings import resumed_record
from evlvideo.training.run import train
from evlvideo.training.scst.trainer import SelfCriticalTrainer

QUESTION = "Look: {video}{prompt} Answer: {caption}\n"
TEXTS = {
    "question": TextConfig(template=QUESTION, prompt="What happens?"),
    "nothing before the caption": TextConfig(bos=""),
    "bos out of the loss": TextConfig(bos_in_loss=False),
}


def config_of(toy: Toy, directory: Path, stage: str, text: TextConfig, **sections: Any) -> RunConfig:
    return toy.config(directory, run={"stage": stage, "text": text}, **sections)


@pytest.fixture(scope="module", params=["caption", "scst"])
def run(request: pytest.FixtureRequest, toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained with a question."""
    directory = tmp_path_factory.mktemp("texts") / request.param
    sections = {"training": {"max_steps": 2}, "scst": {"cross_entropy_weight": 0.5, "kl_weight": 0.1}}
    return train_toy(config_of(toy, directory, request.param, TEXTS["question"], **sections))


def test_a_run_saves_its_texts_with_the_checkpoint(run: Path) -> None:
    processor = EvlVideoProcessor.from_pretrained(run)
    assert processor.shown == "Look: {video}What happens? Answer: {caption}\n"
    assert json.loads((run / "config.json").read_text())["prefix_token_ids"] == processor.prefix_ids()
    assert load_config(run / "config.yaml").text == TEXTS["question"]


def test_losses_are_finite(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all(torch.tensor(line["loss"]).isfinite() for line in lines if "loss" in line)


def test_evaluation_and_captioning_use_the_runs_texts(run: Path, toy: Toy) -> None:
    model, processor = open_model(run, load_config(run / "config.yaml"))
    assert processor.to_dict() == EvlVideoProcessor.from_pretrained(run).to_dict()
    assert model.config.prefix_token_ids == processor.prefix_ids()
    evaluate(run, split="test")
    predictions = next((run / "evaluation").rglob("predictions.json"))
    captions = {entry["image_id"]: entry["caption"] for entry in json.loads(predictions.read_text())}
    files = list(caption_files([clip.video for clip in toy.clips("test")], str(run)))
    assert [file.captions for file in files] == [[caption] for caption in captions.values()]


def test_captions_can_be_asked_for_in_other_words(run: Path, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = EvlVideoProcessor.prompt_ids

    def noting(processor: EvlVideoProcessor) -> Any:
        ids = original(processor)
        asked.append(processor.tokenizer.decode(ids))
        return ids

    monkeypatch.setattr(EvlVideoProcessor, "prompt_ids", noting)
    list(caption_files([toy.clips("test")[0].video], str(run), prompt="Where?"))
    assert set(asked) == {"Where? Answer:"}


@pytest.mark.parametrize("texts", TEXTS)
def test_the_policy_sees_samples_as_they_were_drawn(toy: Toy, tmp_path: Path, texts: str) -> None:
    """Samples of a nucleus of one token are the likeliest tokens of the teacher-forced pass."""
    scst = {"num_samples": 2, "top_p": 1e-6, "max_new_tokens": 8, "cross_entropy_weight": 0.5}
    trainer = make_trainer(config_of(toy, tmp_path, "scst", TEXTS[texts], scst=scst))
    assert isinstance(trainer, SelfCriticalTrainer)
    batch = trainer.data_collator([trainer.train_dataset[place] for place in range(3)])  # type: ignore[index]
    trainer.roll_out([batch])
    rollout = batch["rollout"]
    samples, references = trainer._logits(trainer.model, batch, rollout)
    assert torch.equal(samples.argmax(dim=-1)[rollout.mask], rollout.tokens[rollout.mask])
    assert references is not None
    texts_of_batch = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    loss = trainer.captioner(**visual_inputs(batch), **texts_of_batch).loss
    shifted = torch.nn.functional.cross_entropy(
        references[:, :-1].flatten(0, 1).float(), batch["labels"].flatten(), ignore_index=-100
    )
    torch.testing.assert_close(shifted, loss, atol=1e-5, rtol=1e-5)


def test_a_run_is_not_resumed_with_other_texts(toy: Toy, run: Path) -> None:
    config = config_of(toy, run, load_config(run / "config.yaml").stage, TextConfig(prompt="Where?"))
    checkpoint = next((run / "checkpoints").glob("checkpoint-*"))
    with pytest.raises(UserError, match=r'cannot resume with .*text\.prompt="Where\?" \(it was "What happens\?"\)'):
        resumed_record(config, run, checkpoint)


def test_a_new_models_texts_are_checked_before_its_towers_are_read(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a tower is read")

    monkeypatch.setattr("evlvideo.models.towers.load_towers", refuse)
    text = TextConfig(end_of_text="two words")
    with pytest.raises(UserError, match=r"text\.end_of_text is 'two words'; it must be one token"):
        start_model(config_of(toy, tmp_path, "caption", text), tower_dtype=torch.float32)


def test_cut_captions_are_told(toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = config_of(toy, tmp_path / "run", "caption", TextConfig(max_tokens=4), training={"max_steps": 2})
    with caplog.at_level(logging.INFO, "evlvideo"):
        train_toy(config)
    lines = [record.message for record in caplog.records if "cut off at text.max_tokens=4" in record.message]
    assert lines == [
        "4 of 4 captions so far were cut off at text.max_tokens=4; raise text.max_tokens to keep their endings, which "
        "the model learns from",
        "8 of 8 captions so far were cut off at text.max_tokens=4",
    ]


def test_cut_captions_are_counted_on_when_a_run_is_resumed_and_stand_in_its_log(
    toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def config(steps: int) -> RunConfig:
        return config_of(toy, tmp_path / "run", "caption", TextConfig(max_tokens=4), training={"max_steps": steps})

    train_toy(config(2))
    train(config(4), resume=True, console=Console(quiet=True))
    told = [message for message in caplog.messages if "were cut off" in message]
    assert told[-1].startswith("16 of 16 captions so far were cut off")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["cut_captions"] for line in lines if "loss" in line] == [4, 8, 12, 16]


def test_a_run_says_what_its_texts_are(toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "evlvideo"):
        start_model(config_of(toy, tmp_path, "caption", TEXTS["question"]), tower_dtype=torch.float32)
    assert 'Texts: "Look: {video}What happens? Answer: {caption}\\n"' in caplog.text
