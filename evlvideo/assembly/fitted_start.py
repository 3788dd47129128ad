"""Fits a new connector to clips before its first step, without gradients.

From random weights, training first spends hundreds of steps on what no clip differs in. Half of the variance of CLIP's
tokens is the same in all pictures, most of that in a few channels; and the projection has to find out where words are.
Both have a closed form:

1. The tower's norm scales and shifts each channel to mean 0 and variance 1 over the clips.
2. The language projection becomes the ridge regression from the connector's tokens to the mean word embedding of their
   clip's captions, stretched until soft tokens are as long as words.

This is no part of the published recipe. Notation: see :mod:`evlvideo.models.captioner`; `C` clips.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evlvideo.data.loading.collate import visual_inputs
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.tokens.prompt_statistics import mean_norm
from evlvideo.models.tokens.ridge import ridge_to_targets
from evlvideo.processes import on_main_process
from evlvideo.progress import timed

logger = logging.getLogger(__name__)

PENALTY = 0.3
_LEAST_STD = 1e-3
"""Channels that vary less stay small. The norm's channels have a variance of 1 on average."""
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class FittedClips:
    """What a connector is fitted to."""

    features: list[Tensor]
    """The tower's output for batches of clips, `(≤ C, T, N, D)`, on the CPU; of one frame if the fusion is a mean."""
    captions: list[Sequence[str]]
    """All captions of each clip."""


@torch.no_grad()
def fit_to_clips(
    model: EvlVideoForCaptioning,
    tokenizer: Any,
    batches: Iterable[Mapping[str, Any]],
    clips: int,
    *,
    norm: bool = True,
) -> None:
    """Fit the norm and the projection around a new connector, in place.

    All processes must call this. One computes, and the others take its weights.

    Args:
        model: a captioner with its language model, on its device.
        tokenizer: the language model's.
        batches: from :class:`~evlvideo.data.loading.collate.CaptionCollator`. Only the main process reads them.
        clips: take at most so many; a clip that comes again is passed over.
        norm: whether the norm is new, too. If False, the connector was trained behind it, and it stays.
    """
    parts = {"ln_vision": model.ln_vision, "language_projection": model.language_projection}

    def fitted() -> dict[str, dict[str, Tensor]]:
        mode = model.training
        model.eval()
        with timed("Fitting the new connector", logger.info) as outcome, model.autocast():
            found = take_clips(model, batches, clips)
            if norm:
                standardize(model, found)
            project_to_words(model, tokenizer, found)
            outcome.append(f"{len(found.captions):,} clips")
        model.train(mode)
        return {name: {key: value.cpu() for key, value in part.state_dict().items()} for name, part in parts.items()}

    for name, weights in on_main_process(fitted).items():
        parts[name].load_state_dict(weights)


def take_clips(model: EvlVideoForCaptioning, batches: Iterable[Mapping[str, Any]], most: int) -> FittedClips:
    """Take the first clips that differ, and read no batch beyond them."""
    found = FittedClips([], [])
    for inputs, captions in new_clips(batches, most):
        found.features.append(_tower_output(model, inputs))
        found.captions.extend(captions)
    return found


def new_clips(
    batches: Iterable[Mapping[str, Any]], most: int
) -> Iterator[tuple[dict[str, Tensor], list[Sequence[str]]]]:
    """Yield visual inputs and captions of the clips of each batch that no earlier one held, at most so many clips."""
    seen: set[str] = set()
    for batch in batches:
        ids: list[str] = batch["clip_ids"]
        rows = [row for row, clip in enumerate(ids) if clip not in seen and ids.index(clip) == row]
        rows = rows[: most - len(seen)]
        if rows:
            seen.update(ids[row] for row in rows)
            inputs = {name: value[rows] for name, value in visual_inputs(batch).items()}
            yield inputs, [batch["captions"][row] for row in rows]
        if len(seen) == most:
            break


def standardize(model: EvlVideoForCaptioning, clips: FittedClips) -> None:
    """Let the tower's norm give each channel a mean of 0 and a variance of 1 over the tokens of all clips."""
    norm = model.ln_vision
    if not norm.weight.requires_grad:
        return
    count, zeros = 0, torch.zeros_like(norm.weight, dtype=torch.float64)
    total, squares = zeros, zeros
    for features in clips.features:
        tokens = norm(features.to(norm.weight.device)).flatten(0, -2).double()
        count, total, squares = count + len(tokens), total + tokens.sum(dim=0), squares + tokens.square().sum(dim=0)
    mean = total / count  # (D)
    variance = (squares / count - mean.square()).clamp_min(0)
    std = variance.sqrt().clamp_min(_LEAST_STD)
    norm.weight.div_(std)
    norm.bias.sub_(mean).div_(std)


def _tower_output(model: EvlVideoForCaptioning, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return features as they are, or the tower's output for frames; their mean if the connector sees no other."""
    features = inputs.get("features")
    if features is None:
        features = model.vision_tower(inputs["pixel_values"].to(model.vision_tower.device))
    if model.config.fusion == "mean":
        features = features.mean(dim=1, keepdim=True)
    return features.cpu()


def project_to_words(model: EvlVideoForCaptioning, tokenizer: Any, clips: FittedClips) -> None:
    """Let the language projection map the tokens of a clip to the words of its captions, and be as long as words."""
    projection, words = model.language_projection, model.language_model.get_input_embeddings()
    target = torch.stack([mean_word(words, tokenizer, captions) for captions in clips.captions])  # (C, E)
    length = mean_norm(words.weight) * float(getattr(words, "embed_scale", 1.0))
    # Most of a mean over words is the same for all captions. What differs is stretched, so that it is not drowned.
    common = target.mean(dim=0)
    target = common + (target - common) * (length / max(mean_norm(target - common), _TINY))
    weight, bias = ridge_to_targets(_tokens(model, clips), target, PENALTY)
    projection.weight.copy_(weight)
    projection.bias.copy_(bias)
    found = [mean_norm(projection(tokens)) * len(tokens) for tokens in _tokens(model, clips)]
    for value in projection.parameters():
        value.mul_(length / max(sum(found) / len(target), _TINY))


def mean_word(words: nn.Module, tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Average the word embeddings of a clip's captions, `(E)`; a caption counts once, however long."""
    device = next(words.parameters()).device
    texts = [ids for caption in captions if (ids := tokenizer(f" {caption}", add_special_tokens=False).input_ids)]
    return torch.stack([words(torch.tensor(ids, device=device)).float().mean(dim=0) for ids in texts]).mean(dim=0)


def _tokens(model: EvlVideoForCaptioning, clips: FittedClips) -> Iterator[Tensor]:
    for features in clips.features:
        yield model.features_to_tokens(features.to(model.vision_tower.device))
