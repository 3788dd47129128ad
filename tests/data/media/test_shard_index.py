import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from tiny_shards import picture, samples, write_shard

from evlvideo.data.media.shard_index import (
    ShardIndex,
    build_index,
    captions_of,
    count_samples,
    index_file,
    make_index,
    open_index,
)
from evlvideo.errors import UserError


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_shard(tmp_path / "00000.tar", samples(range(3)))


@pytest.fixture
def index(shard: Path) -> Path:
    """The shard's, made."""
    make_index(shard, index_file(shard))
    return index_file(shard)


def keys(index: ShardIndex) -> list[str]:
    return [index[number].key for number in range(len(index))]


def test_members_are_found_where_they_are(shard: Path) -> None:
    sample = build_index(shard)[1]
    content = shard.read_bytes()
    assert content[sample.media_offset : sample.media_offset + sample.media_bytes] == picture(1)
    assert content[sample.text_offset : sample.text_offset + sample.text_bytes] == b"picture 1\n"
    assert (sample.key, sample.media_suffix, sample.text_suffix) == ("000001", "png", "txt")


def test_the_index_says_what_was_found(shard: Path, index: Path) -> None:
    assert keys(open_index(shard, index)) == ["000000", "000001", "000002"]
    assert open_index(shard, index)[1] == build_index(shard)[1]
    assert count_samples(shard, index) == 3


def test_the_index_is_a_view_of_its_file(shard: Path, index: Path) -> None:
    opened = open_index(shard, index)
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip("what is mapped is listed in /proc")
    assert str(index) in maps.read_text()
    index.unlink()
    assert keys(opened) == ["000000", "000001", "000002"]
    handles = [handle.readlink() for handle in Path("/proc/self/fd").iterdir() if handle.is_symlink()]
    assert not [handle for handle in handles if handle.name.startswith(index.name)]


def test_a_shard_of_another_size_is_refused(shard: Path, index: Path) -> None:
    write_shard(shard, samples(range(30)))
    with pytest.raises(UserError, match=r"is not the index of .* \(its size, mtime_ns differs\).*delete the index"):
        open_index(shard, index)


def test_a_shard_of_another_time_is_refused(shard: Path, index: Path) -> None:
    os.utime(shard, ns=(0, 0))
    with pytest.raises(UserError, match=r"its mtime_ns differs"):
        count_samples(shard, index)


def test_an_index_that_is_not_there_is_named(shard: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none is missing; `evlvideo data index` makes it again"):
        open_index(shard, tmp_path / "none")


def test_the_index_lies_beside_its_shard_or_where_it_is_told(shard: Path, tmp_path: Path) -> None:
    assert index_file(shard) == tmp_path / "00000.tar.index.safetensors"
    assert index_file(shard, tmp_path / "other") == tmp_path / "other" / "00000.tar.index.safetensors"


def test_the_index_of_a_shard_where_nobody_may_write_is_in_the_cache(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVLVIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    cached = index_file(shard)
    assert cached.is_relative_to(tmp_path / "cache")
    assert index_file(write_shard(tmp_path / "other" / "00000.tar", samples(range(1)))) != cached
    shard.with_name("00000.tar.index.safetensors").touch()
    assert index_file(shard) == shard.with_name("00000.tar.index.safetensors")


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 100])
def test_a_broken_index_is_refused(shard: Path, index: Path, content: bytes) -> None:
    index.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read: .*; delete it, and it is made again"):
        open_index(shard, index)


def test_a_damaged_index_is_refused(shard: Path, index: Path) -> None:
    content = bytearray(index.read_bytes())
    content[-5] ^= 1
    index.write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged; delete it, and it is made again"):
        open_index(shard, index)


def test_a_missing_shard_is_named(tmp_path: Path, index: Path) -> None:
    with pytest.raises(OSError, match=r"none\.tar"):
        open_index(tmp_path / "none.tar", index)


def test_keys_end_at_the_first_dot_and_keep_their_folder(tmp_path: Path) -> None:
    members = {"a.b/c.seg.jpg": b"", "a.b/d.JPG": b"x", "a.b/d.txt": b"a dog"}
    assert keys(build_index(write_shard(tmp_path / "a.tar", members))) == ["a.b/d"]


def test_the_caption_itself_goes_before_an_object(tmp_path: Path) -> None:
    members = {"a.json": b'{"caption": "b"}', "a.mp4": b"x", "a.txt": b"a"}
    assert build_index(write_shard(tmp_path / "a.tar", members))[0].text_suffix == "txt"


@pytest.mark.parametrize(
    "members",
    [
        {"b.jpg": b"x"},
        {"b.txt": b"a dog"},
        {"b.jpg": b"", "b.txt": b"a dog"},
        {"b.jpg": b"x", "b.txt": b" \n"},
        {"b.jpg": b"x", "b.txt": b"\xff\xfe"},
        {"b.jpg": b"x", "b.json": b"{}"},
        {"b.jpg": b"x", "b.json": b"[1]"},
        {"b.jpg": b"x", "b.json": b'{"caption": null}'},
        {"b.gif": b"x", "b.txt": b"a dog"},
        {"b\n.jpg": b"x", "b\n.txt": b"a dog"},
    ],
)
def test_incomplete_samples_are_left_out_and_counted(tmp_path: Path, members: dict[str, bytes]) -> None:
    index = build_index(write_shard(tmp_path / "a.tar", {**samples(range(1)), **members}))
    assert (len(index), index.left_out) == (1, 1)


def test_what_is_left_out_stays_known(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", {**samples(range(1)), "b.jpg": b"x"})
    index = index_file(shard)
    make_index(shard, index)
    assert open_index(shard, index).left_out == 1


def test_links_and_folders_are_passed_over(tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    with tarfile.open(shard, "w") as archive:
        for kind, name in ((tarfile.DIRTYPE, "folder"), (tarfile.SYMTYPE, "a.png"), (tarfile.LNKTYPE, "a.txt")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        for name, content in samples(range(1)).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert keys(build_index(shard)) == ["000000"]


def test_long_names_are_read(tmp_path: Path) -> None:
    name = "x" * 300
    members = {f"{name}.png": picture(1), f"{name}.txt": b"a"}
    sample = build_index(write_shard(tmp_path / "a.tar", members))[0]
    assert sample.key == name
    assert (tmp_path / "a.tar").read_bytes()[sample.media_offset :].startswith(picture(1))


def test_a_key_in_two_places_is_refused(tmp_path: Path) -> None:
    members = {"a.png": b"x", "b.png": b"x", "a.txt": b"a"}
    with pytest.raises(UserError, match="has the key 'a' twice; write a sample's members together"):
        build_index(write_shard(tmp_path / "a.tar", members))


def test_a_shard_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no samples"):
        build_index(write_shard(tmp_path / "a.tar", {"README.md": b"x"}))


def test_a_compressed_shard_is_refused(shard: Path) -> None:
    shard.write_bytes(gzip.compress(shard.read_bytes()))
    with pytest.raises(UserError, match="cannot be read as an uncompressed tar file"):
        build_index(shard)


@pytest.mark.parametrize("kept", [0, 100, 512, 700, 1024, 2048, 2500])
def test_a_shard_that_is_cut_short_is_refused(shard: Path, kept: int) -> None:
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"truncated or broken|cannot be read as an uncompressed tar file"):
        build_index(shard)


def test_a_shard_that_is_broken_in_the_middle_is_refused(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[2048 : 2048 + 512] = b"?" * 512  # the header of the third member
    shard.write_bytes(content)
    with pytest.raises(UserError, match="truncated or broken at byte 2048"):
        build_index(shard)


@pytest.mark.parametrize(
    ("content", "suffix", "captions"),
    [
        (b"\xef\xbb\xbfa dog\r\n", "txt", ("a dog",)),
        (b'{"caption": "a dog", "url": "x"}', "json", ("a dog",)),
        (b'{"captions": ["a", "b"], "caption": "c"}', "json", ("a", "b")),
    ],
)
def test_captions_are_read(content: bytes, suffix: str, captions: tuple[str, ...]) -> None:
    assert captions_of("here", content, suffix) == captions
