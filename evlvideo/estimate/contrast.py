"""What the contrastive term costs: its encoder of captions, its projections, and the comparison.

On one process, an image is compared with the captions of its own batch. With several, each compares its images with the
captions of all; that product is small beside the encoder.
"""

from typing import Any

import torch
from torch import Tensor

from evlvideo.estimate import activations
from evlvideo.estimate.counting import count_multiply_adds
from evlvideo.estimate.records import Contrasted, Workload
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.contrast.captioner_term import check_contrasts, make_term
from evlvideo.models.contrast.sentences import MAX_TOKENS, empty_encoder
from evlvideo.models.contrast.term import ContrastiveTerm

_ENCODER = "encoder"
"""Name of the encoder inside the term, where its weights are counted."""


def give_contrast(model: EvlVideoForCaptioning, contrast: Contrasted) -> None:
    """Give a model on the meta device the term and its encoder.

    Raises:
        UserError: the model has no class token to contrast, or there is no such encoder.
    """
    check_contrasts(model, contrast.beta)
    with torch.device("meta"):
        encoder = empty_encoder(contrast.text_encoder)
        term = make_term(model, encoder.config.hidden_size, contrast.width, "published")
    term.add_module(_ENCODER, encoder)
    model.contrastive = term


def count_contrast(term: ContrastiveTerm, soft_tokens: int, workload: Workload) -> int:
    """Count the multiply-adds of the term in one pass of a batch, forward and backward, on the meta device."""
    ids = torch.zeros(workload.batch_size, sentence_tokens(workload), dtype=torch.long, device="meta")
    encoder: Any = term.get_submodule(_ENCODER)
    with torch.no_grad():
        # Without a mask, whose values it would look at; padding saves nothing.
        encoding, _ = count_multiply_adds(lambda: encoder(input_ids=ids))
    tokens, sentences = _inputs(term, soft_tokens, workload, "meta")
    forward, loss = count_multiply_adds(lambda: term(tokens, sentences))
    backward, _ = count_multiply_adds(lambda: loss.backward())
    return encoding + forward + backward


def kept_by_contrast(term: ContrastiveTerm, soft_tokens: int, workload: Workload) -> int:
    """Measure the bytes that the term keeps for the backward pass. It computes in float32 in every precision."""
    tokens, sentences = _inputs(term, soft_tokens, workload, activations.DEVICE)
    return activations.saved_bytes(term, lambda: term(tokens, sentences), None)


def sentence_tokens(workload: Workload) -> int:
    """Return the tokens of a caption that the encoder reads, which are about as many as the language model's."""
    return min(workload.text_tokens, MAX_TOKENS)


def _inputs(term: ContrastiveTerm, soft_tokens: int, workload: Workload, device: str) -> tuple[Tensor, Tensor]:
    """Make connector tokens, `(B, P, H)`, and encoded captions, `(B, D)`, without values."""
    rows = workload.batch_size
    tokens = torch.empty(rows, soft_tokens, term.vision_proj.in_features, device=device, requires_grad=True)
    return tokens, torch.empty(rows, term.text_proj.in_features, device=device)
