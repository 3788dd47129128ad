from pathlib import Path

import pytest

from evlvideo.config import RunConfig, save_config
from evlvideo.errors import UserError
from evlvideo.run_directory import evaluation_directory, run_config

RUN = Path("runs/finetune")


def test_an_evaluation_is_named_by_data_set_and_split() -> None:
    assert evaluation_directory(RUN, "msrvtt", "test") == RUN / "evaluation" / "msrvtt-test"


def test_an_evaluation_on_shuffled_frames_has_a_place_of_its_own() -> None:
    assert evaluation_directory(RUN, "mini", "test", shuffle_frames=True) == RUN / "evaluation" / "mini-test-shuffled"


def test_the_config_of_a_run_is_the_one_it_was_made_with(tmp_path: Path) -> None:
    config = RunConfig(seed=7, output_dir=str(tmp_path))
    save_config(config, tmp_path / "config.yaml")
    assert run_config(tmp_path) == config


def test_the_config_of_a_run_takes_overrides(tmp_path: Path) -> None:
    save_config(RunConfig(), tmp_path / "config.yaml")
    assert run_config(tmp_path, ["generation.num_beams=3"]).generation.num_beams == 3


def test_a_directory_without_a_config_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path} holds no config\.yaml, so it is not a run; name the directory"):
        run_config(tmp_path)
