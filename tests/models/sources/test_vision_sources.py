"""Towers from folders as timm saves them, and what sources say of the tower that their weights were trained in."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import save_for_hf
from tiny_models import Towers, fill, pixels, tiny_config

from evlvideo.errors import UserError
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.sources.facts import check_vision_source, take_pixels_of_source
from evlvideo.models.sources.loading import load_vision_weights
from evlvideo.models.vision import VisionTower

QUICK, PLAIN = "vit_base_patch16_clip_quickgelu_224", "vit_base_patch16_clip_224"
SIZES = {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 4}
MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]


def folder_of(directory: Path, name: str, model_args: dict[str, Any] = SIZES, **pretrained: Any) -> str:
    """A folder that timm wrote, as the source of a tower's weights."""
    model = fill(timm.create_model(name, **{"num_classes": 5, **SIZES}))
    config = {
        **model.pretrained_cfg,
        "num_classes": 5,
        "mean": MEAN,
        "std": STD,
        "tag": None,
        "notes": None,
        **pretrained,
    }
    save_for_hf(model, directory, model_config={"pretrained_cfg": config}, model_args={"num_classes": 5, **model_args})
    return f"local-dir:{directory}"


def config_of(source: str, name: str, **changes: Any) -> EvlVideoConfig:
    return EvlVideoConfig(
        vision_tower=name,
        vision_weights=source,
        **{"vision_overrides": SIZES, "vision_final_norm": True, **changes},
    )


def check(source: str, name: str, **changes: Any) -> None:
    check_vision_source(config_of(source, name, **changes), source)


@pytest.mark.parametrize("with_prefix", [True, False])
def test_a_folder_gives_what_timm_gives_from_it(tmp_path: Path, with_prefix: bool) -> None:
    source = folder_of(tmp_path, QUICK)
    truth = timm.create_model(source, pretrained=True, num_classes=0).eval()
    if not with_prefix:
        source = str(tmp_path)
    config = config_of(source, QUICK)
    check_vision_source(config, source)
    tower = VisionTower.from_config(config)
    load_vision_weights(tower.vit, config, source)
    images = pixels(1, 2)
    with torch.no_grad():
        assert torch.equal(tower(images)[0], truth.forward_features(images[0]))


def test_a_folder_may_be_deeper_than_the_tower_and_have_a_norm_that_it_lacks(tmp_path: Path) -> None:
    source = folder_of(tmp_path, QUICK)
    config = config_of(source, QUICK, vision_overrides={**SIZES, "depth": 1}, vision_final_norm=False)
    check_vision_source(config, source)
    tower = VisionTower.from_config(config)
    load_vision_weights(tower.vit, config, source)
    expected = timm.create_model(source, pretrained=True).state_dict()
    assert torch.equal(tower.vit.blocks[0].mlp.fc1.weight, expected["blocks.0.mlp.fc1.weight"])


def test_a_folder_with_too_few_weights_is_refused(tmp_path: Path) -> None:
    source = folder_of(tmp_path, QUICK)
    model = timm.create_model(QUICK, **{"num_classes": 5, **SIZES, "depth": 1})
    from safetensors.torch import save_file

    save_file(model.state_dict(), tmp_path / "model.safetensors")
    config = config_of(source, QUICK)
    with pytest.raises(UserError, match=r"(?s)timm cannot load the vision tower of the folder .*blocks.1"):
        load_vision_weights(VisionTower.from_config(config).vit, config, source)


def test_a_captioner_takes_weights_and_pixels_from_a_folder(tmp_path: Path, towers: Towers) -> None:
    from evlvideo.models.captioner import EvlVideoForCaptioning

    source = folder_of(tmp_path / "clip", QUICK)
    config = tiny_config(
        towers, vision_tower=QUICK, vision_weights=source, vision_overrides=SIZES, image_mean=None, image_std=None
    )
    model = EvlVideoForCaptioning.from_towers(config)
    assert model.vision_tower.image_mean == tuple(MEAN)
    assert (model.config.image_mean, model.config.image_std) == (MEAN, STD)


def test_the_architecture_of_a_folder_is_checked(tmp_path: Path) -> None:
    source = folder_of(tmp_path, QUICK)
    with pytest.raises(UserError, match=rf"config.json says that the weights are of {QUICK}; set vision_tower"):
        check(source, "vit_base_patch32_clip_224")


@pytest.mark.parametrize(
    ("stored", "asked", "trained", "computed"),
    [(QUICK, PLAIN, "quick-GELU", "GELU"), (PLAIN, QUICK, "GELU", "quick-GELU")],
)
def test_the_activation_of_a_folder_is_checked(
    tmp_path: Path, stored: str, asked: str, trained: str, computed: str
) -> None:
    source = folder_of(tmp_path, stored)
    message = rf"trained with {trained}, and this architecture computes {computed}, .*set vision_tower to {stored},"
    with pytest.raises(UserError, match=message):
        check(source, asked)
    check(source, stored)


@pytest.mark.parametrize("said", [{"notes": ["natively QuickGELU, use quickgelu model variant"]}, {"tag": "openai"}])
def test_a_plain_architecture_with_a_note_was_trained_with_the_other_activation(
    tmp_path: Path, said: dict[str, Any]
) -> None:
    source = folder_of(tmp_path, PLAIN, **said)
    with pytest.raises(UserError, match=f"set vision_tower to {QUICK}"):
        check(source, PLAIN)
    check(source, QUICK)


def test_open_clip_config_beside_the_weights_tells_the_activation_and_pixels(tmp_path: Path) -> None:
    source = folder_of(tmp_path, PLAIN)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": True}}))
    with pytest.raises(UserError, match=r"open_clip_config.json says that the weights were trained with quick-GELU"):
        check(source, PLAIN)
    check(str(tmp_path / "model.safetensors"), QUICK)


def test_an_activation_that_is_stated_is_meant(tmp_path: Path) -> None:
    check(folder_of(tmp_path, QUICK), PLAIN, vision_overrides={**SIZES, "act_layer": "gelu"})


def test_arguments_of_a_folder_that_shapes_do_not_tell_are_checked(tmp_path: Path) -> None:
    source = folder_of(tmp_path, QUICK)
    message = r"blocks.0.attn is .*, 4 heads in the saved model and .*, 12 heads here; .*config.json .*'num_heads': 4"
    with pytest.raises(UserError, match=message):
        check(source, QUICK, vision_overrides={name: value for name, value in SIZES.items() if name != "num_heads"})


@pytest.mark.parametrize("tag", ["openai", "metaclip_400m"])
def test_the_registry_of_timm_tells_the_activation(tag: str) -> None:
    with pytest.raises(UserError, match=f"timm says .*set vision_tower to {QUICK}.{tag},"):
        check("timm", f"{PLAIN}.{tag}")
    check("timm", f"{QUICK}.{tag}")


@pytest.mark.parametrize(
    "name", [f"{PLAIN}.laion2b", PLAIN, "vit_base_patch16_siglip_224", "eva_giant_patch14_clip_224"]
)
def test_towers_without_a_note_are_as_they_are(name: str) -> None:
    check("timm", name, vision_overrides={**SIZES, "img_size": 28} if "patch14" in name else SIZES)


def test_a_folder_without_timms_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config\.json; name a folder as timm saves models"):
        check(f"local-dir:{tmp_path}", QUICK)


@pytest.mark.parametrize("name", ["xcit_nano_12_p16_224", "tnt_s_patch16_224", "naflexvit_base_patch16_gap"])
def test_towers_of_other_families_are_refused_before_anything_is_loaded(name: str) -> None:
    with pytest.raises(UserError, match="is not a ViT of a family that can be run block by block"):
        check("timm", name, vision_overrides=None)


def test_pixels_that_are_stated_otherwise_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = folder_of(tmp_path, QUICK)
    config = config_of(source, QUICK, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])
    take_pixels_of_source(config, source)
    assert config.image_mean == [0.5, 0.5, 0.5]
    assert "image_mean and image_std are [0.5, 0.5, 0.5]" in caplog.text


def test_a_file_that_cannot_tell_its_activation_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "evlvideo"):
        take_pixels_of_source(config_of("weights.pth", PLAIN), str(tmp_path / "weights.pth"))
        take_pixels_of_source(config_of("weights.pth", "vit_base_patch16_224"), str(tmp_path / "weights.pth"))
    assert len(caplog.messages) == 1
    assert f"{PLAIN} computes GELU: with OpenAI's, MetaCLIP's and DFN's weights, {QUICK} is right" in caplog.text
