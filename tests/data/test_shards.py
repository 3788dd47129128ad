import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import index_of, render
from tiny_shards import picture, samples, write_shard
from torch.utils.data import DataLoader

from evlvideo.data.clip import DecodeError
from evlvideo.data.mixture import Mixture
from evlvideo.data.shards import ShardClips, ShardDataset, find_shards
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


def decode(path: Path, generator: torch.Generator) -> np.ndarray:
    """The picture, beside a random number."""
    shade = np.asarray(Image.open(path).convert("RGB"))[0, 0, 0]
    return np.array([[[[shade, 0, int(torch.randint(256, (), generator=generator))]]]], np.uint8)


def to_tensor(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() + torch.rand(()) / 10


def dataset(clips: ShardClips, seed: int = 0) -> ShardDataset:
    return ShardDataset(clips, decode=decode, transform=to_tensor, seed=seed)


def test_shards_go_by_their_names(root: Path) -> None:
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


def test_a_path_is_lent(clips: ShardClips) -> None:
    with clips[3].video.as_file() as path:
        assert path.suffix == ".png"
        assert path.read_bytes() == picture(3)
    assert not path.exists()


def test_nothing_is_unpacked(tmp_path: Path) -> None:
    write_shard(tmp_path / "in" / "a.tar", {"../../x.png": picture(1), "../../x.txt": b"a"})
    clips = ShardClips([tmp_path / "in" / "a.tar"])
    with clips[0].video.as_file() as path:
        assert path.name.startswith("evlvideo-")
    assert {path.name for path in tmp_path.rglob("*")} == {"in", "a.tar", "a.tar.index.safetensors"}


def test_indexes_may_lie_elsewhere(root: Path, tmp_path: Path) -> None:
    ShardClips(find_shards(root), index_root=tmp_path / "indexes")
    assert len(list((tmp_path / "indexes").iterdir())) == 2
    assert not list(root.glob("*.safetensors"))


def test_no_more_indexes_than_allowed_are_in_memory(clips: ShardClips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evlvideo.data.shards._INDEXES_IN_MEMORY", 1)
    assert [clips[number].captions[0] for number in (0, 4, 1)] == ["picture 0", "picture 4", "picture 1"]
    assert list(clips._indexes) == [0]


def test_copies_for_workers_leave_loaded_indexes_behind(clips: ShardClips) -> None:
    assert clips[0]
    copy = pickle.loads(pickle.dumps(clips))
    assert not copy._indexes
    assert copy[0] == clips[0]


def test_a_shard_that_changes_meanwhile_is_refused(root: Path, clips: ShardClips) -> None:
    write_shard(root / "00001.tar", samples(range(30)))
    with pytest.raises(UserError, match="is not the index of"):
        clips[4]


def test_a_shard_that_is_cut_short_meanwhile_is_refused(root: Path, clips: ShardClips) -> None:
    member = clips[4].video
    (root / "00001.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"00001\.tar is cut short"):
        member.read()


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
    calls: list[Path] = []

    def refuse_once(path: Path, generator: torch.Generator) -> np.ndarray:
        calls.append(path)
        if len(calls) == 1:
            raise DecodeError("no picture.")
        return decode(path, generator)

    drawn = ShardDataset(clips, decode=refuse_once, transform=to_tensor, seed=0)
    assert drawn[0]["caption"]
    assert drawn.bad_clips == ["00000/000000"]
    assert [record.getMessage().split()[0] for record in caplog.records] == ["00000/000000"]


def test_samples_that_cannot_be_decoded_at_all_are_an_error(clips: ShardClips) -> None:
    def refuse(path: Path, generator: torch.Generator) -> np.ndarray:
        raise DecodeError("no picture.")

    with pytest.raises(DecodeError, match="00000/000000 cannot be decoded, nor any of 100 drawn in its place"):
        ShardDataset(clips, decode=refuse, transform=to_tensor, seed=0)[0]


def test_iterating_over_samples_ends(clips: ShardClips) -> None:
    drawn = dataset(clips)
    assert len([drawn[index] for index in range(len(drawn))]) == len(drawn)
    with pytest.raises(IndexError):
        drawn[len(drawn)]


def test_videos_are_decoded(tmp_path: Path) -> None:
    from evlvideo.data.decode import decode_clip

    content = render(tmp_path / "clip.mp4").read_bytes()
    clips = ShardClips([write_shard(tmp_path / "a.tar", {"a.mp4": content, "a.txt": b"a"})])
    with clips[0].video.as_file() as path:
        frames = decode_clip(path, lambda count, rate: [0, count - 1]).frames
    assert [index_of(frame) for frame in frames] == [0, 23]


def test_shards_can_be_mixed(clips: ShardClips) -> None:
    mixed = Mixture({"a": dataset(clips), "b": dataset(clips, seed=1)}, {"a": 2, "b": 1}, seed=0)
    mixed.set_epoch(1)
    assert len([mixed[index]["clip_id"] for index in range(len(mixed))]) == len(mixed)
