"""Checkpoints with files that are missing or broken, and weights that are no numbers, are told in a sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_run import Toy

from evlvideo.assembly.models import open_model, read_processor, start_model
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.inspection.inspect_checkpoint import inspect_checkpoint


@pytest.fixture
def checkpoint(toy_files: Toy, tmp_path: Path) -> Path:
    """A copy of the toy's."""
    return shutil.copytree(toy_files.checkpoint, tmp_path / "checkpoint")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def empty(path: Path) -> None:
    path.write_text("{}")


def a_list(path: Path) -> None:
    path.write_text("[]")


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("damage", [Path.unlink, cut, empty, a_list, binary])
@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_processor_without_one_of_its_files_is_told(
    checkpoint: Path, name: str, damage: Callable[[Path], None]
) -> None:
    """The library would take other sizes and texts for granted, and caption with them."""
    damage(checkpoint / name)
    with pytest.raises(UserError, match=rf"{name}|The tokenizer or processor in .* cannot be read"):
        read_processor(checkpoint)


@pytest.mark.parametrize("change", [{"image_size": "32"}, {"max_text_tokens": None}, {"prompt": 3}])
def test_a_value_of_another_type_is_told(checkpoint: Path, change: dict[str, Any]) -> None:
    path = checkpoint / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    (name,) = change
    with pytest.raises(UserError, match=rf"processor_config\.json has {name}="):
        read_processor(checkpoint)


@pytest.mark.parametrize("damage", [Path.unlink, cut, empty, a_list, binary])
@pytest.mark.parametrize("name", ["config.json", "towers.json", "model.safetensors"])
def test_a_model_without_one_of_its_files_is_told(checkpoint: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(checkpoint / name)
    with pytest.raises(UserError, match=name):
        open_model(checkpoint, RunConfig())


@pytest.mark.parametrize(
    "change, told",
    [
        ({"model_type": "opt"}, "is not of one of our captioners: its model_type is 'opt'"),
        ({"merge_r": "x"}, "has a value of the wrong kind: .*merge_r"),
        ({"bert_config": 3}, "has a value of the wrong kind: .*bert_config"),
        ({"text_config": None}, "has no text_config"),
    ],
)
def test_a_configuration_that_makes_no_model_is_told(checkpoint: Path, change: dict[str, Any], told: str) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=rf"config\.json {told}"):
        open_model(checkpoint, RunConfig())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_no_numbers_are_named_and_still_inspected(
    toy: Toy, checkpoint: Path, value: float, dtype: torch.dtype
) -> None:
    weights = {name: weight.to(dtype) for name, weight in load_file(checkpoint / "model.safetensors").items()}
    weights["language_projection.bias"][3] = value
    save_file(weights, checkpoint / "model.safetensors")
    told = (
        r"1 weights of the checkpoint .* hold NaN or infinity \(language_projection\.bias\), as of a run that diverged"
    )
    with pytest.raises(UserError, match=told):
        open_model(checkpoint, RunConfig())
    with pytest.raises(UserError, match=told):
        start_model(toy.config(checkpoint / "run", init=checkpoint), tower_dtype=torch.float32)
    found = inspect_checkpoint(str(checkpoint), clips=1)
    assert sum(part.not_finite for part in found.weights.parts) == 1
