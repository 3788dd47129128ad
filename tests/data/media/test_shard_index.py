import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from tiny_shards import picture, samples, write_shard

from evlvideo.data.media import shard_index, shard_members
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
    with pytest.raises(UserError, match=r"none is missing or not a file; `evlvideo data index` makes it again"):
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


@pytest.mark.parametrize("hidden", [".DS_Store", "._000000.png", "__MACOSX/000000.png", "a/.cache/000000.txt"])
def test_hidden_files_are_passed_over(tmp_path: Path, hidden: str) -> None:
    """Systems add them, also between the members of a sample and twice."""
    first, *rest = samples(range(2)).items()
    shard = tmp_path / "a.tar"
    with tarfile.open(shard, "w") as archive:
        for name, content in [(hidden, b"x"), first, (hidden, b"x"), *rest, (f"sub/{hidden}", b"x")]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    index = build_index(shard)
    assert (keys(index), index.left_out) == (["000000", "000001"], 0)


def test_a_folder_before_all_names_is_no_hidden_one(tmp_path: Path) -> None:
    members = {f"./{name}": content for name, content in samples(range(2)).items()}
    assert keys(build_index(write_shard(tmp_path / "a.tar", members))) == ["./000000", "./000001"]


@pytest.mark.parametrize(
    ("members", "found", "left_out"),
    [
        (["s0.input.jpg", "s0.outputs.txt", "s1.input.jpg", "s1.outputs.txt"], ["s0", "s1"], 0),
        (["s.jpg", "s.mask.png", "s.caption.txt"], ["s"], 0),
        (["v1.5.jpg", "v1.5.txt", "v2.5.jpg", "v2.5.txt"], ["v1.5", "v2.5"], 0),
        (["a/v.1.MP4", "a/v.1.json", "a/v.2.mp4", "a/v.2.json", "a/v.3.mp4"], ["a/v.1", "a/v.2"], 1),
        (["s.jpg", "s.txt", "s.crop.jpg", "s.crop.txt"], ["s"], 0),
        (["s.input.jpg", "s.target.jpg", "s.txt", "t.jpg", "t.txt"], ["t"], 1),
        (["s.image.jpg", "s.mask.png", "s.txt", "t.jpg", "t.txt"], ["t"], 1),
    ],
)
def test_parts_and_keys_may_have_dots(tmp_path: Path, members: list[str], found: list[str], left_out: int) -> None:
    contents = {name: b'{"caption": "a"}' if name.endswith(("txt", "json")) else b"x" for name in members}
    index = build_index(write_shard(tmp_path / "a.tar", contents))
    assert (keys(index), index.left_out) == (found, left_out)


def test_a_part_is_found_where_it_is(tmp_path: Path) -> None:
    members = {"s.mask.png": b"a mask", "s.jpg": b"a picture", "s.outputs.txt": b"a caption"}
    shard = write_shard(tmp_path / "a.tar", members)
    sample, content = build_index(shard)[0], shard.read_bytes()
    assert content[sample.media_offset : sample.media_offset + sample.media_bytes] == b"a picture"
    assert content[sample.text_offset : sample.text_offset + sample.text_bytes] == b"a caption"


def test_a_text_without_end_is_left_out(tmp_path: Path) -> None:
    members = {**samples(range(1)), "b.jpg": b"x", "b.txt": b"a" * (2 << 20)}
    index = build_index(write_shard(tmp_path / "a.tar", members))
    assert (len(index), index.left_out) == (1, 1)


@pytest.mark.parametrize("what", ["pipe", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a.tar"
    os.mkfifo(path) if what == "pipe" else path.mkdir()
    for use in (build_index, lambda shard: make_index(shard, index_file(shard))):
        with pytest.raises(UserError, match="is not a file but a folder, pipe or device"):
            use(path)


def test_an_index_that_is_a_pipe_is_refused_at_once(shard: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is missing or not a file"):
        open_index(shard, tmp_path / "pipe")


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_without_end_is_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(header(kind, 16 << 30))
        file.truncate(17 << 30)  # takes no space
    with pytest.raises(UserError, match=r"a header of 17,179,869,184 bytes\. Get it again"):
        build_index(path)


def test_headers_of_headers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes((header(tarfile.GNUTYPE_LONGNAME, 2) + b"a\0".ljust(512, b"\0")) * 5000)
    with pytest.raises(UserError, match="cannot be read as an uncompressed tar file"):
        build_index(path)


def test_a_shard_has_its_time(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_members, "MOST_SECONDS", -1.0)
    with pytest.raises(UserError, match="not done after -1 s"):
        build_index(shard)


FORGED = {
    "before the shard": {"media_offset": np.array([-1, 0, 0])},
    "after the shard": {"text_bytes": np.array([2**62, 0, 0])},
    "unknown kind": {"media_kind": np.array([0, 99, 0], np.uint8)},
    "keys that do not end": {"key_end": np.array([6, 12, 99])},
    "keys backwards": {"key_end": np.array([12, 6, 18])},
    "a short column": {"text_offset": np.array([0])},
    "a number too few": {"left_out": np.array([], np.int64)},
    "fractions": {"media_bytes": np.array([1.5, 1, 1])},
    "a table": {"text_kind": np.zeros((3, 1), np.uint8)},
    "another column": {"more": np.zeros(3)},
}


@pytest.mark.parametrize("change", FORGED)
def test_a_forged_index_is_refused(shard: Path, index: Path, change: str) -> None:
    arrays = {**build_index(shard).arrays, **FORGED[change]}
    with safe_open(index, "np") as file:
        metadata = file.metadata()
    save_file(arrays, index, {**metadata, "check_sum": shard_index._check_sum(arrays)})
    with pytest.raises(UserError, match=r"is damaged; delete it, and it is made again"):
        open_index(shard, index)


@pytest.mark.parametrize("column", ["key_end", "keys", "media_kind", "left_out"])
def test_an_index_without_a_column_is_refused(shard: Path, index: Path, column: str) -> None:
    arrays = {name: array for name, array in build_index(shard).arrays.items() if name != column}
    with safe_open(index, "np") as file:
        metadata = file.metadata()
    save_file(arrays, index, {**metadata, "check_sum": shard_index._check_sum(arrays)})
    with pytest.raises(UserError, match=r"delete it, and it is made again"):
        open_index(shard, index)


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
