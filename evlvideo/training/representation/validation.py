"""Validates BLIP-2's first stage: its losses in eval mode, and retrieval within the validation split.

Notation: `B` clips of a batch, `M` clips in all, `Q` queries, `C` channels in which images and texts are compared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import Dataset

from evlvideo.config.training import RepresentationConfig
from evlvideo.data.loading.collate import visual_inputs
from evlvideo.errors import Interrupted, UserError
from evlvideo.inference.captioning import share_of
from evlvideo.inference.pipeline import run_batches
from evlvideo.models.representation.losses import similarities
from evlvideo.models.representation.model import RepresentationModel, RepresentationOutput
from evlvideo.models.representation.texts import TEXT_IDS, TEXT_MASK
from evlvideo.training.representation.pairs import CLIPS, PairCollator

LOSSES = ("contrast", "matching", "generation")
_IMAGES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class RepresentationValidation:
    """What a validation found."""

    losses: Mapping[str, float]
    """Mean over all pairs of each of :data:`LOSSES`, without its weight."""
    clips: int
    image_to_text: float
    """R@1: the share of images whose own text is the most similar of all."""
    text_to_image: float
    """R@1: the share of texts whose own image is the most similar of all."""

    def log_values(self, weights: RepresentationConfig) -> dict[str, float]:
        """Return the values of a validation's line in the log, by key."""
        return {
            "validation_loss": weighted(self.losses, weights),
            **{f"validation_{name}_loss": self.losses[name] for name in LOSSES},
            "validation_pairs": self.clips,
            "validation_image_to_text_r1": self.image_to_text,
            "validation_text_to_image_r1": self.text_to_image,
        }


def weighted(losses: Mapping[str, Any], weights: RepresentationConfig) -> Any:
    """Add up the losses, each with its weight."""
    return sum(getattr(weights, f"{name}_weight") * losses[name] for name in LOSSES)


def validate_pairs(
    model: RepresentationModel,
    dataset: Dataset[dict[str, Any]],
    collator: PairCollator,
    *,
    batch_size: int,
    num_workers: int,
    stop: Callable[[], bool] = lambda: False,
) -> RepresentationValidation:
    """Validate on the first caption of each clip. Processes share the clips; call this in all of them.

    A batch is contrasted within itself, and its negatives depend on its clips alone, so that the values do not depend
    on the number of processes.

    Args:
        model: in eval mode meanwhile.
        dataset: items of one clip each.
        collator: makes batches of them.
        batch_size: pairs that are compared with each other; fewer make smaller losses.
        num_workers: upper bound of processes that decode video.
        stop: called after each batch; whether to leave out the others.

    Raises:
        UserError: no batch has two clips that can be decoded.
        Interrupted: a process stopped; in every process.
    """
    losses: list[tuple[list[float], int]] = []
    found: list[tuple[Tensor, Tensor]] = []
    device = model.vision_tower.device

    @torch.no_grad()
    def work(batch: dict[str, Any]) -> Sequence[str]:
        output = _pass(model, batch, device)
        if output is not None:
            values = [float(output[f"{name}_loss"]) for name in LOSSES]
            losses.append((values, len(batch["clip_ids"])))
            assert output.images is not None and output.texts is not None
            found.append((output.images.cpu(), output.texts.cpu()))
        return list(batch["clip_ids"])

    was_training, stopped = model.training, False
    model.eval()
    try:
        batches = run_batches(dataset, share_of(dataset, batch_size), work, collate=collator, num_workers=num_workers)
        for _ in batches:
            if stopped := stop():
                break
    finally:
        model.train(was_training)
    shares: list[Any] = gather_object([(losses, found, stopped)])
    if any(of_process[2] for of_process in shares):
        raise Interrupted("The validation was stopped.")
    return _joined([entry for share in shares for entry in share[0]], [entry for share in shares for entry in share[1]])


def _pass(model: RepresentationModel, batch: dict[str, Any], device: torch.device) -> RepresentationOutput | None:
    """Compute the losses of a batch; None if it has one clip, which has no negatives."""
    if len(batch["clip_ids"]) < 2:
        return None
    given = {**visual_inputs(batch), **{name: batch[name] for name in (TEXT_IDS, TEXT_MASK, CLIPS)}}
    seed = int(batch[CLIPS][0]) % 2**63
    output: RepresentationOutput = model(
        **{name: value.to(device) for name, value in given.items()},
        generator=torch.Generator().manual_seed(seed),
        across=False,
    )
    return output


def _joined(
    losses: Sequence[tuple[list[float], int]], found: Sequence[tuple[Tensor, Tensor]]
) -> RepresentationValidation:
    if not losses:
        raise UserError(
            "The representation stage validates on batches of two clips or more, and no batch has as many that can be "
            "decoded; raise data.validation_clips or training.batch_size, or see the log above."
        )
    clips = sum(count for _, count in losses)
    sums = (sum(values[place] * count for values, count in losses) for place in range(len(LOSSES)))
    images, texts = (torch.cat(column) for column in zip(*found, strict=True))  # (M, Q, C), (M, C)
    compared = torch.cat([similarities(part, texts) for part in images.split(_IMAGES_AT_ONCE)])  # (M, M)
    return RepresentationValidation(
        losses=dict(zip(LOSSES, (total / clips for total in sums), strict=True)),
        clips=clips,
        image_to_text=recall_at_one(compared),
        text_to_image=recall_at_one(compared.T),
    )


def recall_at_one(compared: Tensor) -> float:
    """Return the share of rows whose own column is the largest, `(M, M)`; ties count against it."""
    own = compared.diagonal().unsqueeze(1)
    return float(((compared >= own).sum(dim=1) == 1).double().mean())
