"""Every YAML that is shipped loads, and opens with the command that uses it."""

import shlex
from pathlib import Path

import pytest

from evlvideo.config import load_config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.y*ml"))


def command(config: Path) -> list[str]:
    return shlex.split(config.read_text(encoding="utf-8").splitlines()[0])


def test_there_are_configs() -> None:
    assert {path.parent.name for path in CONFIGS} >= {"mini", "msrvtt"}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
class TestShippedConfig:
    def test_opens_with_its_command(self, config: Path) -> None:
        assert command(config)[:4] == ["#", "evlvideo", "train", str(config.relative_to(ROOT))]

    def test_loads_as_its_command_asks(self, config: Path) -> None:
        load_config(config, command(config)[4:])

    def test_writes_to_its_own_directory(self, config: Path) -> None:
        others = [load_config(other).output_dir for other in CONFIGS if other != config]
        assert load_config(config).output_dir not in others

    def test_starts_from_the_package_a_checkpoint_or_another_config(self, config: Path) -> None:
        init = load_config(config).init
        written = {load_config(other).output_dir for other in CONFIGS if other != config}
        assert init == "mini" or init.startswith("checkpoints/") or init in written


@pytest.mark.parametrize("config", [path for path in CONFIGS if path.parent.name == "mini"], ids=lambda path: path.stem)
def test_mini_configs_do_not_flip(config: Path) -> None:
    """A flipped clip contradicts captions that tell left from right."""
    loaded = load_config(config)
    assert (loaded.data.dataset, loaded.data.horizontal_flip) == ("mini", 0.0)


def test_msrvtt_configs_follow_the_published_recipe() -> None:
    loaded = load_config(ROOT / "configs/msrvtt/finetune_opt2.7b.yaml")
    training, data, generation = loaded.training, loaded.data, loaded.generation
    assert (loaded.model.fusion, loaded.model.contextualizer) == ("mean", "in_tower")
    assert (training.learning_rate, training.min_learning_rate) == (1e-5, 1e-6)
    assert (training.warmup_steps, training.warmup_learning_rate, training.weight_decay) == (1000, 1e-8, 0.05)
    assert (training.max_steps, training.batch_size) == (50_000, 4)
    assert (data.num_frames, data.train_sampling, data.eval_sampling) == (4, "headtail", "uniform")
    assert (data.crop_scale_min, data.horizontal_flip) == (0.5, 0.5)
    assert (generation.num_beams, generation.min_new_tokens, generation.max_new_tokens) == (5, 5, 20)
