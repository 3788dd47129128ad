import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from kinds_of_video import FRAMES, KINDS
from numbered import numbers_of, render

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video import index_cache
from evlvideo.data.video.decode import check_video, decode_frames, open_video
from evlvideo.data.video.index import VideoIndex, read_index
from evlvideo.data.video.packets import PacketReader

NUMBERS = [0, 7, 31, 31, 58, FRAMES - 1]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVLVIDEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return render(tmp_path / "clip.mp4", FRAMES, options={"g": "30"})


def numbers(video: Path) -> list[int]:
    return numbers_of(decode_frames(video, lambda frames, rate: NUMBERS).frames)


def index_of(video: Path) -> VideoIndex:
    with open_video(video) as clip:
        assert clip.index is not None
        return clip.index


def assert_equal(one: VideoIndex, other: VideoIndex) -> None:
    for field in fields(VideoIndex):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_decoded_is_the_same_with_a_cached_index(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix, arguments = KINDS[kind]
    video = render(tmp_path / f"clip.{suffix}", FRAMES, **arguments)
    with open_video(video, cached=False) as clip:
        fresh, frames = clip.index, clip.read(NUMBERS)
    index_of(video)
    monkeypatch.setattr(index_cache, "read_index", lambda reader: pytest.fail("the file is read through again"))
    with open_video(video) as clip:
        assert fresh is not None and clip.index is not None
        assert_equal(clip.index, fresh)
        again = clip.read(NUMBERS)
    np.testing.assert_array_equal(again.frames, frames.frames)
    np.testing.assert_array_equal(again.timestamps_seconds, frames.timestamps_seconds)
    assert (again.indices, again.metadata, again.backend) == (frames.indices, frames.metadata, frames.backend)


def test_a_video_that_changed_has_another_index(video: Path) -> None:
    assert numbers(video) == NUMBERS
    status = video.stat()
    other = render(video.with_name("other.mp4"), FRAMES + 20, options={"g": "10"}).read_bytes()
    video.write_bytes(other)
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert len(index_of(video).times) == FRAMES + 20


def test_a_video_of_another_time_and_the_same_size_has_another_index(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = index_cache.entry_of(video)
    os.utime(video, ns=(0, 1))
    assert index_cache.entry_of(video) != first


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "text"])
def test_a_damaged_entry_is_made_anew(video: Path, damage: str) -> None:
    fresh = index_of(video)
    entry = index_cache.entry_of(video)
    assert entry is not None
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"empty": b"", "short": bytes(content[:-3]), "flipped": bytes(content), "text": b"no index"}[damage]
    entry.write_bytes(damaged)
    assert index_cache.load_index(entry) is None
    assert_equal(index_of(video), fresh)
    assert index_cache.load_index(entry) is not None
    assert numbers(video) == NUMBERS


def test_a_cache_that_cannot_be_written_does_not_matter(video: Path, cache: Path) -> None:
    cache.write_text("no directory")
    assert numbers(video) == NUMBERS


def test_a_check_trusts_no_cache(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_of(video)
    monkeypatch.setattr(index_cache, "load_index", lambda entry: pytest.fail("the cache is asked"))
    assert check_video(video, 3) == FRAMES


def test_what_cannot_be_indexed_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "clip.mp4").write_text("no video")
    with pytest.raises(DecodeError):
        numbers(tmp_path / "clip.mp4")
    assert not cache.exists()


def test_the_cache_stays_within_its_bound(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_of(video)
    entry = index_cache.entry_of(video)
    assert entry is not None
    for number in range(40):
        (entry.parent / f"{number:062d}").write_bytes(bytes(4096))
    index_cache.clean(entry.parent)
    assert len(list(entry.parent.iterdir())) == 41
    monkeypatch.setattr(index_cache, "MOST_BYTES", 20 * 4096 * 256)
    index_cache.clean(entry.parent)
    assert 10 <= len(list(entry.parent.iterdir())) <= 15


def test_writers_and_readers_do_not_disturb_each_other(video: Path) -> None:
    with PacketReader(video) as reader:
        index = read_index(reader)
    entry = index_cache.entry_of(video)
    assert entry is not None
    index_cache.store_index(entry, index)
    with ThreadPoolExecutor(4) as threads:
        writing = [threads.submit(index_cache.store_index, entry, index) for _ in range(40)]
        found = [index_cache.load_index(entry) for _ in range(40)]
        assert [future.result() for future in writing] == [None] * 40
    for one in found:
        assert one is not None
        assert_equal(one, index)


def test_random_numbers_are_left_as_they_are(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cache, "_NAMES_THAT_CLEAN", tuple("0123456789abcdef"))
    monkeypatch.setattr(index_cache, "MOST_BYTES", 0)
    before = random.getstate(), np.random.get_state()[1].tolist()
    index_of(video)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
