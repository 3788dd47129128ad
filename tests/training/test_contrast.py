"""Training with the contrastive term: its weights learn, are kept to resume from, and are no part of the model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_run import quietly
from safetensors.torch import load_file
from toy_run import Toy
from transformers import BertConfig, BertModel

from evlvideo.config.run import RunConfig
from evlvideo.config.training import ContrastiveConfig
from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.contrast.sentences import SentenceEncoder

STEPS = 4


@pytest.fixture(scope="module")
def encoder(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with the toy's tokenizer."""
    directory = tmp_path_factory.mktemp("encoder")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(BertConfig(**sizes, vocab_size=500)).save_pretrained(directory)
    language = json.loads((toy.checkpoint / "config.json").read_text())["language_model"]
    for file in Path(language).glob("*token*"):
        shutil.copy(file, directory)
    return directory


def config_of(toy: Toy, run: Path, encoder: Path, beta: float = 0.1, log_steps: int = 1, **sections: Any) -> RunConfig:
    term = ContrastiveConfig(beta=beta, text_encoder=str(encoder), width=8)
    training = {"max_steps": STEPS, "log_steps": log_steps}
    return toy.config(run, training=training, run={"contrastive": term, **sections})


def logged(run: Path, name: str) -> list[float]:
    """What the lines of training steps tell."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if "loss" in line]


def resumed_from_step_2(trained: Path, run: Path, **config: Any) -> Path:
    shutil.copytree(trained, run)
    shutil.rmtree(run / "checkpoints" / "checkpoint-4")
    (run / "training.json").unlink()
    return quietly(config_of(run=run, **config), resume=True)


@pytest.fixture(scope="module")
def trained(toy: Toy, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quietly(config_of(toy, tmp_path_factory.mktemp("contrast") / "run", encoder))


def term_of(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"checkpoint-{step}" / "contrastive.safetensors")


def test_the_log_tells_the_term_without_its_weight(trained: Path) -> None:
    found = logged(trained, "contrastive_loss")
    assert len(found) == STEPS
    assert all(0 < value < 30 for value in found)


def test_the_term_learns(trained: Path) -> None:
    before, after = term_of(trained, 2), term_of(trained, 4)
    assert before.keys() == {"temp", "vision_proj.weight", "vision_proj.bias", "text_proj.weight", "text_proj.bias"}
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_the_model_is_saved_without_the_term(trained: Path) -> None:
    for directory in (trained, trained / "checkpoints" / "checkpoint-4"):
        assert not [name for name in load_file(directory / "model.safetensors") if "contrast" in name]
    assert EvlVideoForCaptioning.from_pretrained(trained).contrastive is None


def test_the_term_changes_what_is_learned(toy: Toy, encoder: Path, trained: Path, tmp_path: Path) -> None:
    without = quietly(config_of(toy, tmp_path / "without", encoder, beta=0.0))
    weights = [load_file(run / "checkpoints" / "checkpoint-4" / "model.safetensors") for run in (trained, without)]
    assert not torch.equal(*(found["connector.projection.weight"] for found in weights))
    assert not (without / "checkpoints" / "checkpoint-4" / "contrastive.safetensors").exists()


def test_a_resumed_run_is_that_without_interruption(toy: Toy, encoder: Path, trained: Path, tmp_path: Path) -> None:
    run = resumed_from_step_2(trained, tmp_path / "run", toy=toy, encoder=encoder)
    assert all(torch.equal(value, term_of(trained, 4)[name]) for name, value in term_of(run, 4).items())
    ours, theirs = (load_file(path / "checkpoints" / "checkpoint-4" / "model.safetensors") for path in (run, trained))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_resumed_run_logs_the_mean_over_the_steps_before_it_stopped_too(
    toy: Toy, encoder: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"toy": toy, "encoder": encoder, "log_steps": 3}
    whole = quietly(config_of(run=tmp_path / "whole", **settings))
    run = resumed_from_step_2(whole, tmp_path / "run", **settings)
    for name in ("contrastive_loss", "contrastive_temperature"):
        assert logged(run, name) == logged(whole, name) != []


def test_captions_are_encoded_one_by_one_whatever_their_padding(encoder: Path) -> None:
    sentences = SentenceEncoder(str(encoder))
    captions = ["a ball", "a red ball rolls to\nthe left"]
    together = sentences.encode(**sentences.tokenize(captions))
    alone = [sentences.encode(**sentences.tokenize([caption])) for caption in captions]
    torch.testing.assert_close(together, torch.cat(alone))
    assert not together.requires_grad


def test_the_self_critical_stage_has_no_term(toy: Toy, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"contrastive\.beta is 0\.1, but the scst stage has no contrastive term"):
        config_of(toy, tmp_path, encoder, stage="scst")


def test_a_connector_without_a_class_token_is_refused(toy: Toy, encoder: Path, tmp_path: Path) -> None:
    config = config_of(toy, tmp_path / "run", encoder)
    config.model.connector = "linear"
    with pytest.raises(UserError, match=r"contrastive\.beta is 0\.1, but connector=linear .* has no class token"):
        quietly(config)
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_is_not_there_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"contrastive\.text_encoder is '.*none', which cannot be opened"):
        quietly(config_of(toy, tmp_path / "run", tmp_path / "none"))
    assert not (tmp_path / "run").exists()
