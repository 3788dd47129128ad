"""Opens the checkpoints of runs and records what their models prune, merge and attend to on a few clips."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.comparison.page.clip_media import ByteBudget, PageImage, encode_jpeg, encode_png
from evlvideo.comparison.page.frame_attention import (
    in_tower_attention,
    merged_attention,
    shares_in_tower,
    shares_of_merged,
)
from evlvideo.comparison.page.inspection import (
    AttentionView,
    ClipViews,
    Inspection,
    MergingView,
    PruningView,
    SystemView,
)
from evlvideo.comparison.page.pruned_patches import paint_pruned
from evlvideo.comparison.page.token_groups import paint_groups, patch_groups
from evlvideo.comparison.rows.system import System
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.errors import UserError
from evlvideo.models.blocks.pruned_encoding import Encoding
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory, read_configuration
from evlvideo.models.connectors.tomeformer import TomeFormer, TomeFormerEncoder
from evlvideo.models.precision import in_float32
from evlvideo.models.text.draft import draft_guide
from evlvideo.models.tokens.contextualizers import InTowerContextualizer, MergedContextualizer
from evlvideo.models.tokens.pruning import patches_left, token_sources
from evlvideo.results.run_directory import run_config

logger = logging.getLogger(__name__)

MOST_FRAMES = 16
"""Number of first frames of a clip to paint."""
IMAGE_BYTES = 1_500_000
"""Upper bound on the encoded bytes of images, in addition to the gallery."""


def inspect_models(runs: Sequence[System], clips: Sequence[CaptionedClip]) -> Inspection:
    """Run the vision towers and connectors of trained runs on clips.

    Failures never end the comparison: a remark says what is missing.

    Args:
        runs: the compared systems.
        clips: clips to look at.
    """
    if not clips:
        return Inspection()
    seen: dict[str, list[SystemView]] = {clip.clip_id: [] for clip in clips}
    frames: dict[str, tuple[PageImage, ...]] = {}
    budget, remarks = ByteBudget(IMAGE_BYTES), []
    for system, run in enumerate(runs):
        if run.directory is None:  # captions from elsewhere
            continue
        try:
            for clip_id, images, view in _views(system, run.name, run.directory, clips):
                painted = [image for seen in (view.pruning, view.merging) if seen for image in seen.painted]
                new = painted if clip_id in frames else (*painted, *images)
                if budget.take(sum(len(image.address) for image in new)):
                    frames.setdefault(clip_id, images)
                    seen[clip_id].append(view)
        except Exception as error:  # whatever fails here, the table is valid
            if not isinstance(error, UserError):
                logger.warning("no images of %s", run.name, exc_info=True)
            remarks.append(f"{run.name} is not shown from the inside: {str(error) or type(error).__name__}")
    if budget.spent:
        remarks.append("Not all systems are shown on all of these clips, which would make the page too large.")
    shown = tuple(ClipViews(name, frames[name], tuple(found)) for name, found in seen.items() if found)
    return Inspection(shown, tuple(remarks))


def _views(
    system: int, name: str, directory: Path, clips: Sequence[CaptionedClip]
) -> Iterator[tuple[str, tuple[PageImage, ...], SystemView]]:
    config = run_config(directory)
    drafts = read_configuration(checkpoint_directory(str(directory))).drafts
    model, processor = open_model(directory, config, language_model=drafts)
    dataset = video_dataset(config.data, processor, clips)
    items = [dataset[index] for index in range(len(clips))]
    readable = [item for item in items if "bad" not in item]
    if not readable:
        raise UserError(items[0]["bad"])
    for item in readable:
        pixel_values: Tensor = item["pixel_values"]  # (T, 3, height, width)
        frames = shown_frames(pixel_values)
        pruning, merging, attention = inside(model, pixel_values[None], frames)
        if pruning is None and merging is None and attention is None:
            raise UserError("it prunes and merges no tokens and has no attention over frames.")
        yield (
            item["clip_id"],
            tuple(encode_jpeg(frame) for frame in frames[:MOST_FRAMES]),
            SystemView(system, name, merging, attention, pruning),
        )


def shown_frames(pixel_values: Tensor) -> list[np.ndarray]:
    """Convert the input of the model for painting: uint8 `(T, 3, height, width)` → uint8 (height, width, 3) each."""
    return list(pixel_values.permute(0, 2, 3, 1).numpy())


@torch.no_grad()
def inside(
    model: EvlVideoForCaptioning, pixel_values: Tensor, frames: Sequence[np.ndarray]
) -> tuple[PruningView | None, MergingView | None, AttentionView | None]:
    """Record what a model does while it encodes one clip.

    Args:
        model: in eval mode; its language model is not used, unless it drafts.
        pixel_values: the clip, `(1, T, 3, height, width)`.
        frames: the same for painting, uint8 (height, width, 3) each.

    Returns:
        pruning, merging and attention. `None` for what the model does not do.
    """
    watched = InTowerContextualizer | MergedContextualizer | TomeFormerEncoder
    pixel_values = pixel_values.to(model.vision_tower.device)
    guide = draft_guide(model, pixel_values)
    pruned = None if model.config.tower_pruning is None else model.vision_tower.encode_pruned(pixel_values, guide)
    with _inputs_of([part for part in model.modules() if isinstance(part, watched)]) as inputs:
        model.features_to_prompt(model.vision_tower(pixel_values, guide))
    # In the model's own precision: in another, other tokens would be merged.
    with model.autocast():
        return (
            None if pruned is None else _pruning(model, pruned, frames),
            _merging(model, inputs, pruned, frames),
            _attention(inputs) if len(frames) > 1 else None,
        )


@contextmanager
def _inputs_of(parts: Sequence[nn.Module]) -> Iterator[list[tuple[Any, Tensor]]]:
    """Collect the inputs of parts of a model in the order of execution."""
    inputs: list[tuple[Any, Tensor]] = []

    def note(part: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs.append((part, arguments[0]))

    handles = [part.register_forward_pre_hook(note) for part in parts]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def _pruning(model: EvlVideoForCaptioning, pruned: Encoding, frames: Sequence[np.ndarray]) -> PruningView:
    prefix, grid = model.vision_tower.vit.num_prefix_tokens, model.vision_tower.grid
    pruning = model.config.tower_pruning
    assert pruning is not None, "the model prunes"
    left = patches_left(pruned.prunes, grid[0] * grid[1], prefix).cpu().numpy()  # (T, J, patches)
    painted = [paint_pruned(frame, of_frame.reshape(-1, *grid)) for frame, of_frame in zip(frames, left, strict=True)]
    return PruningView(
        patches=left.shape[2],
        left=tuple(left[0].sum(axis=1).tolist()),
        blocks=pruning.schedule.begin,
        guide="nothing, at random" if pruning.at_random else model.config.pruning_guide,
        painted=tuple(encode_jpeg(frame, max(frame.shape)) for frame in painted[:MOST_FRAMES]),
    )


def _merging(
    model: EvlVideoForCaptioning,
    inputs: Sequence[tuple[Any, Tensor]],
    pruned: Encoding | None,
    frames: Sequence[np.ndarray],
) -> MergingView | None:
    tokens = next((x for part, x in inputs if isinstance(part, TomeFormerEncoder)), None)
    if tokens is None or not isinstance(model.connector, TomeFormer):
        return None
    merged, source = model.connector.bert.forward_with_source(tokens)  # (T or 1, M, H), (T or 1, M, N)
    prefix, grid = model.vision_tower.vit.num_prefix_tokens, model.vision_tower.grid
    if pruned is not None:
        source = _source_of_patches(model, source, pruned, grid[0] * grid[1] + prefix, prefix)
    groups = [patch_groups(of_frame, prefix).reshape(grid) for of_frame in source]
    averaged = len(groups) < len(frames)
    painted = tuple(
        encode_png(paint_groups(frame, groups[0 if averaged else index]))
        for index, frame in enumerate(frames[:MOST_FRAMES])
    )
    return MergingView(tokens.shape[1], merged.shape[1], averaged, painted, np.stack(groups))


def _source_of_patches(
    model: EvlVideoForCaptioning, source: Tensor, pruned: Encoding, num_tokens: int, prefix: int
) -> Tensor:
    """Tell which patches are in each merged token of a tower that prunes: `(T, M, N)` → `(T, M + 1, num_tokens)`.

    The last row is of the patches that pruning dropped, if any.
    """
    pruning = model.config.tower_pruning
    of_tokens = token_sources(pruned.prunes, num_tokens, prefix, fold=pruning is None or pruning.fold)
    with in_float32(source.device):
        merged = source.float() @ of_tokens.float()
    return torch.cat([merged, (merged.sum(dim=1, keepdim=True) == 0).float()], dim=1)


def _attention(inputs: Sequence[tuple[Any, Tensor]]) -> AttentionView | None:
    in_tower = [(part, x) for part, x in inputs if isinstance(part, InTowerContextualizer)]
    merged = [(part, x) for part, x in inputs if isinstance(part, MergedContextualizer)]
    if in_tower:
        rows = np.mean([shares_in_tower(in_tower_attention(part, x)[0]) for part, x in in_tower], axis=0)
    elif merged:
        rows = shares_of_merged(merged_attention(*merged[0])[0])
    else:
        return None
    gates = [abs(float(part.alpha)) for part, _ in in_tower or merged]
    return AttentionView(
        form="in_tower" if in_tower else "merged",
        shares=tuple(rows.mean(axis=0).tolist()),
        rows=tuple(tuple(row) for row in rows.tolist()),
        gate=sum(gates) / len(gates),
    )
