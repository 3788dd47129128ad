"""Runs that train on questions: texts as in answering, losses on answers, and mixtures with captions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy_run import Toy, train_toy

from evlvideo.assembly.clips import read_training_clips
from evlvideo.assembly.models import open_model, start_model
from evlvideo.config.data import SourceConfig
from evlvideo.config.generation import AnsweringConfig
from evlvideo.config.run import RunConfig
from evlvideo.config.text import TextConfig
from evlvideo.config.training import ContrastiveConfig, LearningRatesConfig
from evlvideo.errors import UserError
from evlvideo.estimate.run_costs import workload_of
from evlvideo.evaluation.answer_questions import QuestionSet, answer_questions
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.inference.answering import answer_texts, asked
from evlvideo.models.processing import IGNORED, EvlVideoProcessor
from evlvideo.models.tokens.prompt_statistics import TokenMoments
from evlvideo.models.trainable import without_lora
from evlvideo.training import validation
from evlvideo.training.run import train
from evlvideo.training.validation import right_share

CHAT = "<s>User: {video}{prompt}\nModel: {caption}</s>"
TEXTS = {
    "plain": TextConfig(),
    "without BOS token": TextConfig(bos=""),
    "with a prompt for captions": TextConfig(prompt="a clip of"),
    "chat": TextConfig(template=CHAT),
}
ASKED = ["Is it RED?!", "Which way does the ball in the middle of the picture roll?"]
GIVEN = ["no", "to the left"]


@pytest.fixture
def questions(toy: Toy, tmp_path: Path) -> Path:
    """Two questions about each clip of the toy, one without an answer and one with several."""
    lines = []
    for split in ("train", "validate"):
        for number, clip in enumerate(toy.clips(split)):
            about = {"video": str(clip.video.relative_to(toy.data)), "split": split}
            lines.append({**about, "question": "Is it RED?!", "answers": ["no", "no", "yes"]})
            lines.append({**about, "question": "What moves?", "answers": f"ball {number}"})
    lines.append({**about, "question": "Why?", "split": "train"})
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions/questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "questions"


def source(toy: Toy, questions: Path, **more: Any) -> SourceConfig:
    return SourceConfig(kind="questions", dataset="jsonl_qa", root=str(questions), video_root=str(toy.data), **more)


def config_of(toy: Toy, directory: Path, sources: Sequence[SourceConfig], **sections: Any) -> RunConfig:
    return toy.config(directory, data={"sources": list(sources)}, **sections)


def processor_of(toy: Toy, text: TextConfig) -> EvlVideoProcessor:
    return start_model(toy.config(Path("unused"), run={"text": text}), tower_dtype=torch.float32)[1]


@pytest.mark.parametrize("limit", [None, 12])
@pytest.mark.parametrize("text", TEXTS)
def test_training_sees_the_tokens_that_answering_asks_with(toy: Toy, text: str, limit: int | None) -> None:
    processor, answering = processor_of(toy, TEXTS[text]), AnsweringConfig(max_prompt_tokens=limit)
    prompts = [asked(question, answering) for question in ASKED]
    if processor.layout is not None and limit is not None:
        with pytest.raises(UserError, match=r"answering\.max_prompt_tokens is 12, which would cut"):
            answer_texts(processor, answering, GIVEN, ASKED)
        return
    given = processor.questions(prompts, max_tokens=limit)
    batch = answer_texts(processor, answering, GIVEN, ASKED)
    bos = [] if processor.bos_token_id is None else [processor.bos_token_id]
    for row, answer in enumerate(GIVEN):
        before = [*bos, *given["prompt_ids"][row][given["prompt_mask"][row] == 1].tolist()]
        tokens = batch["input_ids"][row][batch["attention_mask"][row] == 1].tolist()
        targets = batch["labels"][row]
        assert tokens[: len(before)] == before
        assert (targets[: len(before)] == IGNORED).all(), "the loss is on the answer alone"
        assert targets[targets != IGNORED].tolist() == tokens[len(before) :]
        assert tokens[-1] == processor.end_token_id
        assert processor.captions(torch.tensor([tokens[len(before) :]])) == [answer]


@pytest.mark.parametrize("text", TEXTS)
def test_captions_beside_answers_are_as_they_are_alone(toy: Toy, text: str) -> None:
    processor, answering = processor_of(toy, TEXTS[text]), AnsweringConfig()
    mixed = answer_texts(processor, answering, ["a dog runs", "no"], [None, ASKED[0]])
    alone = processor.text(["a dog runs"])
    length = alone["input_ids"].shape[1]
    for name, value in alone.items():
        assert torch.equal(mixed[name][:1, :length], value)
    assert not mixed["attention_mask"][0, length:].any()


def test_a_long_question_takes_no_room_from_its_answer(toy: Toy) -> None:
    processor, answering = processor_of(toy, TextConfig(max_tokens=8)), AnsweringConfig()
    batch = answer_texts(processor, answering, ["no", "no " * 20], [ASKED[1]] * 2)
    targets = (batch["labels"] != IGNORED).sum(dim=1)
    assert targets[0] == processor.text(["no"])["attention_mask"].sum() - 1  # as a caption without its BOS token
    assert targets[1] == 7


def test_the_loss_is_that_of_the_answers_tokens(toy: Toy) -> None:
    """The sum of the log-probabilities of an answer behind its question, each from a pass of its own."""
    config = toy.config(Path("unused"))
    model, processor = open_model(toy.checkpoint, config)
    batch = answer_texts(processor, AnsweringConfig(), GIVEN, ASKED)
    frames = torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    prompt = model.encode(frames)
    total, count = 0.0, 0
    for row in range(2):
        ids = batch["input_ids"][row][batch["attention_mask"][row] == 1]
        for place in (batch["labels"][row] != IGNORED).nonzero().flatten().tolist():
            before = ids[None, :place]
            logits = model(soft_prompt=prompt[row : row + 1], input_ids=before, attention_mask=torch.ones_like(before))
            total -= logits.logits[0, -1].log_softmax(-1)[ids[place]].item()
            count += 1
    torch.testing.assert_close(model(soft_prompt=prompt, **batch).loss.item(), total / count, rtol=1e-4, atol=1e-5)


def test_items_are_answers_and_questions_without_one_are_left_out(toy: Toy, questions: Path, tmp_path: Path) -> None:
    config = config_of(toy, tmp_path / "run", [source(toy, questions), source(toy, questions, clips=3)])
    every, few = read_training_clips(config.data).values()
    assert len(every) == 16
    assert [clip.captions for clip in every[:2]] == [("no", "no", "yes"), ("ball 0",)]
    assert [clip.question for clip in every[:2]] == ["Is it RED?!", "What moves?"]
    assert len(few) == 3
    assert {clip.clip_id for clip in few} < {clip.clip_id for clip in every}


@pytest.mark.parametrize("mask", ["causal", "full_with_question"])
def test_a_run_on_questions_and_captions_trains_and_answers(
    toy: Toy, questions: Path, tmp_path: Path, mask: str
) -> None:
    captions = SourceConfig(dataset="mini", root=str(toy.data))
    config = config_of(toy, tmp_path / "run", [source(toy, questions, ratio=2), captions], model={"visual_mask": mask})
    run = train_toy(config)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 6
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("sources", "run", "message"),
    [
        ([SourceConfig(dataset="pathvqa")], {}, r"sources\[0\]\.dataset is 'pathvqa', a dataset of questions; set"),
        ([SourceConfig(kind="questions", dataset="coco")], {}, r"sources\[0\]\.kind is questions, but .* is 'coco'"),
        ([SourceConfig(kind="questions", dataset="gqa")], {"stage": "scst"}, r"stage is scst, but questions are"),
        (
            [SourceConfig(kind="questions", dataset="gqa")],
            {"contrastive": ContrastiveConfig(beta=0.1)},
            r"contrastive\.beta is 0\.1, but an answer does not describe its image",
        ),
    ],
)
def test_questions_where_they_do_not_belong_are_refused(
    toy: Toy, tmp_path: Path, sources: list[SourceConfig], run: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        config_of(toy, tmp_path, sources, run=run)


def test_a_split_without_answers_is_refused(toy: Toy, questions: Path, tmp_path: Path) -> None:
    lines = (questions / "questions.jsonl").read_text().splitlines()
    bare = [{name: value for name, value in json.loads(line).items() if name != "answers"} for line in lines]
    (questions / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in bare))
    with pytest.raises(UserError, match="jsonl_qa:train has questions without answers"):
        read_training_clips(config_of(toy, tmp_path / "run", [source(toy, questions)]).data)


def test_a_run_records_what_each_source_holds_and_which_model_made_it(
    toy: Toy, questions: Path, tmp_path: Path
) -> None:
    made = {"model": "captioner", "weights": "0123", "scores": [-1.0]}
    about = {"split": "train", "captions": ["a ball rolls"]}
    lines = [
        {"video": str(clip.video.relative_to(toy.data)), **about, **({"generated": made} if number else {})}
        for number, clip in enumerate(toy.clips("train"))
    ]
    (tmp_path / "made").mkdir()
    (tmp_path / "made/captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sources = [
        SourceConfig(dataset="jsonl", root=str(tmp_path / "made"), video_root=str(toy.data)),
        source(toy, questions),
    ]
    run = train_toy(config_of(toy, tmp_path / "run", sources, training={"max_steps": 1}))
    assert json.loads((run / "training.json").read_text())["sources"] == {
        "sources[0], jsonl:train": {"clips": 8, "captions": 8, "generated": {"captioner (0123)": 7}},
        "sources[1], questions of jsonl_qa:train": {"clips": 16, "captions": 32, "generated": {}},
    }


def asking(toy: Toy, questions: Path, directory: Path, **sections: Any) -> RunConfig:
    data = {"kind": "questions", "dataset": "jsonl_qa", "root": str(questions), "video_root": str(toy.data)}
    return toy.config(directory, data={**data, **sections.pop("data", {})}, **sections)


def test_a_run_on_questions_alone_validates_by_its_answers(toy: Toy, questions: Path, tmp_path: Path) -> None:
    config = asking(toy, questions, tmp_path / "run", run={"answering": AnsweringConfig(num_beams=1)})
    run = train_toy(config)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    validations = [line for line in lines if "validation_accuracy" in line]
    assert [line["step"] for line in validations] == [2, 4, 6]
    assert all(line["validation_loss"] > 0 and "validation_cider" not in line for line in validations)
    summary = json.loads((run / "training.json").read_text())
    assert summary["best_accuracy"] == max(line["validation_accuracy"] for line in validations)
    assert list(summary["sources"]) == ["jsonl_qa:train"]
    asked_of = QuestionSet("jsonl_qa", questions, "validate", toy.data)
    best = next(line for line in validations if line["step"] == summary["best_step"])
    _, result = answer_questions(str(run), asked_of)
    assert result is not None
    assert result.scores["exact_match"].value == pytest.approx(best["validation_accuracy"])
    with pytest.raises(UserError, match="was validated on questions, which `evlvideo evaluate-answers"):
        evaluate(run, split="validate")


def test_questions_about_one_picture_count_once_in_the_spread(
    toy: Toy, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, of_prompts = [], validation.token_moments

    def token_moments(soft_prompts: torch.Tensor) -> TokenMoments:
        measured.append(len(soft_prompts))
        return of_prompts(soft_prompts)

    monkeypatch.setattr(validation, "token_moments", token_moments)
    run = train_toy(asking(toy, questions, tmp_path / "run", training={"max_steps": 2, "eval_steps": 2}))
    pictures = len(list(toy.clips("validate")))
    # One by one before the first step, then at the validation.
    assert measured[:pictures] == [1] * pictures
    assert sum(measured[pictures:]) == pictures
    line = next(json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if "accuracy" in line)
    assert line["validation_clips"] == 2 * pictures


def test_questions_about_one_picture_alone_have_no_spread(toy: Toy, questions: Path, tmp_path: Path) -> None:
    data, training = {"validation_clips": 2}, {"max_steps": 2, "eval_steps": 2}
    log = (train_toy(asking(toy, questions, tmp_path / "run", data=data, training=training)) / "log.jsonl").read_text()
    assert "validation_accuracy" in log
    assert "validation_prompt_between" not in log


@pytest.mark.parametrize("lora", [False, True])
def test_a_checkpoint_is_adapted_with_its_whole_language_model_or_a_lora(
    toy: Toy, questions: Path, tmp_path: Path, lora: bool
) -> None:
    """From a stage that has trained the language model, as a recipe's does."""
    whole = {"learning_rates": LearningRatesConfig(language_model=1e-3)}
    steps = {"max_steps": 1, "warmup_steps": 0}
    stage = train_toy(toy.config(tmp_path / "stage", training={**steps, **whole}))
    sections: dict[str, Any] = {"model": {"lora_r": 2, "lora_alpha": 4}} if lora else {}
    training = steps if lora else {**steps, **whole}
    run = train_toy(asking(toy, questions, tmp_path / "run", init=stage, training=training, **sections))
    before, after = (load_file(directory / "model.safetensors") for directory in (stage, run))
    words = [name for name in before if name.startswith("language_model.")]
    assert words
    found = {without_lora(name): weight for name, weight in after.items()}
    moved = [name for name in words if not torch.equal(before[name], found[name])]
    assert bool(moved) != lora
    assert any(".lora_B." in name for name in after) == lora


def test_an_estimate_counts_the_questions(toy: Toy, questions: Path, tmp_path: Path) -> None:
    alone = workload_of(toy.config(tmp_path)).text_tokens
    assert workload_of(asking(toy, questions, tmp_path)).text_tokens == alone + 32
    cut = asking(toy, questions, tmp_path, run={"answering": AnsweringConfig(max_prompt_tokens=20)})
    assert workload_of(cut).text_tokens == alone + 20


def test_right_answers_are_told_from_wrong_ones() -> None:
    references = {"1": ["a red ball", "ball"], "2": ["yes"], "3": ["no"]}
    assert right_share({"1": "Red ball.", "2": "no", "3": "No"}, references) == 2 / 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"dataset": "msrvtt"}, r"data\.kind is questions, but data\.dataset is 'msrvtt'"),
        ({"kind": "captions"}, r"data\.dataset is 'jsonl_qa', a dataset of questions; set data\.kind=questions"),
        (
            {"features": "features", "train_sampling": "uniform", "augment": False},
            r"data\.features cannot be used with data\.kind=questions",
        ),
    ],
)
def test_a_dataset_of_another_kind_is_refused(
    toy: Toy, questions: Path, tmp_path: Path, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        asking(toy, questions, tmp_path, data=data)


def test_a_resumed_run_asks_what_it_asked(toy: Toy, questions: Path, tmp_path: Path) -> None:
    run = train_toy(asking(toy, questions, tmp_path / "run", training={"max_steps": 2}))
    changed = asking(toy, questions, run, run={"answering": AnsweringConfig(prompt="Q: {} A:")})
    with pytest.raises(UserError, match=r"cannot resume with answering\.prompt"):
        train(changed, resume=True)
