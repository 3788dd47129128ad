"""Paints which patches of a frame are left after each prune of a vision tower.

Notation: `J` prunes.
"""

import numpy as np

from evlvideo.comparison.page.token_groups import parts_of, patch_side

GAP = 4
"""White pixels between the pictures of two prunes."""
_FADED = 0.8
"""Share of white in a patch that was pruned."""


def paint_pruned(frame: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Paint a frame once for each prune, from top to bottom: what is left in its colors, the rest in pale gray.

    Args:
        frame: uint8 (H, W, 3), of any size.
        left: which patches are left after each prune, booleans (J, rows, columns), such as those of
            :func:`evlvideo.models.tokens.pruning.patches_left`; at least one prune.

    Returns:
        uint8 (J·h + (J − 1)·GAP, w, 3), each patch a square.
    """
    _, rows, columns = left.shape
    side = patch_side(rows, columns)
    height, width = rows * side, columns * side
    pixels = frame[parts_of(height, frame.shape[0])[:, None], parts_of(width, frame.shape[1])[None]]  # (h, w, 3)
    gray = pixels.mean(axis=-1, keepdims=True)
    faded = np.broadcast_to((1 - _FADED) * gray + 255 * _FADED, pixels.shape).round().astype(np.uint8)
    gap = np.full((GAP, width, 3), 255, np.uint8)
    painted: list[np.ndarray] = []
    for of_prune in left:
        shown = of_prune.repeat(side, axis=0).repeat(side, axis=1)[..., None]
        painted += [gap, np.where(shown, pixels, faded)]
    return np.concatenate(painted[1:])
