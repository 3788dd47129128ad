"""What goes on inside a model, as arrays to be drawn: which patches were merged, which frames were attended to.

Tensors in, arrays out. Notation: `B` clips, `T` frames, `N` tokens of a frame, `M` merged tokens, `D` channels.
"""

import colorsys

import numpy as np
import torch
from torch import Tensor

from evlvideo.models.contextualizers import InTowerContextualizer, MergedContextualizer
from evlvideo.models.precision import in_float32

PICTURE_SIDE = 160
"""Pixels, about, of the longer side of a painted frame."""
_GOLDEN_RATIO = 0.618034
"""Hues this far apart stay apart, however many there are."""


def patch_groups(source: Tensor, prefix_tokens: int) -> np.ndarray:
    """Number the merged token of every patch.

    Args:
        source: zeros and ones `(M, N)`, which tell what went into each token.
        prefix_tokens: tokens before the patches, such as a class token, which stand for no place in the picture.

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
    Merging (Bolya et al., ICLR 2023), its figures.

    Args:
        frame: uint8 (H, W, 3), of any size.
        groups: group by patch, whole numbers (rows, columns) from 0.

    Returns:
        uint8 (h, w, 3), each patch a square.
    """
    rows, columns = groups.shape
    side = max(4, round(PICTURE_SIDE / max(rows, columns)))
    # One colour a pixel of the patch grid: cells of a frame that is not a multiple of the grid differ by a pixel.
    cells = groups[_cells(frame.shape[0], rows)[:, None], _cells(frame.shape[1], columns)[None]]  # (H, W)
    counts = np.maximum(np.bincount(cells.ravel(), minlength=groups.max() + 1), 1)
    sums = [np.bincount(cells.ravel(), frame[..., c].ravel(), minlength=len(counts)) for c in range(3)]
    means = np.stack(sums, axis=-1) / counts[:, None]  # (groups, 3)
    drawn = groups.repeat(side, axis=0).repeat(side, axis=1)
    picture = means[drawn].round().astype(np.uint8)
    border = _borders(drawn, max(1, side // 8))
    picture[border] = _hues(len(counts))[drawn[border]]
    return picture


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


def attention_weights(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Softmax over the keys of scaled dot products: `(…, Q, D)` and `(…, K, D)` → `(…, Q, K)`, in float32."""
    with in_float32(query.device):
        return torch.softmax(query.float() @ key.float().transpose(-1, -2) * scale, dim=-1)


@torch.no_grad()
def in_tower_attention(contextualizer: InTowerContextualizer, x: Tensor) -> Tensor:
    """What the contextualizer's fast path does not give: at every place, how much each frame attends to each.

    Args:
        contextualizer: from a block of the tower.
        x: what it was given, `(B, T, N, D)`.

    Returns:
        weights `(B, N, heads, T, T)`; they sum to 1 over the last dimension.
    """
    heads = contextualizer.num_heads
    query, key = (
        part(x).unflatten(-1, (heads, -1)).permute(0, 2, 3, 1, 4)  # (B, N, heads, T, ·)
        for part in (contextualizer.query, contextualizer.key)
    )
    return attention_weights(query, key, contextualizer.scale)


@torch.no_grad()
def merged_attention(contextualizer: MergedContextualizer, x: Tensor) -> Tensor:
    """How much each token of the context takes of each merged token of each frame.

    Args:
        contextualizer: over merged tokens.
        x: what it was given, `(B, T, M, D)`.

    Returns:
        weights `(B, heads, M, T, M)`; they sum to 1 over the last two dimensions.
    """
    heads = contextualizer.num_heads
    query = contextualizer.query(x.mean(dim=1)).unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, M, ·)
    key = contextualizer.key(x.flatten(1, 2)).unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, T·M, ·)
    return attention_weights(query, key, query.shape[-1] ** -0.5).unflatten(-1, x.shape[1:3])


def shares_in_tower(weights: Tensor) -> np.ndarray:
    """Average one clip's weights `(N, heads, T, T)` over places and heads: float (T, T), rows that sum to 1."""
    return weights.mean(dim=(0, 1)).cpu().numpy()


def shares_of_merged(weights: Tensor) -> np.ndarray:
    """Sum one clip's weights `(heads, M, T, M)` over each frame's tokens, averaged over heads: float (M, T)."""
    return weights.sum(dim=-1).mean(dim=0).cpu().numpy()
