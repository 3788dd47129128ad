"""Configs of vision-language pre-training: those that are shipped, and what contradicts itself."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from evlvideo.assembly.vlp import check_pruning
from evlvideo.config.loading import load_config_of, save_config
from evlvideo.config.vlp import ClassifierConfig, VlpConfig, VlpModelConfig
from evlvideo.errors import UserError
from evlvideo.models.vlp.hosts.new import HOSTS, Sizes, matching_config, new_clip
from evlvideo.models.vlp.hosts.words import SpecialIds
from evlvideo.models.vlp.images import read_guidance

ROOT = Path(__file__).parents[2]
ALL = sorted((ROOT / "configs" / "elip").glob("*.yaml"))
CLASSIFIERS = [path for path in ALL if "\ntask:" in path.read_text(encoding="utf-8")]
SHIPPED = [path for path in ALL if path not in CLASSIFIERS]


def test_each_host_has_a_config() -> None:
    assert {load_config_of(VlpConfig, path).model.host for path in SHIPPED} == {"blip", "albef", "clip"}
    assert {path.stem for path in SHIPPED} >= {"mini_blip", "mini_clip"}


@pytest.mark.parametrize("config", SHIPPED, ids=lambda path: path.stem)
class TestShippedElipConfig:
    def test_opens_with_its_command_and_writes_to_its_own_directory(self, config: Path) -> None:
        first = shlex.split(config.read_text(encoding="utf-8").splitlines()[0])
        assert first == ["#", "evlvideo", "pretrain", str(config.relative_to(ROOT))]
        others = [load_config_of(VlpConfig, path).output_dir for path in SHIPPED if path != config]
        assert load_config_of(VlpConfig, config).output_dir not in others

    def test_builds_its_model_with_pruning_that_fits(self, config: Path) -> None:
        """On the meta device: every size and name, and no memory."""
        run = load_config_of(VlpConfig, config)
        model = run.model
        sizes = Sizes(**{name: getattr(model, name) for name in Sizes.__dataclass_fields__})
        ids = SpecialIds(vocabulary=100, pad=0, first=2, last=3, mask=4, dec=5, enc=6)
        with torch.device("meta"):
            host = new_clip(sizes, ids) if model.host == "clip" else HOSTS[model.host](matching_config(sizes, ids))
        assert read_guidance(model.pruning) is not None
        check_pruning(run, host)

    def test_is_read_back_as_it_was_saved(self, config: Path, tmp_path: Path) -> None:
        run = load_config_of(VlpConfig, config)
        save_config(run, tmp_path / "config.yaml")
        assert load_config_of(VlpConfig, tmp_path / "config.yaml") == run


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"image_size": 50}}, "model.image_size is 50, no multiple of model.patch_size, 16"),
        ({"model": {"heads": 5}}, "model.width is 768, no multiple of model.heads, 5"),
        ({"model": {"host": "albef", "fusion_layer": 12}}, "model.fusion_layer is 12"),
        ({"model": {"host": "clip", "text_init": "bert"}}, "are of BLIP and ALBEF"),
        ({"model": {"checkpoint": "here", "vision_init": "vit"}}, "model.checkpoint is set; give one"),
        ({"model": {"host": "meter"}}, "model.host is 'meter'; allowed: blip, albef, clip"),
    ],
)
def test_contradictions_are_named(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        VlpConfig(model=VlpModelConfig(**sections["model"]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.schedule=exponential", "training.schedule_steps must be set"),
        ("training.schedule_steps=5", "only training.schedule=exponential has stairs"),
        ("training.min_learning_rate=1", "more than training.learning_rate"),
        ("training.batch_size=1", "training.batch_size is 1; it must be at least 2"),
        ("data.features=here", "data.features is set"),
        ("data.captions_per_clip=2", "compares each image with one text"),
        ("evaluation.guide=caption", "evaluation.guide is 'caption'; allowed: none, class"),
        ("model.hots=blip", "did you mean model.host"),
    ],
)
def test_wrong_keys_and_values_are_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config_of(VlpConfig, ROOT / "configs" / "elip" / "mini_blip.yaml", [override])


def test_a_run_without_a_loss_is_refused() -> None:
    with pytest.raises(UserError, match="clip has no other loss"):
        load_config_of(VlpConfig, ROOT / "configs" / "elip" / "mini_clip.yaml", ["losses.contrast=0"])


def test_clip_cannot_rerank() -> None:
    with pytest.raises(UserError, match="CLIP has no matching"):
        load_config_of(VlpConfig, ROOT / "configs" / "elip" / "mini_clip.yaml", ["evaluation.rerank=5"])


def test_frames_whose_tokens_are_pruned_cannot_be_pooled() -> None:
    with pytest.raises(UserError, match="no common places"):
        load_config_of(VlpConfig, ROOT / "configs" / "elip" / "mini_blip.yaml", ["model.frames=pool"])


@pytest.mark.parametrize("config", CLASSIFIERS, ids=lambda path: path.stem)
class TestShippedClassifierConfig:
    def test_opens_with_its_command_and_writes_to_its_own_directory(self, config: Path) -> None:
        first = shlex.split(config.read_text(encoding="utf-8").splitlines()[0])
        assert first == ["#", "evlvideo", "classify", str(config.relative_to(ROOT))]
        run = load_config_of(ClassifierConfig, config)
        assert run.output_dir.endswith(config.stem.replace("_", "-"))
        assert run.model.checkpoint in (
            None,
            load_config_of(VlpConfig, ROOT / "configs/elip/albef_base.yaml").output_dir,
        )

    def test_is_read_back_as_it_was_saved(self, config: Path, tmp_path: Path) -> None:
        run = load_config_of(ClassifierConfig, config)
        save_config(run, tmp_path / "config.yaml")
        assert load_config_of(ClassifierConfig, tmp_path / "config.yaml") == run


def test_each_task_has_a_mini_config_that_does_not_flip_what_tells_left_from_right() -> None:
    mini = [load_config_of(ClassifierConfig, path) for path in CLASSIFIERS if path.stem.startswith("mini_")]
    assert {(run.task, run.data.horizontal_flip) for run in mini} == {("entailment", 0), ("nlvr2", 0)}


def test_classifiers_are_fine_tuned_as_published_by_default() -> None:
    run = ClassifierConfig()
    training = run.training
    assert (run.task, run.model.host, run.model.pruning) == ("entailment", "albef", None)
    assert (run.losses.alpha, run.losses.momentum) == (0.4, 0.995)
    assert (training.learning_rate, training.weight_decay, training.batch_size) == (2e-5, 0.02, 32)
    assert (training.warmup_learning_rate, training.min_learning_rate) == (1e-5, 1e-6)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.host=blip", "classified by ALBEF; set it to albef"),
        ("task=vqa", "task is 'vqa'; allowed: entailment, nlvr2"),
        ("data.image_root=here", "data.root is not"),
        ("data.num_frames=2", "unknown key data.num_frames"),
        ("losses.alpha=2", "losses.alpha is 2"),
        ("model.fusion_layer=12", "leave layers that read the image"),
    ],
)
def test_contradictions_of_classifiers_are_named(override: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_config_of(ClassifierConfig, tmp_path / "config.yaml", [override])
