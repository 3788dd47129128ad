"""Demos replace earlier demos, and nothing else."""

import shutil
from pathlib import Path

import pytest

from evlvideo.errors import UserError
from evlvideo.experiments import demo_folders
from evlvideo.experiments.demo import FOLDERS
from evlvideo.experiments.demo_folders import configs_directory, make_room


def test_an_installed_package_brings_its_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "evlvideo"
    package.mkdir()
    monkeypatch.setattr(demo_folders, "_PACKAGE", package)
    assert configs_directory() == tmp_path / "configs"
    (package / "configs").mkdir()
    assert configs_directory() == package / "configs"


def test_an_earlier_demo_makes_room(tmp_path: Path) -> None:
    make_room(tmp_path / "demo", FOLDERS)
    (tmp_path / "demo" / "concat" / "config.yaml").write_text("")
    make_room(tmp_path / "demo", FOLDERS)
    assert not (tmp_path / "demo" / "concat" / "config.yaml").exists()


def test_an_empty_directory_is_room_enough(tmp_path: Path) -> None:
    make_room(tmp_path, FOLDERS)
    assert {path.name for path in tmp_path.iterdir()} == set(FOLDERS)


def test_folders_that_only_have_the_name_of_our_own_are_not_removed(tmp_path: Path) -> None:
    make_room(tmp_path, FOLDERS)
    shutil.rmtree(tmp_path / "report")
    elsewhere = tmp_path.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / ".evlvideo-demo").touch()
    shutil.rmtree(tmp_path / "mean")
    (tmp_path / "mean").symlink_to(elsewhere)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"holds mean, report, which no demo is known to have made.*--out"):
        make_room(tmp_path, FOLDERS)
    assert (tmp_path / "report" / "thesis.tex").read_text() == "mine"
    assert elsewhere.is_dir() and (tmp_path / "concat").is_dir()


def test_other_peoples_files_are_not_removed(tmp_path: Path) -> None:
    for name in ("notes.txt", "msrvtt"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"holds msrvtt, notes\.txt, which no demo is known to have made.*--out"):
        make_room(tmp_path, FOLDERS)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/demo cannot be written to: Not a directory"):
        make_room(tmp_path / "file" / "demo", FOLDERS)


def test_a_file_in_the_directorys_place_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(UserError, match="which no demo is known to have made"):
        make_room(tmp_path / "demo", FOLDERS)
    assert (tmp_path / "demo").read_text() == "mine"


def test_a_demo_of_another_kind_makes_room_too(tmp_path: Path) -> None:
    make_room(tmp_path, ["tomeformer", "report"])
    make_room(tmp_path, FOLDERS)
    assert {path.name for path in tmp_path.iterdir()} == set(FOLDERS)


def test_the_config_of_a_run_finds_its_architecture_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = demo_folders.demo_config("image/pretrain", tmp_path / "run", 7)
    assert (config.output_dir, config.seed) == (str(tmp_path / "run"), 7)
    assert Path(str(config.architecture)).is_file()
    assert demo_folders.demo_config("mean", tmp_path / "run", 7).architecture is None
