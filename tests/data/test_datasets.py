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

from evlvideo.data.annotations import CaptionedClip
from evlvideo.data.datasets import CaptionDataset
from evlvideo.data.decode import DecodeError
from evlvideo.data.transforms import eval_transform, train_transform
from evlvideo.errors import UserError

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

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
        transform=train_transform(32, MEAN, STD, 0.5, 0.5),
        seed=7,
        per_caption=True,
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


def test_one_item_for_each_clip(make: Make) -> None:
    items = list(make(per_caption=False))
    assert [item["clip_id"] for item in items] == ["video0", "video1", "video2"]
    assert items[2]["captions"] == ["a light", "a lamp", "a slow lamp"]
    assert "caption" not in items[2]


def test_pixel_values_are_frames_by_channels_by_side(make: Make) -> None:
    assert make()[0]["pixel_values"].shape == (4, 3, 32, 32)
    assert make()[0]["pixel_values"].dtype == torch.float32


def test_the_sampling_chooses_the_frames(make: Make) -> None:
    transform = eval_transform(32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    video = make(sampling="uniform", transform=transform)[0]["pixel_values"]
    frames = (video.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    assert [index_of(frame) for frame in frames] == [0, 6, 12, 18]


def test_an_item_is_the_same_whenever_it_is_asked(make: Make) -> None:
    dataset = make()
    forwards = pixels(dataset[index] for index in range(6))
    torch.manual_seed(123)
    backwards = pixels(dataset[index] for index in reversed(range(6)))
    assert torch.equal(forwards, backwards.flip(0))


@pytest.mark.parametrize("change", [{"seed": 8}, {"epoch": 1}, {"index": 1}])
def test_seed_epoch_and_index_each_change_the_draw(make: Make, change: dict[str, int]) -> None:
    dataset = make(seed=change.get("seed", 7))
    dataset.set_epoch(change.get("epoch", 0))
    assert not torch.equal(dataset[change.get("index", 0)]["pixel_values"], make()[0]["pixel_values"])


def test_an_epoch_comes_again(make: Make) -> None:
    dataset, later = make(), make()
    first = pixels(dataset)
    dataset.set_epoch(3)
    later.set_epoch(3)
    assert torch.equal(pixels(dataset), pixels(later))
    dataset.set_epoch(0)
    assert torch.equal(pixels(dataset), first)


def test_workers_change_nothing(make: Make) -> None:
    dataset = make()
    dataset.set_epoch(2)
    assert torch.equal(loaded(dataset, num_workers=2), pixels(dataset))


def test_workers_that_stay_see_the_next_epoch(make: Make) -> None:
    dataset = make()
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    first = pixels(loader)
    dataset.set_epoch(1)
    second = pixels(loader)
    assert torch.equal(second, pixels(dataset))
    assert not torch.equal(second, first)


def test_the_global_generator_is_left_alone(make: Make) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    make()[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_second_choice_of_frames_is_the_first(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # As where decord fails after it chose, and PyAV chooses again.
    chosen: list[list[int]] = []

    def decode_twice(path: Path, choose: Callable[[int], list[int]], size: int) -> np.ndarray:
        chosen.extend([choose(300), choose(300)])
        return np.zeros((4, size, size, 3), np.uint8)

    monkeypatch.setattr("evlvideo.data.datasets.decode_frames", decode_twice)
    make()[0]
    assert chosen[0] == chosen[1]


def test_a_clip_that_cannot_be_decoded_is_named(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "video9.mp4"
    path.write_text("no video")
    dataset = CaptionDataset([CaptionedClip("video9", path, ("a",))], **make.keywords)  # type: ignore[attr-defined]
    for workers in (0, 1):
        with pytest.raises(DecodeError) as caught:
            loaded(dataset, num_workers=workers)
        assert re.fullmatch(r"\S+video9\.mp4 cannot be decoded: Invalid data found [^\n]+", str(caught.value))


def test_an_index_past_the_end_ends_iteration(make: Make) -> None:
    with pytest.raises(IndexError):
        make()[6]


def test_an_unknown_sampling_is_refused(make: Make) -> None:
    with pytest.raises(UserError, match="'random'; allowed: uniform, headtail"):
        make(sampling="random")


@pytest.mark.parametrize(("given", "missing"), [(0, "clips"), (1, "captions")])
def test_nothing_to_iterate_over_is_refused(make: Make, clip: Path, given: int, missing: str) -> None:
    with pytest.raises(UserError, match=f"no {missing} were given"):
        CaptionDataset([CaptionedClip("video0", clip, ())][:given], **make.keywords)  # type: ignore[attr-defined]
