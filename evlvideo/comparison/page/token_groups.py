"""Which patches of a frame were merged into one token, painted.

Notation: `N` tokens of a frame, `M` merged tokens.
"""

import colorsys

import numpy as np
from torch import Tensor

IMAGE_SIDE = 160
"""Pixels, about, of the longer side of a painted frame."""
_GOLDEN_RATIO = 0.618034
"""Hues this far apart stay apart, however many there are."""


def patch_groups(source: Tensor, prefix_tokens: int) -> np.ndarray:
    """Number the merged token of every patch.

    Args:
        source: zeros and ones `(M, N)`, which tell what went into each token.
        prefix_tokens: tokens before the patches, such as a class token, which stand for no place in the image.

    Returns:
        whole numbers `(N − prefix_tokens,)`, from 0, without gaps, in the order in which the groups appear.
    """
    rows = source[:, prefix_tokens:].argmax(dim=0).cpu().numpy()  # every token is in exactly one row
    _, first, numbers = np.unique(rows, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return np.asarray(order[numbers])


def paint_groups(frame: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Paint each group of patches with the mean colour of its pixels, and draw borders between the groups.

    Groups have borders of colours of their own, so that patches that lie apart are seen to be one. Source: Token
    MergingView (Bolya et al., ICLR 2023), its figures.

    Args:
        frame: uint8 (H, W, 3), of any size.
        groups: group by patch, whole numbers (rows, columns) from 0.

    Returns:
        uint8 (h, w, 3), each patch a square.
    """
    rows, columns = groups.shape
    side = max(4, round(IMAGE_SIDE / max(rows, columns)))
    # One colour a pixel of the patch grid: cells of a frame that is not a multiple of the grid differ by a pixel.
    cells = groups[_cells(frame.shape[0], rows)[:, None], _cells(frame.shape[1], columns)[None]]  # (H, W)
    counts = np.maximum(np.bincount(cells.ravel(), minlength=groups.max() + 1), 1)
    sums = [np.bincount(cells.ravel(), frame[..., c].ravel(), minlength=len(counts)) for c in range(3)]
    means = np.stack(sums, axis=-1) / counts[:, None]  # (groups, 3)
    drawn = groups.repeat(side, axis=0).repeat(side, axis=1)
    image = means[drawn].round().astype(np.uint8)
    border = _borders(drawn, max(1, side // 8))
    image[border] = _hues(len(counts))[drawn[border]]
    return image


def _cells(length: int, count: int) -> np.ndarray:
    """Which of `count` equal parts each of `length` places lies in."""
    return np.arange(length) * count // length


def _borders(drawn: np.ndarray, width: int) -> np.ndarray:
    """Mark places within `width` of another group, above, below, left or right of them."""
    padded = np.pad(drawn, width, mode="edge")
    border = np.zeros(drawn.shape, bool)
    height, length = drawn.shape
    for shift in range(1, width + 1):
        for down, right in ((shift, 0), (-shift, 0), (0, shift), (0, -shift)):
            top, left = width + down, width + right
            border |= padded[top : top + height, left : left + length] != drawn
    return border


def _hues(count: int) -> np.ndarray:
    """Colours that tell `count` groups apart, uint8 (count, 3)."""
    colours = [colorsys.hsv_to_rgb(place * _GOLDEN_RATIO % 1, 0.75, 0.95) for place in range(count)]
    return (np.array(colours) * 255).round().astype(np.uint8)
