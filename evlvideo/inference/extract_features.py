"""Encode every clip of a run's splits once with its frozen vision tower."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from torch import Tensor

from evlvideo.assembly.clips import read_clips
from evlvideo.assembly.datasets import feature_key, video_dataset
from evlvideo.assembly.models import start_model
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.loading.caption_dataset import CaptionDataset
from evlvideo.data.loading.collate import stack_visual_inputs
from evlvideo.data.loading.features.key import ALL_FRAMES, MEAN_FRAME, FeatureKey
from evlvideo.data.loading.features.store import FeatureWriter, prepare_store, split_directory
from evlvideo.errors import UserError
from evlvideo.inference.pipeline import run_batches
from evlvideo.models.vision import VisionTower
from evlvideo.processes import join_processes, on_main_process, wait_for_all
from evlvideo.progress import progress_bar

logger = logging.getLogger(__name__)


def extract_features(
    config: RunConfig,
    splits: Sequence[str],
    *,
    dtype: str | None = None,
    all_frames: bool = False,
    batch_size: int | None = None,
    console: Console | None = None,
) -> Path:
    """Write the features of splits under `data.features`; continue an interrupted extraction.

    Several processes, such as those of `torchrun`, share the shards.

    Args:
        config: the run that will read them; frames are those of its evaluation.
        splits: splits of its dataset.
        dtype: one of :data:`evlvideo.assembly.precision.DTYPES`. Defaults to the dtype that the tower computes in,
            which gives the same losses with and without features.
        all_frames: keep the features of every frame even if the run takes their mean, for other runs.
        batch_size: clips that the tower encodes at a time. Defaults to `training.batch_size`. Matrix products of
            another size may round differently, so that losses differ slightly from those on videos.
        console: shows a progress bar.

    Returns:
        the directory of all features.

    Raises:
        UserError: data.features is not set, something inside the tower is trained, the dtype is unknown, or the
            directory holds features with another key.
    """
    if config.data.features is None:
        raise UserError("data.features is not set; set it to a directory, for example data.features=features.")
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"The dtype is {dtype!r}; allowed: {', '.join(DTYPES)}.")
    if batch_size is not None and batch_size < 1:
        raise UserError(f"The batch size is {batch_size}; it must be at least 1.")
    root = Path(config.data.features)
    state = join_processes()
    model, processor = start_model(
        config, tower_dtype=DTYPES[resolve_precision(config.training.precision)], language_model=False
    )
    if model.config.needs_frames:
        raise UserError(
            "The run trains contextualizers or relations inside the vision tower, so its outputs change and cannot be "
            "stored; train on videos."
        )
    key = feature_key(config.data, model, processor)
    key = replace(key, stored_in=dtype or key.stored_in, frames=ALL_FRAMES if all_frames else key.frames)
    encoder = _Encoder(
        model.vision_tower.to(state.device),
        batch_size=batch_size or config.training.batch_size,
        dtype=DTYPES[key.stored_in],
        mean=key.frames == MEAN_FRAME,
    )
    for split in splits:
        clips = read_clips(config.data, split)
        directory = split_directory(root, config.data.dataset, split)
        writer = FeatureWriter(directory, len(clips))
        missing = on_main_process(partial(_missing, writer, key, clips))
        shards = missing[state.process_index :: state.num_processes]
        dataset = video_dataset(config.data, processor, clips)
        _extract(encoder, dataset, writer, shards, num_workers=config.data.num_workers, console=console)
    wait_for_all()
    return root


def _missing(writer: FeatureWriter, key: FeatureKey, clips: ClipTable) -> list[int]:
    """List the shards to write. Call in one process: a second one might see shards that the first has just written."""
    prepare_store(writer.directory, key, clips)
    return writer.missing_shards()


class _Encoder(NamedTuple):
    """Encodes frames to features."""

    tower: VisionTower
    batch_size: int
    dtype: torch.dtype
    mean: bool
    """Whether to average the frames of a clip, to `(1, N, D)`."""

    @torch.no_grad()
    def encode(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Encode at most `batch_size` clips; return the features of each on the CPU, `(T, N, D)`.

        Pads smaller batches: matrix products of another size may round differently, so that training on features would
        differ from training on videos.
        """
        pixels = batch["pixel_values"]
        missing = self.batch_size - len(pixels)
        padded = torch.cat([pixels, pixels[-1:].expand(missing, *pixels.shape[1:])]) if missing else pixels
        features = self.tower(padded.to(self.tower.device, non_blocking=True))[: len(pixels)]
        if self.mean:
            features = features.mean(dim=1, keepdim=True)  # as in the captioner, in the tower's dtype
        # Copies, since a file would hold the whole batch for each view of it.
        return [clip.clone() for clip in features.to(self.dtype).cpu()]


def _extract(
    encoder: _Encoder,
    dataset: CaptionDataset,
    writer: FeatureWriter,
    shards: Sequence[int],
    *,
    num_workers: int,
    console: Console | None,
) -> None:
    """Write each shard while the next one is encoded."""
    indices = [index for shard in shards for index in writer.clips_of(shard)]
    batches = [indices[first : first + encoder.batch_size] for first in range(0, len(indices), encoder.batch_size)]
    with ThreadPoolExecutor(1) as pool, progress_bar(console) as bar:
        encoded = chain.from_iterable(
            run_batches(dataset, batches, encoder.encode, collate=stack_visual_inputs, num_workers=num_workers)
        )
        clips = iter(bar.track(encoded, len(indices), description=f"Features of {writer.directory.name}"))
        written: Future[None] | None = None
        for shard in shards:
            outcomes = list(islice(clips, len(writer.clips_of(shard))))
            if written is not None:
                written.result()  # Only one shard waits, and its errors are raised here.
            features = {clip.clip_id: clip.result for clip in outcomes if clip.result is not None}
            bad = {clip.clip_id: clip.bad for clip in outcomes if clip.bad is not None}
            written = pool.submit(writer.write, shard, features, bad)
        if written is not None:
            written.result()
    logger.info("%s: %d clips, %d shards written", writer.directory, len(indices), len(shards))
