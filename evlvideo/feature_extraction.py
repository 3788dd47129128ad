"""The frozen tower's outputs, made once for every clip of a run's splits."""

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from accelerate import PartialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from evlvideo.assembly import (
    evaluation_dataset,
    feature_key,
    read_clips,
    resolve_precision,
    start_model,
    tower_dtype,
)
from evlvideo.config import RunConfig
from evlvideo.data.datasets import CaptionDataset
from evlvideo.data.feature_store import FeatureWriter, split_directory
from evlvideo.errors import UserError
from evlvideo.models.vision import VisionTower

logger = logging.getLogger(__name__)

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
"""Types of stored features."""


def extract_features(
    config: RunConfig, splits: Sequence[str], *, dtype: str | None = None, console: Console | None = None
) -> Path:
    """Write the features of splits under `data.features`, and go on where an earlier extraction stopped.

    Several processes, as `accelerate launch` starts them, share the shards.

    Args:
        config: the run that will read them; frames are those of its evaluation.
        splits: of its data set.
        dtype: one of :data:`TYPES`; the type that the tower computes in where nothing is named, so that a run gives
            the same losses with and without features.
        console: where progress is drawn.

    Returns:
        the directory of all features.

    Raises:
        UserError: the config names no directory, something inside the tower is trained, the type is unknown, or there
            are features that were made otherwise.
    """
    if config.data.features is None:
        raise UserError("There is no directory for the features; set data.features, such as data.features=features.")
    if dtype is not None and dtype not in TYPES:
        raise UserError(f"The type is {dtype!r}; allowed: {', '.join(TYPES)}.")
    root = Path(config.data.features)
    state = PartialState()
    model, processor = start_model(config, tower_dtype=tower_dtype(resolve_precision(config.training.precision)))
    if model.config.needs_frames:
        raise UserError(
            "Contextualizers or relations inside the vision tower change what it makes of frames; its outputs can't be "
            "kept."
        )
    model.vision_tower.to(state.device)
    key = feature_key(config.data, model, processor)
    for split in splits:
        clips = read_clips(config.data, split)
        dataset = evaluation_dataset(config.data, processor, clips)
        directory = split_directory(root, config.data.dataset, split)
        with state.main_process_first():
            writer = FeatureWriter(directory, key, [clip.clip_id for clip in clips])
        shards = writer.missing_shards()[state.process_index :: state.num_processes]
        _extract(
            model.vision_tower,
            dataset,
            writer,
            shards,
            dtype=None if dtype is None else TYPES[dtype],
            batch_size=config.training.batch_size,
            num_workers=config.data.num_workers,
            console=console,
        )
    state.wait_for_everyone()
    return root


@torch.no_grad()
def _extract(
    tower: VisionTower,
    dataset: CaptionDataset,
    writer: FeatureWriter,
    shards: Sequence[int],
    *,
    dtype: torch.dtype | None,
    batch_size: int,
    num_workers: int,
    console: Console | None,
) -> None:
    places = [place for shard in shards for place in writer.clips_of(shard)]
    loader = DataLoader(Subset(dataset, places), batch_size=None, num_workers=num_workers, generator=torch.Generator())
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console or Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"Features of {writer.directory.name}", total=len(places))
        items = iter(loader)
        for shard in shards:
            of_shard = list(islice(items, len(writer.clips_of(shard))))
            good = [item for item in of_shard if "bad" not in item]
            features: dict[str, Tensor] = {}
            for first in range(0, len(good), batch_size):
                batch = good[first : first + batch_size]
                pixels = torch.stack([item["pixel_values"] for item in batch])  # (B, T, 3, height, width)
                found = _run(tower, pixels, batch_size)
                features |= {item["clip_id"]: found[k].to(dtype or found.dtype).clone() for k, item in enumerate(batch)}
                bar.advance(task, len(batch))
            bad = {item["clip_id"]: item["bad"] for item in of_shard if "bad" in item}
            writer.write(shard, features, bad)
    logger.info("%s: %d clips, %d shards written", writer.directory, len(places), len(shards))


def _run(tower: VisionTower, pixels: Tensor, batch_size: int) -> Tensor:
    """Features of clips, `(B, T, N, D)`, on the CPU.

    Always on as many clips as a training step has: matrix products of another size round otherwise, and training would
    part from that on videos.
    """
    missing = batch_size - len(pixels)
    padded = torch.cat([pixels, pixels[-1:].expand(missing, *pixels.shape[1:])])
    return tower(padded.to(tower.device))[: len(pixels)].cpu()
