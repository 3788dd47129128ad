"""What a run's config asks of an estimate."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from toy_run import Toy

from evlvideo.config.loading import config_of, load_config
from evlvideo.errors import UserError
from evlvideo.estimate.run_costs import clip_costs, estimate_run, splits_with_features
from evlvideo.inference.extract_features import extract_features

ROOT = Path(__file__).parents[2]


def test_run_is_estimated_from_its_checkpoints_architecture() -> None:
    found = estimate_run(config_of(["init=mini", "data.num_frames=3", "training.batch_size=2"]))
    asked = found.workload
    assert (asked.num_frames, asked.batch_size, asked.num_beams, asked.new_tokens) == (3, 2, 5, 20)
    assert (asked.text_tokens, asked.samples, asked.cached_features, asked.gradient_checkpointing) == (
        32,
        0,
        False,
        False,
    )
    assert found.trained.connector > 0 and found.trained.contextualizer == 0


def test_runs_model_section_is_in_the_estimate() -> None:
    found = estimate_run(config_of(["init=mini", "model.contextualizer=in_tower", "training.precision=fp32"]))
    assert found.trained.contextualizer > 0
    assert found.workload.precision == "fp32"


@pytest.mark.parametrize(("meaning", "other"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_auto_is_the_precision_of_this_device_beside_the_other(
    meaning: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evlvideo.estimate.run_costs.resolve_precision", lambda precision: meaning)
    found = estimate_run(config_of(["init=mini", "training.precision=auto"]))
    assert (found.workload.precision, found.workload.other_precision) == (meaning, other)
    assert found.memory == estimate_run(config_of(["init=mini", f"training.precision={meaning}"])).memory
    assert found.other_memory == estimate_run(config_of(["init=mini", f"training.precision={other}"])).memory


def test_a_precision_that_this_device_lacks_is_estimated_all_the_same() -> None:
    assert estimate_run(config_of(["init=mini", "training.precision=fp16"])).workload.precision == "fp16"


def test_self_critical_stage_is_estimated_by_its_samples() -> None:
    found = estimate_run(config_of(["init=mini", "stage=scst", "scst.num_samples=3", "scst.max_new_tokens=7"])).workload
    assert (found.captions_per_clip, found.samples, found.text_tokens, found.sample_tokens) == (3, 3, 7, 7)


def test_references_are_read_beside_the_samples_where_they_are_in_the_loss() -> None:
    changes = ["stage=scst", "scst.num_samples=3", "scst.cross_entropy_weight=0.1", "data.captions_per_clip=2"]
    found = estimate_run(config_of(["init=mini", *changes])).workload
    assert (found.captions_per_clip, found.samples, found.text_tokens) == (5, 3, 32)


@pytest.mark.parametrize("name", ["gradient_checkpointing", "activation_checkpointing"])
def test_gradient_checkpointing_takes_less_memory(name: str) -> None:
    plain = estimate_run(config_of(["init=mini"]))
    found = estimate_run(config_of(["init=mini", f"training.arguments.{name}=true"]))
    assert found.memory.activations < plain.memory.activations
    assert found.training_batch == plain.training_batch


FEATURES = ["init=mini", "data.features=features", "data.train_sampling=uniform", "data.augment=false"]


def test_on_features_the_tower_does_not_run_in_training() -> None:
    plain, found = estimate_run(config_of(["init=mini"])), estimate_run(config_of(FEATURES))
    assert found.training_clip.vision_tower == 0
    assert found.training_clip.total == plain.training_clip.total - plain.training_clip.vision_tower
    assert found.captioning_clip == plain.captioning_clip
    assert found.memory == plain.memory


def test_on_features_that_training_changes_it_says_so(toy: Toy, tmp_path: Path) -> None:
    changed = toy.finished_run(tmp_path, contextualizer="in_tower")
    with pytest.raises(UserError, match=r"data\.features.* null"):
        estimate_run(config_of([*FEATURES, f"init={changed}"]))


@pytest.mark.parametrize("fusion", ["mean", "mean_tokens"])
def test_features_take_what_they_take_on_disk(toy: Toy, tmp_path: Path, fusion: str) -> None:
    data = {"features": str(tmp_path / "features"), "train_sampling": "uniform", "augment": False}
    config = toy.config(tmp_path / "run", data=data, model={"fusion": fusion})
    (shard,) = (extract_features(config, ["train"]) / "mini-train").glob("features-*.safetensors")
    features = load_file(shard)
    assert {tensor.nbytes for tensor in features.values()} == {estimate_run(config).feature_bytes}


def test_splits_with_features_are_those_of_training_and_validation() -> None:
    own = ["data.dataset=jsonl", "data.root=data/own"]
    assert splits_with_features(config_of(["data.dataset=msrvtt"])) == {"train": 6513, "validate": 497}
    assert splits_with_features(config_of([*own, "data.validation_split=test"])) == {"train": None, "test": None}


def test_splits_of_a_part_of_a_dataset_have_the_number_of_clips_that_is_known() -> None:
    part = ["data.dataset=msrvtt", "data.train_clips=500"]
    assert splits_with_features(config_of(part)) == {"train": 500, "validate": 497}
    assert splits_with_features(config_of([*part, "data.check_counts=false"])) == {"train": 500, "validate": None}


def test_tables_count_the_tower_though_a_run_reads_its_features() -> None:
    assert clip_costs(config_of(FEATURES)) == clip_costs(config_of(["init=mini"]))


@pytest.mark.parametrize(
    ("architecture", "soft_tokens", "language_model"),
    [
        ("clip_smollm2_135m", 29, 134_515_008),
        ("siglip_smollm2_360m", 28, 361_821_120),
        ("clip_opt_125m", 29, 125_239_296),
    ],
)
def test_small_recipe_is_estimated_without_its_towers(
    architecture: str, soft_tokens: int, language_model: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of weights are those that the language models' publishers state."""
    monkeypatch.chdir(ROOT)
    found = estimate_run(
        load_config("configs/small/msrvtt.yaml", [f"architecture=configs/architectures/{architecture}.yaml"])
    )
    assert (found.soft_tokens, found.parameters.language_model) == (soft_tokens, language_model)
    assert found.trained.contextualizer > 0 and found.trained.vision_tower == found.trained.language_model == 0
    assert found.training_clip.vision_tower == 0 < found.captioning_clip.vision_tower


def test_run_without_architecture_and_checkpoint_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        estimate_run(config_of([f"init={tmp_path / 'none'}"]))
