"""Files of weights: read without running code, and fitting the tower they are for."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tiny_models import (
    VISION,
    VISION_SIZES,
    MakeConfig,
    MakeModel,
    Towers,
    fill,
    pixels,
)

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.weights import read_weights


class _Payload:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


def test_pickled_code_is_refused_and_not_run(make_config: MakeConfig, tmp_path: Path) -> None:
    torch.save({"cls_token": _Payload(str(tmp_path / "ran"))}, tmp_path / "tower.pth")
    with pytest.raises(UserError, match=r"tower\.pth could not be read"):
        EvlVideoForCaptioning.from_towers(make_config(vision_weights=str(tmp_path / "tower.pth")))
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "tower.pth").write_bytes(pickle.dumps(_Payload(str(tmp_path / "ran"))))
    with pytest.raises(UserError, match=r"tower\.pth could not be read"):
        read_weights(tmp_path / "tower.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["tower.pth", "tower.safetensors"])
def test_broken_file_of_weights_is_a_user_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(UserError, match="could not be read"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2)], ids=["list", "tensor"])
def test_file_that_holds_no_names_is_a_user_error(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "tower.pth")
    with pytest.raises(UserError, match="must hold weights by name"):
        read_weights(tmp_path / "tower.pth")


def test_weights_wrapped_in_a_training_state_are_a_user_error(
    make_config: MakeConfig, towers: Towers, tmp_path: Path
) -> None:
    torch.save({"model": load_file(towers.vision), "epoch": 3}, tmp_path / "tower.pth")
    with pytest.raises(UserError, match="2 weights have no place in the model: epoch, model"):
        EvlVideoForCaptioning.from_towers(make_config(vision_weights=str(tmp_path / "tower.pth")))


def test_vision_weights_in_a_torch_file_are_those_of_safetensors(
    make_config: MakeConfig, make_model: MakeModel, towers: Towers, tmp_path: Path
) -> None:
    torch.save(load_file(towers.vision), tmp_path / "tower.pth")
    model = EvlVideoForCaptioning.from_towers(make_config(vision_weights=str(tmp_path / "tower.pth")))
    assert torch.equal(model.vision_tower(pixels(1, 1)), make_model().vision_tower(pixels(1, 1)))


def test_vision_weights_that_do_not_fit_are_a_user_error(
    make_config: MakeConfig, towers: Towers, tmp_path: Path
) -> None:
    weights = load_file(towers.vision)
    weights["head.weight"] = weights.pop("cls_token")
    save_file(weights, tmp_path / "tower.safetensors")
    with pytest.raises(UserError, match=r"missing: cls_token; .* no place in the model: head\.weight"):
        EvlVideoForCaptioning.from_towers(make_config(vision_weights=str(tmp_path / "tower.safetensors")))


def test_vision_weights_of_other_shapes_are_a_user_error(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=r"pos_embed is \(1, 17, 48\), the model's \(1, 5, 48\)"):
        EvlVideoForCaptioning.from_towers(make_config(vision_overrides={**VISION_SIZES, "img_size": 16}))


# Pixels


def test_a_checkpoint_says_how_pixels_are_normalised(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model()
    assert model.config.image_mean == list(model.vision_tower.vit.pretrained_cfg["mean"])
    model.config.image_mean = model.config.image_std = [0.1, 0.2, 0.3]
    model.save_pretrained(tmp_path)
    opened = EvlVideoForCaptioning.from_pretrained(tmp_path)
    assert opened.vision_tower.image_mean == opened.vision_tower.image_std == (0.1, 0.2, 0.3)


def test_a_checkpoint_that_does_not_say_how_pixels_are_normalised_is_refused(
    make_model: MakeModel, tmp_path: Path
) -> None:
    make_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["image_mean"], config["image_std"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"does not say how pixels.*copy both from there to config\.json"):
        EvlVideoForCaptioning.from_pretrained(tmp_path)


# Weights by timm, from a file in the place of a download


def timm_overrides(tmp_path: Path, depth: int, stored_classes: int) -> dict[str, object]:
    """A tower of `depth` blocks whose pretrained weights are a file with all 12 of the architecture."""
    sizes = {**VISION_SIZES, "depth": 12}
    save_file(fill(timm.create_model(VISION, num_classes=0, **sizes)).state_dict(), tmp_path / "all.safetensors")
    source = {"file": str(tmp_path / "all.safetensors"), "num_classes": stored_classes}
    return {**VISION_SIZES, "depth": depth, "pretrained_cfg_overlay": source}


@pytest.mark.parametrize("stored_classes", [0, 1000])  # by which timm loads strictly, or not
def test_tower_with_fewer_blocks_takes_the_first_of_timms(
    make_config: MakeConfig, tmp_path: Path, stored_classes: int
) -> None:
    overrides = timm_overrides(tmp_path, 3, stored_classes)
    model = EvlVideoForCaptioning.from_towers(make_config(vision_weights="timm", vision_overrides=overrides))
    stored = load_file(tmp_path / "all.safetensors")
    weights = model.vision_tower.vit.state_dict()
    assert len(model.vision_tower.vit.blocks) == 3
    assert all(torch.equal(weight, stored[name]) for name, weight in weights.items())


@pytest.mark.parametrize("stored_classes", [0, 1000])
def test_tower_with_more_blocks_than_timms_weights_is_a_user_error(
    make_config: MakeConfig, tmp_path: Path, stored_classes: int
) -> None:
    overrides = timm_overrides(tmp_path, 13, stored_classes)
    with pytest.raises(UserError, match=r"weights are missing: blocks\.12\."):
        EvlVideoForCaptioning.from_towers(make_config(vision_weights="timm", vision_overrides=overrides))


def test_tower_that_timm_has_no_weights_for_is_a_user_error(make_config: MakeConfig) -> None:
    config = make_config(vision_weights="timm", vision_tower="vit_base_patch16_18x2_224")
    with pytest.raises(UserError, match="no weights for the vision tower 'vit_base_patch16_18x2_224'"):
        EvlVideoForCaptioning.from_towers(config)


def test_who_reads_the_configuration_reads_the_weights(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    modes = {(tmp_path / name).stat().st_mode for name in ("config.json", "model.safetensors", "towers.json")}
    assert len(modes) == 1
