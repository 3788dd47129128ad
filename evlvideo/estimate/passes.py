"""The inputs and the loss of a training pass, without values.

Notation: `B` clips, `T` frames, `N` tokens of a frame, `D` channels of the tower, `k` captions of a clip, `L` text
tokens, `P` soft tokens, `E` width of the language model.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from evlvideo.estimate.records import Workload
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.language import caption_loss
from evlvideo.models.representation.model import RepresentationModel
from evlvideo.models.vision import VisionTower


class HasTower(Protocol):
    """A model with a vision tower."""

    vision_tower: VisionTower


def make_frames(model: HasTower, workload: Workload, device: str) -> Tensor:
    """Make a batch of frames, `(B, T, 3, height, width)`."""
    size = model.vision_tower.image_size
    return torch.empty(workload.batch_size, workload.num_frames, 3, size, size, device=device)


def make_features(model: HasTower, workload: Workload, device: str) -> Tensor:
    """Make a batch of the tower's outputs, `(B, T, N, D)`."""
    tower = model.vision_tower
    shape = (workload.batch_size, workload.num_frames, tower.num_tokens, tower.dim)
    return torch.empty(shape, dtype=tower.dtype, device=device)


def make_texts(workload: Workload, device: str) -> dict[str, Tensor]:
    """Make a batch of captions: `input_ids`, `attention_mask` and `labels`, each `(k·B, L)`."""
    captions = workload.batch_size * workload.captions_per_clip
    ids = torch.zeros(captions, workload.text_tokens, dtype=torch.long, device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def loss_of_texts(
    model: EvlVideoForCaptioning, soft_prompt: Tensor, texts: dict[str, Tensor], workload: Workload
) -> Tensor:
    """Read captions after their soft prompts, `(B, P, E)`, and compute a loss that costs what the stage's own does."""
    if not workload.samples:
        # The trainer needs no other logits.
        kept = workload.text_tokens + 1
        loss: Tensor = model(soft_prompt=soft_prompt, logits_to_keep=kept, **texts).loss
        return loss
    return _loss_of_samples(model, soft_prompt, texts, workload)


def loss_of_pairs(model: RepresentationModel, features: Tensor, workload: Workload) -> Tensor:
    """Compute the sum of the first stage's losses, of features `(B, T, N, D)` and a text of each clip."""
    device = features.device
    ids = torch.zeros(workload.batch_size, workload.text_tokens, dtype=torch.long, device=device)
    clips = torch.zeros(workload.batch_size, dtype=torch.long, device=device)
    output = model(features=features, text_ids=ids, text_mask=torch.ones_like(ids), clips=clips, across=False)
    loss: Tensor = output.contrast_loss + output.matching_loss + output.generation_loss
    return loss


def _loss_of_samples(
    model: EvlVideoForCaptioning, soft_prompt: Tensor, texts: dict[str, Tensor], workload: Workload
) -> Tensor:
    """Compute what the self-critical stage does: terms of the samples, and the cross-entropy of references, if any."""
    samples, references = workload.samples, workload.captions_per_clip - workload.samples
    # Nothing after a sample's last token is asked for; a reference has one logit more, which its loss leaves out.
    kept = workload.sample_tokens if not references else workload.text_tokens + 1
    # A prompt before the captions is not counted.
    read: dict[str, Any] = {name: texts[name] for name in ("input_ids", "attention_mask")} | {"opening_tokens": 0}
    logits = model(prompt=model.read_prompt(soft_prompt), logits_to_keep=kept, **read).logits
    by_clip = logits.unflatten(0, (workload.batch_size, -1))  # (B, k, kept, V)
    of_samples = by_clip[:, :samples, : workload.sample_tokens].flatten(0, 1)
    start = torch.empty_like(of_samples) if workload.divergence else None
    loss: Tensor = _TermsOfSamples.apply(of_samples, start)
    if references:
        labels = texts["labels"][: workload.batch_size * references]
        loss = loss + caption_loss(by_clip[:, samples:].flatten(0, 1), labels)
    return loss


class _TermsOfSamples(torch.autograd.Function):
    """Keeps the logits and computes all else from them again in the backward pass, as the loss of samples does."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, start: Tensor | None) -> Tensor:
        ctx.save_for_backward(logits, start)
        return logits.new_empty((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        logits, _ = ctx.saved_tensors
        return torch.empty_like(logits), None
