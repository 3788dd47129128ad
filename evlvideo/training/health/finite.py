"""Checks losses and weights for NaN and infinity, some steps late so that no step waits for the device."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evlvideo.errors import UserError

_MOST_LOSSES = 1000
"""Losses kept until the next check; each is a small tensor on the device."""
_WHAT_TO_DO = (
    "Lower training.learning_rate, or set training.precision to bf16 or fp32, and resume from the last checkpoint."
)


@dataclass(frozen=True, slots=True)
class _Noted:
    loss: Tensor
    step: int
    clip_ids: list[str]


class FiniteLosses:
    """Keeps losses on the device until the next check, which names the batch of the first that is not finite."""

    def __init__(self) -> None:
        self._noted: list[_Noted] = []

    def note(self, loss: Tensor, step: int, clip_ids: list[str]) -> None:
        """Keep a batch's loss without waiting for it.

        Args:
            loss: a scalar.
            step: its optimizer step, from 1.
            clip_ids: clips of the batch.
        """
        # A copy, as the trainer changes the loss in place.
        self._noted.append(_Noted(loss.detach().clone(), step, clip_ids))
        if len(self._noted) >= _MOST_LOSSES:
            self.look()

    def look(self) -> None:
        """Check the losses since the last check, waiting for the device.

        Raises:
            UserError: one is not finite; the message names the first, its step and the clips of its batch.
        """
        noted, self._noted = self._noted, []
        if not noted:
            return
        values = torch.stack([entry.loss for entry in noted]).tolist()
        for entry, value in zip(noted, values, strict=True):
            if not math.isfinite(value):
                raise UserError(
                    f"The loss is {value} at step {entry.step}, in the batch of the clips {', '.join(entry.clip_ids)}. "
                    f"{_WHAT_TO_DO}"
                )


def check_weights(model: nn.Module, step: int) -> None:
    """Check the trained weights, which a gradient can spoil even if the loss was finite.

    Args:
        model: the captioner.
        step: the last step.

    Raises:
        UserError: a weight is not finite.
    """
    trained = [weight.detach() for weight in model.parameters() if weight.requires_grad]
    if not math.isfinite(torch.nn.utils.get_total_norm(trained, math.inf).item()):
        raise UserError(f"The losses up to step {step} are finite, but the weights after it are not. {_WHAT_TO_DO}")
