"""Paints which patches of a frame were merged into one token.

Notation: `N` tokens of a frame, `M` merged tokens.
"""

import colorsys

import numpy as np
from torch import Tensor

PAINTED_SIDE = 160
"""Longer side of a painted frame in pixels, up to rounding to whole patches."""
_GOLDEN_RATIO = 0.618034
"""Distance between hues that keeps any number of them apart."""


def patch_groups(source: Tensor, prefix_tokens: int) -> np.ndarray:
    """Return the index of the merged token of every patch.

    Args:
        source: zeros and ones `(M, N)`: which tokens were merged into each.
        prefix_tokens: number of tokens before the patches, such as a class token.

    Returns:
        integers `(N − prefix_tokens,)`, from 0 without gaps, in the order in which the groups appear.
    """
    rows = source[:, prefix_tokens:].argmax(dim=0).cpu().numpy()  # every token is in exactly one row
    _, first, indices = np.unique(rows, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return np.asarray(order[indices])


def paint_groups(frame: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Paint each group of patches in the mean colour of its pixels, and draw borders between groups.

    The colour of its border identifies a group whose patches lie apart. Source: the figures of Token Merging (Bolya et
    al., ICLR 2023).

    Args:
        frame: uint8 (H, W, 3), of any size.
        groups: index of the group of each patch, integers (rows, columns) from 0.

    Returns:
        uint8 (h, w, 3), each patch a square.
    """
    rows, columns = groups.shape
    side = patch_side(rows, columns)
    # The cells of a frame whose size is no multiple of the grid differ by a pixel.
    cells = groups[parts_of(frame.shape[0], rows)[:, None], parts_of(frame.shape[1], columns)[None]]  # (H, W)
    counts = np.maximum(np.bincount(cells.ravel(), minlength=groups.max() + 1), 1)
    sums = [np.bincount(cells.ravel(), frame[..., c].ravel(), minlength=len(counts)) for c in range(3)]
    means = np.stack(sums, axis=-1) / counts[:, None]  # (groups, 3)
    drawn = groups.repeat(side, axis=0).repeat(side, axis=1)
    painted = means[drawn].round().astype(np.uint8)
    border = _borders(drawn, max(1, side // 8))
    painted[border] = _hues(len(counts))[drawn[border]]
    return painted


def patch_side(rows: int, columns: int) -> int:
    """Return the side of a painted patch, in pixels."""
    return max(4, round(PAINTED_SIDE / max(rows, columns)))


def parts_of(length: int, count: int) -> np.ndarray:
    """Return which of `count` equal parts each of `length` positions lies in."""
    return np.arange(length) * count // length


def _borders(drawn: np.ndarray, width: int) -> np.ndarray:
    """Mark the pixels with another group within `width` above, below, left or right of them."""
    padded = np.pad(drawn, width, mode="edge")
    border = np.zeros(drawn.shape, bool)
    height, length = drawn.shape
    for shift in range(1, width + 1):
        for down, right in ((shift, 0), (-shift, 0), (0, shift), (0, -shift)):
            top, left = width + down, width + right
            border |= padded[top : top + height, left : left + length] != drawn
    return border


def _hues(count: int) -> np.ndarray:
    """Return a colour for each of `count` groups, uint8 (count, 3)."""
    colours = [colorsys.hsv_to_rgb(index * _GOLDEN_RATIO % 1, 0.75, 0.95) for index in range(count)]
    return (np.array(colours) * 255).round().astype(np.uint8)
