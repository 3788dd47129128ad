"""Runs with other connectors than the TomeFormer: they train, resume as if nothing was, and start further runs."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from toy_run import Toy

from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.training.run import train

VIDEOCHAT = {"connector": "videochat", "connector_options": {"relation_blocks": 2, "relation_heads": 4}}


def run(toy: Toy, directory: Path, model: dict[str, Any], *, resume: bool = False, **sections: Any) -> Path:
    config = toy.config(directory, model=model, **{"training": {"max_steps": 4}, **sections})
    return train(config, resume=resume, console=Console(quiet=True))


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


@pytest.fixture(scope="module")
def finished(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(toy, tmp_path_factory.mktemp("videochat") / "run", VIDEOCHAT)


def test_a_resumed_run_equals_one_that_was_not_interrupted(toy: Toy, tmp_path: Path, finished: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(finished, again)
    shutil.rmtree(again / "checkpoints" / "checkpoint-4")
    (again / "training.json").unlink()
    run(toy, again, VIDEOCHAT, resume=True)
    last, expected = (weights(run / "checkpoints" / "checkpoint-4") for run in (again, finished))
    assert last.keys() == expected.keys()
    assert all(torch.equal(last[name], expected[name]) for name in last)


def test_relations_are_trained_and_the_frozen_qformer_is_kept(finished: Path) -> None:
    first, last = (weights(finished / "checkpoints" / f"checkpoint-{step}") for step in (2, 4))
    changed = {name for name in first if not torch.equal(first[name], last[name])}
    assert any("video_relations" in name for name in changed)
    assert "connector.extra_queries" in changed
    assert not {name for name in changed if name.startswith(("connector.qformer", "connector.queries"))}


def test_a_finished_run_starts_a_self_critical_one(toy: Toy, tmp_path: Path, finished: Path) -> None:
    second = run(toy, tmp_path / "scst", {}, init=finished, run={"stage": "scst"}, training={"max_steps": 1})
    model = EvlVideoForCaptioning.from_pretrained(second)
    assert (model.config.connector, model.config.options.relation_blocks) == ("videochat", 2)
    start = weights(finished)
    assert torch.equal(model.connector.qformer.layernorm.weight, start["connector.qformer.layernorm.weight"])
