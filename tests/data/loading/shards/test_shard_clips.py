import errno
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_shards import picture, samples, write_shard
from torch.utils.data import DataLoader, Dataset

from evlvideo.data.loading.mixture import Mixture
from evlvideo.data.loading.shards.clips import ShardClips, find_shards
from evlvideo.data.loading.shards.dataset import ShardDataset
from evlvideo.data.media import shard_files
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import TarMember
from evlvideo.data.media.shard_files import ShardFile
from evlvideo.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two shards of three and two samples."""
    write_shard(tmp_path / "00001.tar", samples(range(3, 5)))
    write_shard(tmp_path / "00000.tar", samples(range(3)))
    return tmp_path


@pytest.fixture
def clips(root: Path) -> ShardClips:
    return ShardClips(find_shards(root))


def decode(media: TarMember, generator: torch.Generator) -> np.ndarray:
    """The image, beside a random number."""
    shade = np.asarray(Image.open(media.open()).convert("RGB"))[0, 0, 0]
    return np.array([[[[shade, 0, int(torch.randint(256, (), generator=generator))]]]], np.uint8)


def to_tensor(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() + torch.rand(()) / 10


def dataset(clips: ShardClips, seed: int = 0) -> ShardDataset:
    return ShardDataset(clips, decode=decode, transform=to_tensor, seed=seed)


def test_shards_go_by_their_names(root: Path) -> None:
    (root / "._00000.tar").write_bytes(b"\x00\x05\x16\x07")  # as macOS adds it
    assert [shard.name for shard in find_shards(root)] == ["00000.tar", "00001.tar"]


def test_samples_are_numbered_across_shards(clips: ShardClips) -> None:
    assert [clip.clip_id for clip in clips] == [
        "00000/000000",
        "00000/000001",
        "00000/000002",
        "00001/000003",
        "00001/000004",
    ]
    assert [clip.captions for clip in clips[3:]] == [("picture 3",), ("picture 4",)]
    assert clips[-1] == clips[4]


@pytest.mark.parametrize("number", [5, -6])
def test_numbers_end_with_the_shards(clips: ShardClips, number: int) -> None:
    with pytest.raises(IndexError, match="the shards have 5 samples"):
        clips[number]


def test_media_are_read_on_demand(clips: ShardClips) -> None:
    member = clips[3].video
    assert member.suffix == ".png"
    assert member.read() == picture(3)
    assert Image.open(member.open()).getpixel((0, 0)) == (3, 3, 3)


def test_nothing_is_unpacked(tmp_path: Path) -> None:
    write_shard(tmp_path / "in" / "a.tar", {"../../x.png": picture(1), "../../x.txt": b"a"})
    clips = ShardClips([tmp_path / "in" / "a.tar"])
    assert clips[0].video.read() == picture(1)
    with clips[0].video.as_file() as path:
        assert path.name.startswith("evlvideo-")
    assert {path.name for path in tmp_path.rglob("*") if not path.name.startswith(".")} == {
        "in",
        "a.tar",
        "a.tar.index.safetensors",
    }


def test_indexes_may_lie_elsewhere(root: Path, tmp_path: Path) -> None:
    ShardClips(find_shards(root), index_root=tmp_path / "indexes")
    assert len(list((tmp_path / "indexes").glob("*.safetensors"))) == 2
    assert not list(root.glob("*.safetensors"))


def open_shards(clips: ShardClips) -> list[str]:
    return [shard.name for place, shard in enumerate(clips.shards) if place in clips._open]


def test_no_more_shards_than_allowed_are_open(clips: ShardClips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evlvideo.data.loading.shards.clips.MOST_OPEN", 1)
    assert [clips[number].captions[0] for number in (0, 4, 1)] == ["picture 0", "picture 4", "picture 1"]
    assert open_shards(clips) == ["00000.tar"]


def test_a_shard_that_is_no_longer_used_is_closed(clips: ShardClips, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("open files are counted in /proc")
    monkeypatch.setattr("evlvideo.data.loading.shards.clips.MOST_OPEN", 1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert [clips[number].captions[0] for number in (0, 4)] == ["picture 0", "picture 4"]
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 1


def test_a_shard_is_opened_once(clips: ShardClips, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(
        "evlvideo.data.loading.shards.clips.ShardFile", lambda path: opened.append(path.name) or ShardFile(path)
    )
    assert [clip.video.read() for clip in clips] == [picture(number) for number in range(5)]
    assert opened == ["00000.tar", "00001.tar"]


def test_an_image_and_its_caption_are_read_in_one_go(clips: ShardClips, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = ShardFile.read
    monkeypatch.setattr(ShardFile, "read", lambda *arguments: reads.append(arguments) or read(*arguments))
    clip = clips[1]
    assert (clip.captions, clip.video.read()) == (("picture 1",), picture(1))
    assert len(reads) == 1


def test_a_caption_far_from_its_image_is_read_by_itself(tmp_path: Path) -> None:
    members = {"a.png": picture(1), "a.npy": bytes(100_000), "a.txt": b"a"}
    clip = ShardClips([write_shard(tmp_path / "a.tar", members)])[0]
    assert (clip.captions, clip.video.read()) == (("a",), picture(1))


def test_a_video_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    clip = ShardClips([write_shard(tmp_path / "a.tar", {"a.txt": b"a", "a.mp4": b"video"})])[0]
    assert clip.video.content is None
    assert clip.video.read() == b"video"


def test_copies_for_workers_leave_open_shards_behind(clips: ShardClips) -> None:
    assert clips[0]
    copy = pickle.loads(pickle.dumps(clips))
    assert not copy._open
    assert copy[0] == clips[0]


def test_workers_that_inherit_open_shards_do_not_disturb_each_other(clips: ShardClips) -> None:
    assert len([clips[number] for number in range(5)]) == 5
    loader = DataLoader(Captions(clips), batch_size=1, num_workers=2, sampler=[*range(5)] * 40)
    assert [batch[0] for batch in loader] == [f"picture {number}" for number in range(5)] * 40


class Captions(Dataset[str]):
    def __init__(self, clips: ShardClips) -> None:
        self.clips = clips

    def __getitem__(self, number: int) -> str:
        return self.clips[number].captions[0]


def test_a_walk_is_in_an_order_of_its_own(clips: ShardClips) -> None:
    walks = [[dataset(clips).in_order(place, key) for place in range(5)] for key in range(10)]
    assert all(sorted(walk) == [0, 1, 2, 3, 4] for walk in walks)
    assert len({tuple(walk) for walk in walks}) > 5


def test_a_shard_that_changes_meanwhile_is_refused(root: Path, clips: ShardClips) -> None:
    assert clips[4].captions == ("picture 4",)
    write_shard(root / "00001.tar", samples(range(30)))
    with pytest.raises(UserError, match="is not the index of"):
        clips[4]


def test_a_shard_that_is_replaced_meanwhile_is_refused_when_it_is_opened(root: Path, clips: ShardClips) -> None:
    write_shard(root / "other", samples(range(30))).replace(root / "00001.tar")
    with pytest.raises(UserError, match="is not the index of"):
        clips[4]


def test_a_shard_that_is_replaced_while_it_is_open_stays_what_it_was(root: Path, clips: ShardClips) -> None:
    assert clips[4].captions == ("picture 4",)
    write_shard(root / "other", samples(range(30))).replace(root / "00001.tar")
    assert clips[3].captions == ("picture 3",)


def test_a_shard_that_is_gone_is_named(root: Path, clips: ShardClips) -> None:
    (root / "00001.tar").unlink()
    with pytest.raises(UserError, match=r"The shard .*00001\.tar cannot be read: No such file"):
        clips[4]


def test_a_video_of_a_shard_that_is_cut_short_meanwhile_is_refused(tmp_path: Path) -> None:
    clips = ShardClips([write_shard(tmp_path / "a.tar", {"a.txt": b"a", "a.mp4": b"video"})])
    member = clips[0].video
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.tar is truncated"):
        member.read()


def failing(monkeypatch: pytest.MonkeyPatch, *errors: int | None) -> None:
    """Let reading a shard fail with these numbers, one after the other, and then always with the last."""
    read, left = ShardFile.read, list(errors)

    def fail(file: ShardFile, offset: int, size: int) -> bytes:
        number = left.pop(0) if len(left) > 1 else left[0]
        if number is not None:
            raise OSError(number, os.strerror(number))
        return read(file, offset, size)

    monkeypatch.setattr(ShardFile, "read", fail)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is waited, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(shard_files.time, "sleep", waited.append)
    monkeypatch.setattr(shard_files, "_given_up", set())
    return waited


def test_a_failure_that_passes_is_waited_for(
    clips: ShardClips, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, errno.EIO, errno.ESTALE, None)
    assert clips[4].captions == ("picture 4",)
    assert waits == [1.0, 2.0]


def test_other_samples_take_the_place_of_those_of_a_shard_that_cannot_be_read(
    clips: ShardClips, waits: list[float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read, broken = ShardClips._clip, [1]

    def fail(self: ShardClips, place: int, row: int) -> Any:
        if place in broken:
            raise OSError(errno.EIO, "Input/output error")
        return read(self, place, row)

    monkeypatch.setattr(ShardClips, "_clip", fail)
    drawn = dataset(clips)
    assert {drawn[index]["clip_id"][:5] for index in range(5)} == {"00000"}
    assert waits == list(shard_files.WAITS_SECONDS)  # Once, and not for each sample.
    assert len([record for record in caplog.records if "replace its own" in record.getMessage()]) == 1
    assert drawn.bad_clips == []
    broken.clear()
    assert drawn[4]["clip_id"] == "00001/000004"
    assert "can be read again" in caplog.text


def test_a_failure_that_lasts_ends_the_run(
    clips: ShardClips, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, errno.EIO)
    with pytest.raises(DecodeError, match="00001/000004 cannot be decoded, nor any of 100 drawn in its place"):
        dataset(clips)[4]
    assert sum(waits) < 300


def test_a_failure_that_does_not_pass_is_not_waited_for(
    clips: ShardClips, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, errno.EACCES)
    with pytest.raises(UserError, match=r"The shard .*00001\.tar cannot be read: Permission denied"):
        clips[4]
    assert waits == []


def test_shards_need_names_of_their_own(root: Path) -> None:
    other = write_shard(root / "other" / "00000.tar", samples(range(1)))
    with pytest.raises(UserError, match="Several shards are called 00000; their clips would have the same ids"):
        ShardClips([*find_shards(root), other])


def test_no_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There are no shards"):
        ShardClips([])
    with pytest.raises(UserError, match=r"There are no \.tar files in"):
        find_shards(tmp_path)
    with pytest.raises(UserError, match=r"There are no \.tar files in"):
        find_shards(tmp_path / "none")


def test_an_item_has_what_training_needs(clips: ShardClips) -> None:
    item = dataset(clips)[3]
    assert (item["clip_id"], item["caption"], item["captions"]) == ("00001/000003", "picture 3", ["picture 3"])
    assert item["pixel_values"].shape == (1, 3, 1, 1)
    assert int(item["pixel_values"][0, 0, 0, 0]) == 3


def values(dataset: ShardDataset, walk: int = 0) -> list[float]:
    return [float(dataset.item(index, walk)["pixel_values"].sum()) for index in range(len(dataset))]


def test_items_are_a_function_of_seed_walk_and_index(clips: ShardClips) -> None:
    first = values(dataset(clips))
    loader = DataLoader(dataset(clips), batch_size=None, num_workers=2)
    assert [float(item["pixel_values"].sum()) for item in loader] == first
    assert values(dataset(clips), walk=1) != first
    assert values(dataset(clips, seed=1)) != first


def test_one_of_several_captions_is_drawn(tmp_path: Path) -> None:
    members = {"a.png": picture(1), "a.json": b'{"captions": ["a", "b"]}'}
    drawn = dataset(ShardClips([write_shard(tmp_path / "a.tar", members)]))
    seen = set()
    for walk in range(20):
        item = drawn.item(0, walk)
        assert item["captions"] == ["a", "b"]
        assert item["captions"][item["caption_place"]] == item["caption"]
        seen.add(item["caption"])
    assert seen == {"a", "b"}


def test_another_sample_takes_the_place_of_one_that_cannot_be_decoded(
    clips: ShardClips, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[TarMember] = []

    def refuse_once(path: TarMember, generator: torch.Generator) -> np.ndarray:
        calls.append(path)
        if len(calls) == 1:
            raise DecodeError("no picture.")
        return decode(path, generator)

    drawn = ShardDataset(clips, decode=refuse_once, transform=to_tensor, seed=0)
    assert drawn[0]["caption"]
    assert drawn.bad_clips == ["00000/000000"]
    assert [record.getMessage().split()[0] for record in caplog.records] == ["00000/000000"]


def test_a_sample_that_cannot_be_decoded_is_tried_once(clips: ShardClips) -> None:
    tried: list[str] = []

    def refuse_first(media: TarMember, generator: torch.Generator) -> np.ndarray:
        tried.append(media.name)
        if media.name == clips[0].video.name and media.shard == clips[0].video.shard:
            raise DecodeError("no picture.")
        return decode(media, generator)

    drawn = ShardDataset(clips, decode=refuse_first, transform=to_tensor, seed=0)
    first = drawn[0]
    assert len(tried) == 2
    assert drawn[0]["clip_id"] == first["clip_id"]
    assert len(tried) == 3


def test_samples_that_cannot_be_decoded_at_all_are_an_error(clips: ShardClips) -> None:
    def refuse(path: TarMember, generator: torch.Generator) -> np.ndarray:
        raise DecodeError("no picture.")

    with pytest.raises(DecodeError, match="00000/000000 cannot be decoded, nor any of 100 drawn in its place"):
        ShardDataset(clips, decode=refuse, transform=to_tensor, seed=0)[0]


def test_iterating_over_samples_ends(clips: ShardClips) -> None:
    drawn = dataset(clips)
    assert len([drawn[index] for index in range(len(drawn))]) == len(drawn)
    with pytest.raises(IndexError):
        drawn[len(drawn)]


def test_shards_can_be_mixed(clips: ShardClips) -> None:
    mixed = Mixture({"a": dataset(clips), "b": dataset(clips, seed=1)}, {"a": 2, "b": 1}, seed=0)
    mixed.set_epoch(1)
    assert len([mixed[index]["clip_id"] for index in range(len(mixed))]) == len(mixed)


def test_a_mixture_walks_through_shards_in_their_own_order(clips: ShardClips) -> None:
    """A few shards at a time, where any sample might come after any other."""
    drawn = dataset(clips)
    asked: list[int] = []
    original = drawn.in_order
    drawn.in_order = lambda place, key: asked.append(place) or original(place, key)  # type: ignore[method-assign, func-returns-value]
    mixed = Mixture({"a": drawn}, {"a": 1}, seed=0)
    assert sorted(mixed[index]["clip_id"] for index in range(5)) == [clip.clip_id for clip in clips]
    assert asked == list(range(5))
