import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evlvideo.config.data import DataConfig
from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.results.run_directory import (
    check_writable,
    evaluation_directory,
    other_data,
    run_config,
    sole_use,
)

RUN = Path("runs/finetune")


def test_an_evaluation_is_named_by_data_set_and_split() -> None:
    data = DataConfig(dataset="msrvtt", root="data")
    assert evaluation_directory(RUN, data, "test") == RUN / "evaluation" / "msrvtt-test"


def test_an_evaluation_on_shuffled_frames_has_a_place_of_its_own() -> None:
    data = DataConfig(dataset="mini")
    assert evaluation_directory(RUN, data, "test", shuffle_frames=True) == RUN / "evaluation" / "mini-test-shuffled"


@pytest.fixture
def run_on_own_clips(tmp_path: Path) -> Path:
    save_config(
        RunConfig(data=DataConfig(dataset="jsonl", root=str(tmp_path / "own"))), tmp_path / "run" / "config.yaml"
    )
    return tmp_path / "run"


def test_the_own_clips_of_a_run_have_the_plain_name_however_their_path_is_written(
    run_on_own_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for root in (str(tmp_path / "own"), "own", "own/../own"):
        found = evaluation_directory(run_on_own_clips, DataConfig(dataset="jsonl", root=root), "test")
        assert found.name == "jsonl-test"


def test_clips_of_other_roots_have_names_of_their_own_that_can_be_read(run_on_own_clips: Path, tmp_path: Path) -> None:
    places = [
        {"root": str(tmp_path / "a" / "my kitchen")},
        {"root": str(tmp_path / "b" / "my kitchen")},
        {"root": str(tmp_path / "own"), "video_root": str(tmp_path / "small")},
    ]
    names = [
        evaluation_directory(run_on_own_clips, DataConfig(dataset="jsonl", **place), "test").name for place in places
    ]
    assert len(set(names)) == 3
    for name, folder in zip(names, ("my_kitchen", "my_kitchen", "small"), strict=True):
        assert re.fullmatch(rf"jsonl@{folder}-[0-9a-f]{{6}}-test", name)


def test_a_result_names_where_its_clips_are_if_they_are_not_the_own(run_on_own_clips: Path, tmp_path: Path) -> None:
    own = DataConfig(dataset="jsonl", root=str(tmp_path / "own"))
    assert other_data(run_on_own_clips, own) == {}
    assert other_data(run_on_own_clips, replace(own, root=str(tmp_path / "b"))) == {
        "root": str(tmp_path / "b"),
        "video_root": None,
        "check_counts": True,
    }


def test_a_place_in_a_rendered_dataset_does_not_depend_on_the_working_directory(
    run_on_own_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataConfig(dataset="jsonl", root="rendered:mini_images")
    names = set()
    for folder in (tmp_path, tmp_path / "run"):
        monkeypatch.chdir(folder)
        assert other_data(run_on_own_clips, data)["root"] == "rendered:mini_images"
        names.add(evaluation_directory(run_on_own_clips, data, "test").name)
    assert len(names) == 1


def test_an_evaluation_on_other_clips_has_a_place_of_its_own() -> None:
    data = DataConfig(dataset="mini")
    assert evaluation_directory(RUN, data, "test", other_clips=True) == RUN / "evaluation" / "mini-test-other-clips"


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


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where not even root can write")
def test_a_place_that_can_never_be_written_to_is_told_beforehand() -> None:
    with pytest.raises(UserError, match=r"^/proc/x cannot be written to.*name another output_dir"):
        check_writable(Path("/proc/x"))


def test_a_directory_that_can_be_made_is_not_made_yet(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()
