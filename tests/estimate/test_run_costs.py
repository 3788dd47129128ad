"""What a run's config asks of an estimate."""

from pathlib import Path

import pytest

from evlvideo.config.loading import config_of
from evlvideo.errors import UserError
from evlvideo.estimate.run_costs import estimate_run


def test_run_is_estimated_from_its_checkpoints_architecture() -> None:
    found = estimate_run(config_of(["init=mini", "data.num_frames=3", "training.batch_size=2"]))
    asked = found.workload
    assert (asked.num_frames, asked.batch_size, asked.num_beams, asked.new_tokens) == (3, 2, 5, 20)
    assert (asked.text_tokens, asked.precision) == (32, "bf16")
    assert found.trained.connector > 0 and found.trained.contextualizer == 0


def test_runs_model_section_is_in_the_estimate() -> None:
    found = estimate_run(config_of(["init=mini", "model.contextualizer=in_tower", "training.precision=fp32"]))
    assert found.trained.contextualizer > 0
    assert found.workload.precision == "fp32"


def test_self_critical_stage_is_estimated_by_its_samples_and_the_greedy_caption() -> None:
    found = estimate_run(config_of(["init=mini", "stage=scst", "scst.num_samples=3", "scst.max_new_tokens=7"]))
    assert (found.workload.captions_per_clip, found.workload.text_tokens) == (3, 8)
    assert (found.workload.num_beams, found.workload.new_tokens) == (4, 7)


def test_run_without_architecture_and_checkpoint_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        estimate_run(config_of([f"init={tmp_path / 'none'}"]))
