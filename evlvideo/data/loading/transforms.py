"""Decoded frames to what a model is given, by the recipe published for EVLGen-video.

A transform takes the frames of one clip, uint8 of shape (frames, height, width, 3), and returns a uint8 tensor of shape
(frames, 3, image_size, image_size). Pixels stay whole numbers, as in the published recipe, a quarter of the bytes of
float32 on their way from a worker to the device; the vision tower normalises them there. What is random is drawn once
for all frames, from torch's global generator.
"""

from collections.abc import Callable
from functools import partial
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

import numpy as np
import pytorchvideo
import torch
from torch import Tensor
from torchvision.transforms import functional

# The file alone: its package, in pytorchvideo 0.1.5, imports a module that torchvision 0.17 removed.
_spec = PathFinder.find_spec("functional", [f"{pytorchvideo.__path__[0]}/transforms"])
assert _spec is not None and _spec.loader is not None, "pytorchvideo is a dependency"
_pytorchvideo = module_from_spec(_spec)
_spec.loader.exec_module(_pytorchvideo)

Transform = Callable[[np.ndarray], Tensor]

TRANSFORM_VERSION = 2
"""Goes up when :func:`eval_transform` makes other pixels of the same frames, and stored features of them are stale."""

_ASPECT_RATIOS = (3 / 4, 4 / 3)


def train_transform(image_size: int, crop_scale_min: float, horizontal_flip: float) -> Transform:
    """Random resized crop (bicubic) and horizontal flip.

    Args:
        image_size: side of the result in pixels.
        crop_scale_min: smallest area of the crop as a share of the frame; the largest is 1.
        horizontal_flip: probability of a flip.
    """
    return partial(_train, image_size=image_size, crop_scale_min=crop_scale_min, horizontal_flip=horizontal_flip)


def eval_transform(image_size: int, *, keep_aspect: bool = False) -> Transform:
    """Resize to a square (bicubic, antialiased) where the frames are not of that size.

    Args:
        image_size: side of the result in pixels.
        keep_aspect: resize the shorter side only, and cut the square out of the middle. The published recipe does not.
            Frames should be decoded with their aspect, see :func:`evlvideo.data.video.decode.decode_frames`.
    """
    return partial(_eval, image_size=image_size, keep_aspect=keep_aspect)


def _train(frames: np.ndarray, *, image_size: int, crop_scale_min: float, horizontal_flip: float) -> Tensor:
    video: Tensor = _pytorchvideo.random_resized_crop(
        _channels_first(frames).float().transpose(0, 1),  # (C, T, H, W)
        image_size,
        image_size,
        scale=(crop_scale_min, 1.0),
        aspect_ratio=_ASPECT_RATIOS,
        interpolation="bicubic",
    ).transpose(0, 1)  # (T, C, size, size)
    if torch.rand(()) < horizontal_flip:
        video = video.flip(-1)
    return _whole_numbers(video)


def _eval(frames: np.ndarray, *, image_size: int, keep_aspect: bool) -> Tensor:
    video = _channels_first(frames)
    height, width = video.shape[-2:]
    if keep_aspect:
        if min(height, width) != image_size:
            video = functional.resize(video.float(), [image_size], functional.InterpolationMode.BICUBIC, antialias=True)
        video = functional.center_crop(video, [image_size])  # (T, C, size, size)
    elif (height, width) != (image_size, image_size):
        size = (image_size, image_size)
        video = torch.nn.functional.interpolate(video.float(), size, mode="bicubic", antialias=True)
    return _whole_numbers(video)


def _channels_first(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # (T, C, H, W)


def _whole_numbers(video: Tensor) -> Tensor:
    """Pixels 0…255 as uint8; those that were scaled are rounded."""
    if video.dtype != torch.uint8:
        # Bicubic interpolation overshoots at edges; no pixel was above 255 or below 0.
        video = video.clamp(0, 255).round().to(torch.uint8)
    return video.contiguous()
