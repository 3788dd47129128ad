import subprocess
import sys
from pathlib import Path

import pytest

from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.results.run_directory import check_writable, evaluation_directory, run_config, sole_use

RUN = Path("runs/finetune")


def test_an_evaluation_is_named_by_data_set_and_split() -> None:
    assert evaluation_directory(RUN, "msrvtt", "test") == RUN / "evaluation" / "msrvtt-test"


def test_an_evaluation_on_shuffled_frames_has_a_place_of_its_own() -> None:
    assert evaluation_directory(RUN, "mini", "test", shuffle_frames=True) == RUN / "evaluation" / "mini-test-shuffled"


def test_an_evaluation_on_other_clips_has_a_place_of_its_own() -> None:
    assert evaluation_directory(RUN, "mini", "test", other_clips=True) == RUN / "evaluation" / "mini-test-other-clips"


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


HOLD = """
import sys
from pathlib import Path
from evlvideo.results.run_directory import sole_use

with sole_use(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_directory_that_another_process_trains_in_is_refused_until_that_process_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "new"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=f"Another process trains in {run}, .*; wait for it, stop it"),
            sole_use(run),
        ):
            pass
        other.kill()
        other.wait()
    with sole_use(run):
        pass


def test_a_directory_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), sole_use(tmp_path):
        raise ZeroDivisionError
    with sole_use(tmp_path):
        pass


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=f"{tmp_path}/file/run cannot be written to: Not a directory"),
        sole_use(tmp_path / "file" / "run"),
    ):
        pass


@pytest.mark.parametrize("name", ["file", "file/run", "link", "link/run"])
def test_a_directory_that_could_not_be_made_is_told_beforehand(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=rf"{name} cannot be a directory, since .*/(file|link) is none"):
        check_writable(tmp_path / name)


def test_a_directory_that_can_be_made_is_not_made_yet(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()
