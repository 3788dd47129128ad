"""Draws hard negatives: pairs that do not belong together, and look as if they did.

Source: ALBEF (Li et al., 2021) and BLIP (Li et al., 2022). Notation: `B` rows of this process, `N` columns that they
are compared with, those of all processes or of this one.
"""

import torch
from torch import Tensor

from evlvideo.models.precision import in_float32


def negative_weights(similarities: Tensor, own: Tensor, floor: float = 0.0) -> Tensor:
    """Weigh each column as a negative of each row, without gradient.

    Args:
        similarities: divided by the temperature, `(B, N)`.
        own: column that belongs to each row, `(B,)`; it weighs 0.
        floor: added to the softmax; BLIP adds 1e-4 in pre-training, ALBEF nothing.

    Returns:
        `(B, N)`, float32.

    Raises:
        ValueError: there are fewer than two columns, so that there is no negative.
    """
    if similarities.shape[1] < 2:
        raise ValueError(f"{similarities.shape[1]} column has no negatives; compare with two or more.")
    with torch.no_grad(), in_float32(similarities.device):
        # A row that is sure of its own column would have no weight left without the least positive number.
        weights = similarities.float().softmax(dim=1) + max(floor, torch.finfo(torch.float32).tiny)
        return weights.scatter(1, own.unsqueeze(1), 0.0)


def draw_negatives(
    similarities: Tensor, own: Tensor, generator: torch.Generator | None = None, floor: float = 0.0
) -> Tensor:
    """Draw a negative for each row, from the softmax of its similarities.

    Args:
        similarities: divided by the temperature, `(B, N)`.
        own: column that belongs to each row, `(B,)`; it is never drawn.
        generator: on any device, on which it draws. If None, the global one of the similarities' device.
        floor: see :func:`negative_weights`.

    Returns:
        columns, `(B,)`, on the similarities' device.

    Raises:
        ValueError: there are fewer than two columns.
    """
    weights = negative_weights(similarities, own, floor)
    if generator is not None:
        weights = weights.to(generator.device)
    return torch.multinomial(weights, 1, generator=generator).squeeze(1).to(similarities.device)
