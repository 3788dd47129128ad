"""Losses of vision-language pre-training: tensors in, scalars out.

Source: ALBEF (Li et al., 2021), BLIP (Li et al., 2022) and CLIP (Radford et al., 2021). Notation: `B` pairs of this
process, `K` columns that they are compared with, `S` tokens of a text, `V` words.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from evlvideo.models.contrast.gather import gathered, own_rows
from evlvideo.models.precision import in_float32

IGNORED = -100
"""Label of a token that is no target."""


def soft_contrast(similarities: Tensor, teacher: Tensor, own: Tensor, alpha: float) -> Tensor:
    """Compare one direction with soft targets, those of a momentum teacher mixed with the own pair.

    Args:
        similarities: divided by the temperature, `(B, K)`.
        teacher: those of the teacher, `(B, K)`, taken without gradient.
        own: column of the own pair, `(B,)`.
        alpha: share of the teacher in the targets.

    Returns:
        the mean of the cross-entropies, a scalar.
    """
    with in_float32(similarities.device):
        targets = alpha * teacher.detach().float().softmax(dim=1)
        targets = targets.scatter_add(1, own.unsqueeze(1), torch.full_like(targets[:, :1], 1 - alpha))
        return F.cross_entropy(similarities.float(), targets)


def paired_contrast(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Compare the images and texts of all processes with each other, as CLIP does.

    All processes must call this with as many pairs. The mean over processes is the loss of the whole batch, and so are
    gradients that are averaged over processes.

    Args:
        images: unit vectors, `(B, C)`.
        texts: those of their texts, `(B, C)`.
        scale: of the similarities, a scalar.

    Returns:
        the mean of both directions, a scalar.
    """
    with in_float32(images.device):
        images, texts = images.float(), texts.float()
        own = own_rows(len(images), images.device)
        to_texts = scale * images @ gathered(texts, constant=False).T  # (B, K)
        to_images = scale * texts @ gathered(images, constant=False).T
        return (F.cross_entropy(to_texts, own) + F.cross_entropy(to_images, own)) / 2


def matching_loss(logits: Tensor, pairs: int) -> Tensor:
    """Tell pairs that belong together from pairs that do not.

    Args:
        logits: of "no" and "yes", of the pairs that belong together first, `(B + negatives, 2)`.
        pairs: `B`.

    Returns:
        a scalar.
    """
    labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    labels[:pairs] = 1
    return F.cross_entropy(logits.float(), labels)


def masked_language_loss(logits: Tensor, labels: Tensor, teacher: Tensor | None, alpha: float) -> Tensor:
    """Predict masked tokens, with the words that a momentum teacher expects there as soft targets.

    Args:
        logits: `(B, S, V)`.
        labels: tokens that were masked, `(B, S)`; :data:`IGNORED` elsewhere.
        teacher: the teacher's logits, as `logits`, taken without gradient. If None, `alpha` is 0.
        alpha: share of the teacher.

    Returns:
        the mean over masked tokens, a scalar; 0 if nothing was masked.
    """
    masked = labels != IGNORED
    chosen = logits[masked].float()  # (M, V)
    targets = labels[masked]
    if not len(targets):
        return chosen.sum()
    loss = F.cross_entropy(chosen, targets)
    if teacher is None or not alpha:
        return loss
    soft = F.cross_entropy(chosen, teacher.detach()[masked].float().softmax(dim=-1))
    return (1 - alpha) * loss + alpha * soft


def language_loss(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Predict each token from those before it.

    Args:
        logits: `(B, S, V)`.
        labels: tokens, `(B, S)`; :data:`IGNORED` where there are none.
        label_smoothing: share of a target that is spread over all words.

    Returns:
        the mean over targets, a scalar.
    """
    return F.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), label_smoothing=label_smoothing
    )
