from pathlib import Path

import pytest

from evlvideo.config.loading import config_of, load_config, save_config
from evlvideo.config.scst_presets import PRESETS
from evlvideo.errors import UserError


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_its_values(name: str) -> None:
    config = config_of([f"scst.preset={name}"])
    for key, value in PRESETS[name].values.items():
        section, _, field = key.partition(".")
        assert getattr(getattr(config, section), field) == value, key


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_its_source(name: str) -> None:
    assert "arXiv" in PRESETS[name].source


def test_what_a_config_states_comes_before_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("scst: {preset: luo2020, num_samples: 3}\n")
    config = load_config(path, ["scst.baseline=mean"])
    assert (config.scst.num_samples, config.scst.baseline, config.scst.candidates) == (3, "mean", "sampling")


def test_a_saved_config_keeps_what_came_before_the_preset(tmp_path: Path) -> None:
    config = config_of(["scst.preset=mllm-2025", "model.lora_r=0", "data.num_frames=4"])
    save_config(config, tmp_path / "run.yaml")
    assert load_config(tmp_path / "run.yaml") == config


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"scst\.preset is 'rennie'; allowed: evlgen, luo2020, mllm-2025"):
        config_of(["scst.preset=rennie"])
