"""Encode every clip of a run's splits once with its frozen vision tower."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from torch import Tensor

from evlvideo.assembly.clips import clips_of_run
from evlvideo.assembly.datasets import feature_key, video_dataset
from evlvideo.assembly.models import check_start, start_model
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.loading.caption_dataset import CaptionDataset
from evlvideo.data.loading.collate import stack_visual_inputs
from evlvideo.data.loading.features.key import ALL_FRAMES, MEAN_FRAME, FeatureKey
from evlvideo.data.loading.features.parts import Outcomes
from evlvideo.data.loading.features.store import FeatureWriter, prepare_store, split_directory
from evlvideo.errors import Interrupted, UserError
from evlvideo.inference.pipeline import Outcome, run_batches
from evlvideo.models.vision import VisionTower
from evlvideo.processes import (
    interrupted_by_signals,
    join_processes,
    on_main_process,
    wait_for_all,
    without_signals,
)
from evlvideo.progress import Progress
from evlvideo.terminal import log_file

LOG_NAME = "extract.log"
"""Log of a command, in the directory of all features."""
KEPT_SECONDS = 10.0
"""Longest time between two files: a killed extraction loses this much, and a batch."""

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
        console: where to draw a progress bar.

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
    check_start(config)
    clips_of = {split: clips_of_run(config.data, split) for split in splits}
    model, processor = start_model(
        config, tower_dtype=DTYPES[resolve_precision(config.training.precision)], language_model=False
    )
    if model.needs_frames:
        raise UserError(
            "The run trains inside the vision tower (its weights, contextualizers or relations), so its outputs change "
            "and cannot be stored; train on videos."
        )
    key = feature_key(config.data, model, processor)
    key = replace(key, stored_in=dtype or key.stored_in, frames=ALL_FRAMES if all_frames else key.frames)
    encoder = _Encoder(
        model.vision_tower.to(state.device),
        batch_size=batch_size or config.training.batch_size,
        dtype=DTYPES[key.stored_in],
        mean=key.frames == MEAN_FRAME,
    )
    with log_file(root / LOG_NAME), interrupted_by_signals():
        for split, clips in clips_of.items():
            directory = split_directory(root, config.data.dataset, split)
            writer = FeatureWriter(directory, len(clips))
            missing = on_main_process(partial(_missing, writer, key, clips))
            shards = missing[state.process_index :: state.num_processes]
            dataset = video_dataset(config.data, processor, clips)
            # Of several processes, each counts its share.
            finished = (
                0 if state.num_processes > 1 else len(clips) - sum(len(writer.clips_of(shard)) for shard in missing)
            )
            _extract(
                encoder,
                dataset,
                writer,
                shards,
                finished=finished,
                num_workers=config.data.num_workers,
                console=console,
            )
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
    finished: int,
    num_workers: int,
    console: Console | None,
) -> None:
    """Write each shard while the next one is encoded, and every few seconds what there is of an incomplete one.

    Raises:
        Interrupted: a signal came; all clips that were encoded have been written.
    """
    kept = {shard: writer.kept(shard) for shard in shards}
    indices = {shard: _unencoded(dataset, writer.clips_of(shard), kept[shard]) for shard in shards}
    pending = list(chain.from_iterable(indices.values()))
    batches = [pending[first : first + encoder.batch_size] for first in range(0, len(pending), encoder.batch_size)]
    done = finished + sum(map(len, kept.values()))
    progress = Progress(f"features of {writer.directory.name}", done + len(pending), console=console, done=done)
    encoded = run_batches(dataset, batches, encoder.encode, collate=stack_visual_inputs, num_workers=num_workers)
    counted: Iterator[list[Outcome[Tensor]]] = progress.track(encoded, count=len)
    clips = chain.from_iterable(counted)
    with ThreadPoolExecutor(1) as pool, progress:
        saving = _Saving(writer, pool)
        try:
            for shard in shards:
                saving.begin(shard, kept.pop(shard))
                for clip in islice(clips, len(indices[shard])):
                    saving.add(clip)
                saving.complete()
            saving.wait()
        except (KeyboardInterrupt, Interrupted) as error:
            with without_signals():
                saving.keep()
                saving.wait()
            raise Interrupted(
                f"Stopped at {progress.done:,} of {progress.total:,} clips of {writer.directory.name}, which are kept "
                f"in {writer.directory}. Give the same command again to go on."
            ) from error
    logger.info("%s: %d clips written", writer.directory, len(pending))


def _unencoded(dataset: CaptionDataset, numbers: Iterable[int], kept: Outcomes) -> list[int]:
    """Return the indices of the clips that have no outcome yet."""
    return [number for number in numbers if dataset.clips[number].clip_id not in kept] if kept else list(numbers)


class _Saving:
    """Collects the clips of a shard, and writes them in another thread, one file at a time.

    Args:
        writer: writes the files.
        pool: the thread.
    """

    def __init__(self, writer: FeatureWriter, pool: ThreadPoolExecutor) -> None:
        self._writer, self._pool = writer, pool
        self._written: Future[None] | None = None
        self._shard = 0
        self._all, self._new = Outcomes(), Outcomes()
        self._saved_at = time.monotonic()

    def begin(self, shard: int, kept: Outcomes) -> None:
        """Begin a shard with the clips that an earlier call has kept."""
        self._shard, self._all, self._new = shard, kept, Outcomes()

    def add(self, clip: Outcome[Tensor]) -> None:
        """Add a clip; from time to time, keep those since the last time."""
        if clip.result is not None:
            self._new.features[clip.clip_id] = clip.result
        elif clip.bad is not None:
            self._new.bad[clip.clip_id] = clip.bad
        if time.monotonic() - self._saved_at >= KEPT_SECONDS:
            self.keep()

    def keep(self) -> None:
        """Write the clips of an incomplete shard that no file holds yet."""
        if len(self._new):
            self._all.add(self._new)
            self._write(self._writer.keep, self._new)
            self._new = Outcomes()

    def complete(self) -> None:
        """Write the shard."""
        self._all.add(self._new)
        self._write(self._writer.write, self._all)
        self._all, self._new = Outcomes(), Outcomes()

    def _write(self, write: Callable[[int, Outcomes], None], outcomes: Outcomes) -> None:
        self.wait()  # Only one file waits.
        self._written = self._pool.submit(write, self._shard, outcomes)
        self._saved_at = time.monotonic()

    def wait(self) -> None:
        """Wait for the file that is being written.

        Raises:
            UserError: it cannot be written.
        """
        if self._written is not None:
            self._written.result()
