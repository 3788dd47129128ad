"""The losses of BLIP-2's first stage, and the masks of its self-attention.

Source: BLIP-2 (Li et al., ICML 2023), section 3.2, and its published code (LAVIS, `blip2_qformer.py`). Notation: `B`
pairs of an image and a text of this process, `N` those that they are compared with, of all processes, `Q` queries, `L`
text tokens, `C` channels in which images and texts are compared, `V` vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from evlvideo.models.contrast.gather import gathered
from evlvideo.models.vlp.losses import IGNORED

LABEL_SMOOTHING = 0.1
"""Of contrast and generation, as published."""


class Contrast(NamedTuple):
    """What contrasting the images and texts of a batch gives."""

    loss: Tensor
    """The mean over both directions, a scalar."""
    image_to_text: Tensor
    """Similarity of each image to all texts, over the temperature, `(B, N)`."""
    text_to_image: Tensor
    """Similarity of each text to all images, over the temperature, `(B, N)`."""
    same: Tensor
    """Whether a column is of the row's own clip, `(B, N)`."""


def similarities(images: Tensor, texts: Tensor) -> Tensor:
    """Compare images with texts by the query that is most similar: `(B, Q, C)` and `(N, C)` → `(B, N)`.

    Args:
        images: a unit vector for each query.
        texts: unit vectors.
    """
    return (images @ texts.T).max(dim=1).values


def contrast(images: Tensor, texts: Tensor, temperature: Tensor, clips: Tensor, *, across: bool) -> Contrast:
    """Contrast each image with all texts, and each text with all images.

    What is compared against is constant, as published. The target is the pair's own column, smoothed by 0.1. If other
    columns are of the same clip, they share the target, as in the published fine-tuning for retrieval.

    Args:
        images: unit vectors, `(B, Q, C)`.
        texts: unit vectors, `(B, C)`.
        temperature: a scalar.
        clips: a number that tells clips apart, `(B,)`.
        across: whether to gather the pairs of all processes, which must have as many.
    """
    all_images, all_texts, all_clips = (_all(x, across=across, constant=True) for x in (images, texts, clips))
    same = clips.unsqueeze(1) == all_clips.unsqueeze(0)  # (B, N)
    image_to_text = similarities(images, all_texts) / temperature
    text_to_image = similarities(all_images, texts).T / temperature
    targets = same / same.sum(dim=1, keepdim=True)
    losses = [
        F.cross_entropy(logits, targets, label_smoothing=LABEL_SMOOTHING) for logits in (image_to_text, text_to_image)
    ]
    return Contrast(torch.stack(losses).mean(), image_to_text, text_to_image, same)


def _all(x: Tensor, *, across: bool, constant: bool) -> Tensor:
    if across:
        return gathered(x, constant=constant)
    return x.detach() if constant else x


def generation_loss(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean cross-entropy of each token after the first, smoothed by 0.1.

    Args:
        logits: at each token but the last, `(B, L - 1, V)`.
        ids: the texts, `(B, L)`.
        mask: ones on text, zeros on padding, `(B, L)`.
    """
    targets = ids[:, 1:].masked_fill(mask[:, 1:] == 0, IGNORED)
    return F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, label_smoothing=LABEL_SMOOTHING
    )


def text_attention(mask: Tensor) -> Tensor:
    """Let texts see themselves: `(B, L)` → `(B, 1, L, L)`; true where a row sees a column."""
    return mask.bool()[:, None, None, :].expand(-1, -1, mask.shape[1], -1)


def pair_attention(mask: Tensor, queries: int) -> Tensor:
    """Let queries and text see each other: `(B, L)` → `(B, 1, Q + L, Q + L)`."""
    return text_attention(F.pad(mask, (queries, 0), value=1))


def causal_attention(mask: Tensor, queries: int) -> Tensor:
    """Let queries see queries, and text see queries and earlier text: `(B, L)` → `(B, 1, Q + L, Q + L)`.

    This is the multimodal causal mask, as in UniLM (Dong et al., 2019).
    """
    length = queries + mask.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    earlier[:queries, :queries] = True
    return pair_attention(mask, queries) & earlier
