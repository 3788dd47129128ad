"""Masks words for masked language modeling, as BERT does. Notation: `B` texts of `S` tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor

from evlvideo.models.vlp.losses import IGNORED

_MASKED, _RANDOM = 0.8, 0.1
"""Shares of the chosen tokens that become the mask and a random word; the rest stays."""


@dataclass(frozen=True, slots=True)
class Masked:
    """Texts with masked tokens."""

    input_ids: Tensor
    """`(B, S)`."""
    labels: Tensor
    """What was there, `(B, S)`; :data:`evlvideo.models.vlp.losses.IGNORED` elsewhere."""


def mask_words(
    input_ids: Tensor, *, share: float, mask_id: int, vocabulary: int, kept: tuple[int, ...], generator: torch.Generator
) -> Masked:
    """Choose tokens at random; mask 80% of them, replace 10% by random ones, and leave the rest.

    Args:
        input_ids: `(B, S)`; unchanged.
        share: of the tokens that are chosen, on average.
        mask_id: the mask.
        vocabulary: random tokens are below it.
        kept: tokens that are never chosen, such as padding and BOS.
        generator: on the CPU.
    """
    shape = input_ids.shape
    chosen, kind = torch.rand((2, *shape), generator=generator).to(input_ids.device)
    words = torch.randint(vocabulary, shape, generator=generator).to(input_ids.device)
    is_chosen = (chosen < share) & ~torch.isin(input_ids, torch.tensor(kept, device=input_ids.device))
    masked = torch.where(is_chosen & (kind < _MASKED), torch.full_like(input_ids, mask_id), input_ids)
    masked = torch.where(is_chosen & (kind >= _MASKED) & (kind < _MASKED + _RANDOM), words, masked)
    return Masked(masked, torch.where(is_chosen, input_ids, torch.full_like(input_ids, IGNORED)))
