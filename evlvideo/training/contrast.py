"""Adds the contrastive term to training by cross-entropy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from evlvideo.config.training import ContrastiveConfig
from evlvideo.errors import UserError
from evlvideo.files import replacing
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.contrast.captioner_term import check_contrasts, make_term
from evlvideo.models.contrast.sentences import SENTENCE_IDS, SENTENCE_MASK, SentenceEncoder

CONTRAST_NAME = "contrastive.safetensors"
"""File in a checkpoint to resume from; the weights of the term serve training alone."""


class Contrast:
    """The contrastive term of a run. Gives the captioner its trained part.

    Args:
        captioner: the model, before its optimizer and its wrapper for several processes are made.
        config: weight, encoder and form of the term.

    Raises:
        UserError: the model has no class token to contrast, or there is no such encoder.
    """

    def __init__(self, captioner: EvlVideoForCaptioning, config: ContrastiveConfig) -> None:
        check_contrasts(captioner, config.beta)
        self.beta = config.beta
        self.encoder = SentenceEncoder(config.text_encoder)
        term = make_term(captioner, self.encoder.dim, config.width, config.gradient)
        self.term = captioner.contrastive = term.to(captioner.language_projection.weight.device)

    @property
    def temperature(self) -> float:
        """The temperature of the comparison."""
        return self.term.temp.item()

    def inputs(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Encode a batch's captions for the model's forward pass."""
        return {"sentences": self.encoder.encode(batch[SENTENCE_IDS], batch[SENTENCE_MASK])}

    def write(self, checkpoint: Path) -> None:
        """Write the trained part beside a checkpoint's weights."""
        state = {name: value.detach().cpu().contiguous() for name, value in self.term.state_dict().items()}
        with replacing(checkpoint / CONTRAST_NAME) as temporary:
            save_file(state, temporary)

    @torch.no_grad()
    def read(self, checkpoint: Path) -> None:
        """Restore the trained part.

        Raises:
            UserError: the checkpoint has none.
        """
        path = checkpoint / CONTRAST_NAME
        if not path.is_file():
            raise UserError(
                f"{checkpoint} has no {CONTRAST_NAME}, so a run with a contrastive term cannot resume from it."
            )
        self.term.load_state_dict(load_file(path))
