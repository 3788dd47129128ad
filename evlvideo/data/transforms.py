"""Decoded frames to normalised tensors, by the recipe published for EVLGen-video.

A transform takes the frames of one clip, uint8 of shape (frames, height, width, 3), and returns a float32 tensor of
shape (frames, 3, image_size, image_size). What is random is drawn once for all frames, from torch's global generator.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import _functional_tensor, functional

with warnings.catch_warnings():
    # pytorchvideo 0.1.5 still asks for a module by the public name it had before torchvision 0.17, and for torch.jit.
    sys.modules.setdefault("torchvision.transforms.functional_tensor", _functional_tensor)
    warnings.simplefilter("ignore", FutureWarning)
    from pytorchvideo.transforms.functional import random_resized_crop

Transform = Callable[[np.ndarray], Tensor]

TRANSFORM_VERSION = 1
"""Goes up when :func:`eval_transform` makes other pixels of the same frames, and stored features of them are stale."""

_ASPECT_RATIOS = (3 / 4, 4 / 3)


def train_transform(
    image_size: int, mean: Sequence[float], std: Sequence[float], crop_scale_min: float, horizontal_flip: float
) -> Transform:
    """Random resized crop (bicubic), horizontal flip, normalisation.

    Args:
        image_size: side of the result in pixels.
        mean: mean of each channel, with pixels from 0 to 1.
        std: standard deviation of each channel.
        crop_scale_min: smallest area of the crop as a share of the frame; the largest is 1.
        horizontal_flip: probability of a flip.
    """
    return partial(
        _train,
        image_size=image_size,
        mean=tuple(mean),
        std=tuple(std),
        crop_scale_min=crop_scale_min,
        horizontal_flip=horizontal_flip,
    )


def eval_transform(
    image_size: int, mean: Sequence[float], std: Sequence[float], *, keep_aspect: bool = False
) -> Transform:
    """Resize to a square (bicubic, antialiased) where the frames are not of that size, then normalise.

    Args:
        image_size: side of the result in pixels.
        mean: mean of each channel, with pixels from 0 to 1.
        std: standard deviation of each channel.
        keep_aspect: resize the shorter side only, and cut the square out of the middle. The published recipe does not.
            Frames should be decoded with their aspect, see :func:`evlvideo.data.decode.decode_clip`.
    """
    return partial(_eval, image_size=image_size, mean=tuple(mean), std=tuple(std), keep_aspect=keep_aspect)


def _train(
    frames: np.ndarray,
    *,
    image_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    crop_scale_min: float,
    horizontal_flip: float,
) -> Tensor:
    video = random_resized_crop(
        _unit_range(frames).transpose(0, 1),  # (C, T, H, W)
        image_size,
        image_size,
        scale=(crop_scale_min, 1.0),
        aspect_ratio=_ASPECT_RATIOS,
        interpolation="bicubic",
    ).transpose(0, 1)  # (T, C, size, size)
    if torch.rand(()) < horizontal_flip:
        video = video.flip(-1)
    return _normalise(video, mean, std)


def _eval(
    frames: np.ndarray, *, image_size: int, mean: tuple[float, ...], std: tuple[float, ...], keep_aspect: bool
) -> Tensor:
    video = _unit_range(frames)
    if keep_aspect:
        video = functional.resize(video, [image_size], functional.InterpolationMode.BICUBIC, antialias=True)
        video = functional.center_crop(video, [image_size])  # (T, C, size, size)
    elif video.shape[-2:] != (image_size, image_size):
        video = torch.nn.functional.interpolate(video, (image_size, image_size), mode="bicubic", antialias=True)
    return _normalise(video, mean, std)


def _unit_range(frames: np.ndarray) -> Tensor:
    video = torch.from_numpy(np.ascontiguousarray(frames))  # (T, H, W, C)
    return video.permute(0, 3, 1, 2).float() / 255


def _normalise(video: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    # Bicubic interpolation overshoots at edges; no pixel was above 1 or below 0.
    centred = video.clamp(0, 1) - torch.tensor(mean).view(-1, 1, 1)
    return (centred / torch.tensor(std).view(-1, 1, 1)).contiguous()
