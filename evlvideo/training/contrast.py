"""Adds the contrastive term to training by cross-entropy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import Tensor

from evlvideo.config.training import ContrastiveConfig
from evlvideo.errors import UserError
from evlvideo.files import replacing
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors import TOMEFORMER
from evlvideo.models.contrast.sentences import SENTENCE_IDS, SENTENCE_MASK, SentenceEncoder
from evlvideo.models.contrast.term import CaptionOutput, ContrastiveTerm

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
        name, tower = captioner.config.connector, captioner.vision_tower
        if name != TOMEFORMER or not tower.shape.class_token:
            raise UserError(
                f"contrastive.beta is {config.beta}, but connector={name} on {captioner.config.vision_tower} has no "
                f"class token to contrast; set it to 0, or use connector={TOMEFORMER} on a tower with a class token."
            )
        self.beta = config.beta
        self.encoder = SentenceEncoder(config.text_encoder)
        connector = captioner.connector
        term = ContrastiveTerm(
            connector.output_dim,
            self.encoder.dim,
            config.width,
            frame_tokens=connector.num_output_tokens(tower.shape.num_tokens),
            gradient=config.gradient,
        )
        self.term = captioner.contrastive = term.to(captioner.language_projection.weight.device)
        self._sum: Tensor | float = 0.0
        self._count = 0

    def inputs(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Encode a batch's captions for the model's forward pass."""
        return {"sentences": self.encoder.encode(batch[SENTENCE_IDS], batch[SENTENCE_MASK])}

    def weighted(self, output: CaptionOutput) -> Tensor:
        """Return the weighted term of a forward pass, and note its value for the log."""
        assert output.contrastive_loss is not None
        self._sum = self._sum + output.contrastive_loss.detach()
        self._count += 1
        return self.beta * output.contrastive_loss

    def log_values(self) -> dict[str, float]:
        """Return the mean since the last call over all processes; all of them must call this."""
        shares = gather_object([(float(self._sum), self._count)])
        self._sum, self._count = 0.0, 0
        total, count = (sum(column) for column in zip(*shares, strict=True))
        return {"contrastive_loss": total / count, "contrastive_temperature": self.term.temp.item()} if count else {}

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
