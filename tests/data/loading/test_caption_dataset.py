import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_data import index_of
from torch.utils.data import DataLoader

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.loading.caption_dataset import CaptionDataset
from evlvideo.data.loading.mixture import Mixture
from evlvideo.data.loading.transforms import eval_transform, train_transform
from evlvideo.data.media.errors import DecodeError
from evlvideo.errors import UserError

Make = Callable[..., CaptionDataset]


@pytest.fixture
def clips(clip: Path) -> list[CaptionedClip]:
    return [
        CaptionedClip("video0", clip, ("a bright wall", "a wall that brightens")),
        CaptionedClip("video1", clip, ("it gets lighter",)),
        CaptionedClip("video2", clip, ("a light", "a lamp", "a slow lamp")),
    ]


@pytest.fixture
def make(clips: list[CaptionedClip]) -> Make:
    return partial(
        CaptionDataset,
        clips,
        num_frames=4,
        sampling="headtail",
        image_size=32,
        transform=train_transform(32, 0.5, 0.5),
        seed=7,
        per_caption=True,
        time_limit_seconds=None,
    )


def pixels(items: Any) -> torch.Tensor:
    return torch.stack([item["pixel_values"] for item in items])


def loaded(dataset: CaptionDataset, **arguments: Any) -> torch.Tensor:
    return pixels(DataLoader(dataset, batch_size=None, **arguments))


def test_one_item_for_each_caption(make: Make) -> None:
    items = list(make())
    assert [(item["clip_id"], item["caption"]) for item in items] == [
        ("video0", "a bright wall"),
        ("video0", "a wall that brightens"),
        ("video1", "it gets lighter"),
        ("video2", "a light"),
        ("video2", "a lamp"),
        ("video2", "a slow lamp"),
    ]
    assert items[0]["captions"] == ["a bright wall", "a wall that brightens"]
    assert [item["caption_place"] for item in items] == [0, 1, 0, 0, 1, 2]


def test_one_item_for_each_clip(make: Make) -> None:
    items = list(make(per_caption=False))
    assert [item["clip_id"] for item in items] == ["video0", "video1", "video2"]
    assert items[2]["captions"] == ["a light", "a lamp", "a slow lamp"]
    assert "caption" not in items[2]


def test_pixel_values_are_frames_by_channels_by_side(make: Make) -> None:
    assert make()[0]["pixel_values"].shape == (4, 3, 32, 32)
    assert make()[0]["pixel_values"].dtype == torch.uint8


def test_the_sampling_chooses_the_frames(make: Make) -> None:
    video = make(sampling="uniform", transform=eval_transform(32))[0]["pixel_values"]
    frames = video.permute(0, 2, 3, 1).numpy()
    assert [index_of(frame) for frame in frames] == [0, 6, 12, 18]


@pytest.mark.parametrize("sampling", ["uniform", "headtail"])
def test_the_frames_of_an_item_come_with_their_times(make: Make, sampling: str) -> None:
    dataset = make(sampling=sampling, transform=eval_transform(32))
    decoded = dataset.decode(0)
    assert torch.equal(dataset.transform(decoded.frames), dataset[0]["pixel_values"])
    assert [index_of(frame) for frame in decoded.frames] == list(decoded.indices)
    assert (np.diff(decoded.timestamps_seconds) > 0).all()


def test_an_item_is_the_same_whenever_it_is_asked(make: Make) -> None:
    dataset = make()
    forwards = pixels(dataset[index] for index in range(6))
    torch.manual_seed(123)
    backwards = pixels(dataset[index] for index in reversed(range(6)))
    assert torch.equal(forwards, backwards.flip(0))


@pytest.mark.parametrize("change", [{"seed": 8}, {"walk": 1}, {"index": 1}])
def test_seed_walk_and_index_each_change_the_draw(make: Make, change: dict[str, int]) -> None:
    item = make(seed=change.get("seed", 7)).item(change.get("index", 0), walk=change.get("walk", 0))
    assert not torch.equal(item["pixel_values"], make()[0]["pixel_values"])


def test_a_walk_comes_again(make: Make) -> None:
    dataset = make()
    first = pixels(dataset.item(index, walk=3) for index in range(6))
    assert torch.equal(pixels(make().item(index, walk=3) for index in range(6)), first)
    assert torch.equal(pixels(dataset), pixels(dataset.item(index, walk=0) for index in range(6)))


def test_workers_change_nothing(make: Make) -> None:
    dataset = make()
    assert torch.equal(loaded(dataset, num_workers=2), pixels(dataset))


def test_repeats_of_a_small_source_within_an_epoch_are_new_draws(make: Make) -> None:
    mixed = Mixture({"large": make(), "small": make(per_caption=False)}, {"large": 1, "small": 2}, seed=0)
    shown = [pixels for item in map(mixed.__getitem__, range(len(mixed))) if "caption" not in item
             for pixels in [item["pixel_values"]]]  # fmt: skip
    assert len(shown) == 12  # four walks through three clips
    assert len({tuple(values.flatten().tolist()) for values in shown}) == 12


def test_workers_that_stay_see_the_next_epoch_of_a_mixture(make: Make) -> None:
    mixed = Mixture({"only": make()}, {"only": 1}, seed=0)
    loader: DataLoader[Any] = DataLoader(mixed, batch_size=None, num_workers=2, persistent_workers=True)
    first = pixels(loader)
    mixed.set_epoch(1)
    second = pixels(loader)
    assert torch.equal(second, pixels(mixed[index] for index in range(6)))
    assert not torch.equal(second, first)


def test_the_global_generator_is_left_alone(make: Make) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    make()[0]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def broken(clip: Path, tmp_path: Path) -> list[CaptionedClip]:
    """Twelve clips, of which every third cannot be decoded."""
    path = tmp_path / "broken.mp4"
    path.write_text("no video")
    return [CaptionedClip(f"video{k}", path if k % 3 == 1 else clip, (f"caption of {k}",)) for k in range(12)]


@pytest.fixture
def of_broken(make: Make, broken: list[CaptionedClip]) -> Make:
    return partial(CaptionDataset, broken, **make.keywords)  # type: ignore[attr-defined]


BAD = ["video1", "video4", "video7", "video10"]


@pytest.mark.parametrize("time_limit_seconds", [None, 30.0])
def test_a_clip_that_cannot_be_decoded_is_named(make: Make, tmp_path: Path, time_limit_seconds: float | None) -> None:
    path = tmp_path / "video9.mp4"
    path.write_text("no video")
    clips = [CaptionedClip("video9", path, ("a",))]
    arguments = {**make.keywords, "on_bad_clip": "raise", "time_limit_seconds": time_limit_seconds}  # type: ignore[attr-defined]
    dataset = CaptionDataset(clips, **arguments)
    for workers in (0, 1):
        with pytest.raises(DecodeError) as caught:
            loaded(dataset, num_workers=workers)
        assert re.fullmatch(r"\S+video9\.mp4 cannot be decoded: Invalid data found [^\n]+", str(caught.value))


def test_training_on_captions_takes_another_clip_for_a_bad_one(of_broken: Make) -> None:
    items = list(of_broken())
    assert len(items) == 12
    assert [item["clip_id"] for item in items[::3]] == ["video0", "video3", "video6", "video9"]
    stand_ins = [items[k] for k in (1, 4, 7, 10)]
    assert not {item["clip_id"] for item in stand_ins} & set(BAD)
    assert all(item["caption"] == f"caption of {item['clip_id'][5:]}" for item in stand_ins)
    # Drawn, and not always the neighbour.
    assert len({item["clip_id"] for item in stand_ins}) > 1


def test_evaluation_never_takes_another_clip_by_itself(of_broken: Make) -> None:
    with pytest.raises(DecodeError, match=r"broken\.mp4"):
        list(of_broken(per_caption=False))


def test_self_critical_training_takes_another_clip_where_told(of_broken: Make) -> None:
    items = list(of_broken(per_caption=False, on_bad_clip="resample"))
    assert len(items) == 12
    assert not {item["clip_id"] for item in items} & set(BAD)


def test_stand_ins_are_the_same_whatever_was_found_before(of_broken: Make) -> None:
    dataset, workers = of_broken(), of_broken()
    forwards = [dataset[index] for index in range(12)]
    backwards = [dataset[index] for index in reversed(range(12))][::-1]
    parallel = list(DataLoader(workers, batch_size=None, num_workers=2))
    for items in (backwards, parallel):
        assert [item["clip_id"] for item in items] == [item["clip_id"] for item in forwards]
        assert torch.equal(pixels(items), pixels(forwards))


def test_stand_ins_change_with_the_walk(of_broken: Make) -> None:
    dataset = of_broken()
    drawn = {tuple(dataset.item(k, walk)["clip_id"] for k in (1, 4, 7, 10)) for walk in range(4)}
    assert len(drawn) > 1


def test_bad_clips_are_counted_across_workers_and_loaders(of_broken: Make) -> None:
    dataset = of_broken()
    assert dataset.bad_clips == []
    for _ in range(2):
        loaded(dataset, num_workers=2)
    assert dataset.bad_clips == BAD


def test_a_bad_clip_is_named_once_in_the_log(of_broken: Make, caplog: pytest.LogCaptureFixture) -> None:
    dataset = of_broken()
    for walk in range(3):
        for index in range(12):
            dataset.item(index, walk)
    assert [record.message.split(":")[0] for record in caplog.records if "broken.mp4" in record.message] == BAD


def test_a_skipped_clip_is_marked_with_the_reason(of_broken: Make) -> None:
    items = list(of_broken(per_caption=False, on_bad_clip="skip"))
    assert [item["clip_id"] for item in items] == [f"video{k}" for k in range(12)]
    assert [item["clip_id"] for item in items if "bad" in item] == BAD
    assert all("pixel_values" not in item and "Invalid data" in item["bad"] for item in items if "bad" in item)


def test_training_ends_where_no_clip_can_be_decoded(make: Make, broken: list[CaptionedClip]) -> None:
    dataset = CaptionDataset(broken[1::3], **make.keywords)  # type: ignore[attr-defined]
    with pytest.raises(DecodeError, match=r"video1 cannot be decoded, nor any of 100 .* 4 of 4 are bad"):
        dataset[0]


def test_an_unknown_way_with_bad_clips_is_refused(make: Make) -> None:
    with pytest.raises(UserError, match="'ignore'; allowed: resample, raise, skip"):
        make(on_bad_clip="ignore")


def test_a_crop_gets_frames_with_their_aspect(make: Make) -> None:
    seen: list[tuple[int, ...]] = []

    def transform(frames: np.ndarray) -> torch.Tensor:
        seen.append(frames.shape)
        return torch.zeros(4, 3, 32, 32)

    make(keep_aspect=True, transform=transform)[0]
    assert seen == [(4, 32, 40, 3)]


def test_with_and_without_a_time_limit_items_are_the_same(make: Make) -> None:
    assert torch.equal(make()[0]["pixel_values"], make(time_limit_seconds=60.0)[0]["pixel_values"])


def test_an_index_past_the_end_ends_iteration(make: Make) -> None:
    with pytest.raises(IndexError):
        make()[6]


def test_an_unknown_sampling_is_refused(make: Make) -> None:
    with pytest.raises(UserError, match="'random'; allowed: uniform, headtail, segments"):
        make(sampling="random")


def test_a_table_of_clips_is_not_copied(make: Make, clips: list[CaptionedClip]) -> None:
    table = ClipTable(clips)
    assert CaptionDataset(table, **make.keywords).clips is table  # type: ignore[attr-defined]


@pytest.mark.parametrize(("given", "missing"), [(0, "clips"), (1, "captions")])
def test_nothing_to_iterate_over_is_refused(make: Make, clip: Path, given: int, missing: str) -> None:
    with pytest.raises(UserError, match=f"no {missing} were given"):
        CaptionDataset([CaptionedClip("video0", clip, ())][:given], **make.keywords)  # type: ignore[attr-defined]
