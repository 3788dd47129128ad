"""Run a connector on clips, and measure how different its tokens are after each step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import Dataset

from evlvideo.assembly.clips import read_clips
from evlvideo.assembly.datasets import evaluation_dataset
from evlvideo.config.run import RunConfig
from evlvideo.data.loading.collate import stack_visual_inputs
from evlvideo.errors import UserError
from evlvideo.inference.pipeline import Outcome, batches_of, run_batches
from evlvideo.inspection.layers import PROMPT, TOWER, by_clip, outputs_of, steps_of
from evlvideo.inspection.records import ClipsSeen, LayerSpread, MergedSizes
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors.tomeformer import TomeFormer
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.tokens.prompt_statistics import TokenMoments, joined_moments, spread_of, token_moments
from evlvideo.progress import Progress


@dataclass(frozen=True, slots=True)
class _Seen:
    """One clip."""

    moments: dict[str, TokenMoments]
    """Step → its tokens, in the order of computation."""
    tokens: dict[str, int]
    """Step → how many they are."""
    sizes: Tensor | None
    """Original tokens in each merged one, `(T or 1, M)`."""


def see_clips(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    config: RunConfig,
    *,
    split: str,
    clips: int,
    words_norm: float,
    console: Console | None = None,
) -> ClipsSeen:
    """Encode some clips of a split, and measure the spread of their tokens after each step.

    Args:
        model: in eval mode.
        processor: its processor.
        config: names the dataset, and whether videos or features are read.
        split: its split.
        clips: how many are seen, at equal distances over the split.
        words_norm: mean norm of a word embedding, to set that of the soft prompt against.
        console: shows a progress bar.

    Raises:
        UserError: the clips cannot be read, or none of them can be decoded.
    """
    table = read_clips(config.data, split)
    numbers = np.unique(np.linspace(0, len(table) - 1, min(clips, len(table))).round().astype(np.int64))
    dataset = evaluation_dataset(config.data, model, processor, table.take(numbers), split)
    outcomes = _run(model, dataset, len(numbers), config, console)
    seen = [outcome.result for outcome in outcomes if outcome.result is not None]
    if not seen:
        raise UserError(f"None of {len(numbers)} clips could be read, such as {outcomes[0].clip_id}: {outcomes[0].bad}")
    return ClipsSeen(
        source=f"{config.data.dataset}:{split}",
        read_from="videos" if config.data.features is None else "features",
        clips=len(seen),
        bad={outcome.clip_id: outcome.bad for outcome in outcomes if outcome.bad is not None},
        layers=_layers(seen, words_norm),
        merged=_merged_sizes([clip.sizes for clip in seen if clip.sizes is not None]),
    )


def _run(
    model: EvlVideoForCaptioning,
    dataset: Dataset[dict[str, Any]],
    clips: int,
    config: RunConfig,
    console: Console | None,
) -> list[Outcome[_Seen]]:
    found = run_batches(
        dataset,
        batches_of(clips, config.generation.batch_size),
        partial(_see_batch, model),
        collate=stack_visual_inputs,
        num_workers=config.data.num_workers,
    )
    with Progress("inspection", clips, console=console) as progress:
        return [clip for batch in progress.track(found, len) for clip in batch]


@torch.no_grad()
def _see_batch(model: EvlVideoForCaptioning, batch: dict[str, Tensor]) -> list[_Seen]:
    inputs = {name: value.to(model.vision_tower.device) for name, value in batch.items()}
    features = inputs["features"] if "features" in inputs else model.vision_tower(inputs["pixel_values"])
    with outputs_of(steps_of(model)) as outputs:
        model.features_to_prompt(features)
    clips = len(features)
    tokens = {name: by_clip(output, clips) for name, output in {TOWER: features, **outputs}.items()}
    moments = {name: token_moments(found) for name, found in tokens.items() if found is not None}
    sizes = _sizes(model, outputs, clips)
    return [
        _Seen(
            moments={name: of_all.clip(index) for name, of_all in moments.items()},
            tokens={name: found.shape[1] for name, found in tokens.items() if found is not None},
            sizes=None if sizes is None else sizes[index],
        )
        for index in range(clips)
    ]


def _sizes(model: EvlVideoForCaptioning, outputs: dict[str, Tensor], clips: int) -> Tensor | None:
    """Count the original tokens in each merged one, `(B, T or 1, M)`."""
    connector = model.connector
    if not isinstance(connector, TomeFormer):
        return None
    tokens = outputs["connector.projection"].flatten(0, 1)  # (B·T, N, H)
    with model.autocast():
        _, source = connector.bert.forward_with_source(tokens)  # (B·T, M, N)
    return source.sum(dim=-1).unflatten(0, (clips, -1)).cpu()


def _layers(seen: Sequence[_Seen], words_norm: float) -> list[LayerSpread]:
    """Join the clips. A step that was not of the clips in every batch, as with a batch of one, is left out."""
    return [
        LayerSpread(
            name=name,
            tokens=tokens,
            spread=spread_of(
                joined_moments([clip.moments[name] for clip in seen]), words_norm if name == PROMPT else None
            ),
        )
        for name, tokens in seen[0].tokens.items()
        if all(name in clip.moments for clip in seen)
    ]


def _merged_sizes(sizes: Sequence[Tensor]) -> MergedSizes | None:
    if not sizes:
        return None
    all_sizes = torch.cat(list(sizes))  # (frames of all clips, M)
    return MergedSizes(
        mean=float(all_sizes.mean()),
        largest=float(all_sizes.max(dim=1).values.mean()),
        single=float((all_sizes == 1).float().mean()),
    )
