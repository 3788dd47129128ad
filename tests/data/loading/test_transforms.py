import pickle

import numpy as np
import pytest
import torch

from evlvideo.data.loading.transforms import eval_transform, train_transform


def noise(frames: int = 4, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def still(frames: int = 4) -> np.ndarray:
    """One noisy image, in every frame."""
    return noise(1).repeat(frames, axis=0)


def test_eval_changes_no_pixel_of_frames_of_the_right_size() -> None:
    frames = noise()
    video = eval_transform(32)(frames)
    assert torch.equal(video, torch.from_numpy(frames).permute(0, 3, 1, 2))
    assert video.is_contiguous()


def test_eval_resizes_frames_of_another_size() -> None:
    video = eval_transform(16)(noise(2, 48, 20))
    assert video.shape == (2, 3, 16, 16)
    assert video.dtype == torch.uint8


def test_eval_draws_nothing() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    eval_transform(16)(noise())
    assert torch.equal(torch.get_rng_state(), before)


def test_train_gives_square_frames_of_whole_numbers() -> None:
    video = train_transform(24, 0.5, 0.5)(noise(3))
    assert video.shape == (3, 3, 24, 24)
    assert video.dtype == torch.uint8
    assert video.is_contiguous()


def test_train_draws_once_for_all_frames() -> None:
    transform = train_transform(24, 0.5, 0.5)
    for seed in range(10):
        torch.manual_seed(seed)
        video = transform(still())
        assert torch.equal(video, video[:1].expand_as(video))


def test_train_follows_the_global_generator() -> None:
    transform = train_transform(24, 0.5, 0.5)
    videos = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        videos.append(transform(noise()))
    assert torch.equal(videos[0], videos[1])
    assert not torch.equal(videos[0], videos[2])


@pytest.mark.parametrize(("probability", "flips"), [(0.0, {False}), (1.0, {True}), (0.5, {False, True})])
def test_flips_have_the_given_probability(probability: float, flips: set[bool]) -> None:
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    frames[:, :, :16] = 255
    transform = train_transform(32, 0.9, probability)
    videos = [transform(frames) for _ in range(30)]
    assert {bool(video[..., -4:].float().mean() > video[..., :4].float().mean()) for video in videos} == flips


def test_crops_are_at_least_as_large_as_asked() -> None:
    # A ramp: the range of values that is left tells the share of the width that the crop kept.
    frames = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[None, None, :, None], (1, 64, 1, 3))
    wide, narrow = (train_transform(64, scale, 0.0) for scale in (0.9, 0.1))
    kept_wide, kept_narrow = (
        [float(np.ptp(transform(frames).numpy())) for _ in range(40)] for transform in (wide, narrow)
    )
    assert min(kept_wide) > 0.8 * 255
    assert min(kept_narrow) < 0.5 * 255


def test_scaled_pixels_are_clamped_and_rounded() -> None:
    frames = np.where(noise() > 127, 255, 0).astype(np.uint8)
    video = train_transform(64, 1.0, 0.0)(frames)  # a crop of the whole frame
    exact = torch.nn.functional.interpolate(
        torch.from_numpy(frames).permute(0, 3, 1, 2).float(), (64, 64), mode="bicubic"
    )
    assert exact.min() < -1 and exact.max() > 256  # the case can tell: what overshoots would wrap around
    assert torch.equal(video.float(), exact.clamp(0, 255).round())


def test_eval_scales_as_before_but_for_rounding() -> None:
    frames = noise(2, 48, 20)
    exact = torch.nn.functional.interpolate(
        torch.from_numpy(frames).permute(0, 3, 1, 2).float(), (16, 16), mode="bicubic", antialias=True
    )
    assert (eval_transform(16)(frames).float() - exact.clamp(0, 255)).abs().max() <= 0.5


def test_transforms_travel_to_spawned_workers() -> None:
    for transform in (train_transform(24, 0.5, 0.5), eval_transform(24)):
        assert pickle.loads(pickle.dumps(transform))(noise()).shape == (4, 3, 24, 24)


def test_frames_turned_by_the_decoder_are_accepted() -> None:
    turned = np.rot90(noise(), axes=(1, 2))  # negative strides
    assert eval_transform(32)(turned).shape == (4, 3, 32, 32)


def test_eval_can_keep_the_aspect_and_cut_out_the_middle() -> None:
    frames = np.zeros((2, 20, 60, 3), np.uint8)
    frames[:, :, 20:40] = 255
    video = eval_transform(20, keep_aspect=True)(frames)
    assert video.shape == (2, 3, 20, 20)
    assert video.min() == 255
    # The published way squeezes the whole width into the square.
    assert eval_transform(20)(frames).min() == 0


@pytest.mark.parametrize(("height", "width"), [(30, 90), (90, 30), (33, 47), (16, 16), (8, 100)])
def test_eval_that_keeps_the_aspect_gives_a_square_of_any_frame(height: int, width: int) -> None:
    video = eval_transform(16, keep_aspect=True)(noise(3, height, width))
    assert video.shape == (3, 3, 16, 16)


def test_frames_of_the_right_height_are_only_cut() -> None:
    frames = noise(2, 16, 24)
    video = eval_transform(16, keep_aspect=True)(frames)
    assert torch.equal(video, torch.from_numpy(frames[:, :, 4:20]).permute(0, 3, 1, 2))
