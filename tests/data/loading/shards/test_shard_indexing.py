import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_shards import samples, write_shard
from typer.testing import CliRunner

from evlvideo.cli.app import app
from evlvideo.data.loading.shards import indexing as module
from evlvideo.data.loading.shards.indexing import counts, index_shards
from evlvideo.data.media.shard_index import index_file
from evlvideo.errors import UserError


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Four shards with 1, 2, 3 and 4 samples."""
    return [write_shard(tmp_path / f"{number}.tar", samples(range(number))) for number in range(1, 5)]


@pytest.fixture
def helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes help with the smallest shards."""
    monkeypatch.setattr(module, "_WORTH_HELPERS_BYTES", 0)


@pytest.mark.parametrize("processes", [1, 2])
def test_missing_indexes_are_made(shards: list[Path], processes: int, helpers: None) -> None:
    found = index_shards(shards, processes=processes)
    assert [(one.shard, one.samples, one.made) for one in found] == [
        (shard, number, True) for number, shard in enumerate(shards, start=1)
    ]
    assert all(index_file(shard).is_file() for shard in shards)


def test_indexes_that_are_there_are_kept(shards: list[Path]) -> None:
    index_shards(shards[:3])
    written = index_file(shards[0]).stat().st_mtime_ns
    assert [one.made for one in index_shards(shards)] == [False, False, False, True]
    assert index_file(shards[0]).stat().st_mtime_ns == written


@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_wrong_is_told_shard_by_shard(shards: list[Path], processes: int, helpers: None) -> None:
    index_shards(shards)
    content = bytearray(index_file(shards[0]).read_bytes())
    content[-5] ^= 1
    index_file(shards[0]).write_bytes(content)
    write_shard(shards[1], samples(range(30)))
    for shard in shards[2:]:
        index_file(shard).unlink()
    shards[2].write_bytes(shards[2].read_bytes()[:700])
    reasons = [one.reason for one in index_shards(shards, processes=processes)]
    assert "is damaged" in str(reasons[0])
    assert "is not the index of" in str(reasons[1])
    assert "truncated" in str(reasons[2]) or "cannot be read" in str(reasons[2])
    assert reasons[3] is None


@pytest.mark.parametrize("processes", [1, 2])
def test_samples_that_are_left_out_are_in_the_log(
    tmp_path: Path, processes: int, helpers: None, caplog: pytest.LogCaptureFixture
) -> None:
    shards = [write_shard(tmp_path / f"{name}.tar", {**samples(range(1)), "b.jpg": b"x"}) for name in "ab"]
    assert [one.left_out for one in index_shards(shards, processes=processes)] == [1, 1]
    assert caplog.text.count("1 of 2 samples lack media or a caption, and are left out") == 2


def test_samples_are_counted(shards: list[Path]) -> None:
    assert counts(shards) == [1, 2, 3, 4]
    assert counts(shards) == [1, 2, 3, 4]


def test_all_that_cannot_be_read_is_named_at_once(shards: list[Path]) -> None:
    for shard in shards[1:3]:
        shard.write_bytes(b"no tar")
    with pytest.raises(UserError) as caught:
        counts(shards)
    assert [str(shard) in str(caught.value) for shard in shards] == [False, True, True, False]


def test_a_shard_that_is_not_there_is_named(shards: list[Path]) -> None:
    with pytest.raises(UserError, match=r"none\.tar"):
        counts([*shards, shards[0].with_name("none.tar")])


PROGRAM = """
import logging, sys, time
from pathlib import Path
from evlvideo.data.loading.shards import indexing
logging.basicConfig(level=logging.INFO)
make = indexing.make_index
def slowly(shard, index):
    print("made", shard.name, flush=True)
    time.sleep(0.2)
    return make(shard, index)
indexing.make_index = slowly
print(indexing.counts(sorted(Path(sys.argv[1]).glob("*.tar"))))
"""


def test_one_of_several_processes_makes_the_indexes(shards: list[Path]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, str(shards[0].parent)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert all("[1, 2, 3, 4]" in text for text in said)
    assert sorted(line for text in said for line in text.splitlines() if "made" in line) == [
        f"made {number}.tar" for number in range(1, 5)
    ]


def test_the_command_makes_indexes_and_says_so(shards: list[Path], restore_logging: None) -> None:
    result = CliRunner().invoke(app, ["data", "index", str(shards[0].parent), "--processes", "2"])
    assert result.exit_code == 0, result.output
    assert "4 shards with 10 samples; 4 indexes were made" in result.output
    result = CliRunner().invoke(app, ["data", "index", str(shards[0].parent)])
    assert "4 shards with 10 samples; 0 indexes were made" in result.output


def test_the_command_fails_where_a_shard_does(shards: list[Path], restore_logging: None) -> None:
    shards[2].write_bytes(b"no tar")
    result = CliRunner().invoke(app, ["data", "index", str(shards[0].parent)])
    assert result.exit_code == 1
    assert "3.tar cannot be read as an uncompressed tar file" in result.output
    assert index_file(shards[3]).is_file()


def test_a_link_that_leads_nowhere_is_a_sentence(shards: list[Path], restore_logging: None) -> None:
    link = shards[0].with_name("link.tar")
    link.symlink_to("gone.tar")
    (found,) = index_shards([link])
    assert found.reason == f"The shard {link} is a link to gone.tar, which does not exist; correct or remove the link."
    result = CliRunner().invoke(app, ["data", "index", str(link.parent)])
    assert result.exit_code == 1
    assert "is a link to gone.tar" in result.output and "Errno" not in result.output
    with pytest.raises(UserError, match=r"is a link to gone\.tar"):
        counts([link])


def test_the_command_has_a_place_for_indexes(shards: list[Path], tmp_path: Path, restore_logging: None) -> None:
    result = CliRunner().invoke(app, ["data", "index", str(tmp_path), "--index-root", str(tmp_path / "indexes")])
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "indexes").glob("*.safetensors"))) == 4
