"""The frozen tower's outputs, made once for every clip of a run's splits."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from evlvideo.assembly.clips import read_clips
from evlvideo.assembly.datasets import feature_key, video_dataset
from evlvideo.assembly.models import start_model
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.loading.caption_dataset import CaptionDataset
from evlvideo.data.loading.features.key import ALL_FRAMES, MEAN_FRAME, FeatureKey
from evlvideo.data.loading.features.store import FeatureWriter, prepare_store, split_directory
from evlvideo.data.loading.loader import leave_signals_to_parent
from evlvideo.errors import UserError
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
    """Write the features of splits under `data.features`, and go on where an earlier extraction stopped.

    Several processes, as `torchrun` starts them, share the shards.

    Args:
        config: the run that will read them; frames are those of its evaluation.
        splits: of its data set.
        dtype: one of :data:`evlvideo.assembly.precision.DTYPES`; the type that the tower computes in where nothing is
            named, so that a run gives the same losses with and without features.
        all_frames: keep the features of every frame also where the run takes their mean, for runs that do not.
        batch_size: clips that the tower encodes at a time; `training.batch_size` where nothing is named. Matrix
            products of another size may round otherwise, and losses part from those on videos by as much.
        console: where progress is drawn.

    Returns:
        the directory of all features.

    Raises:
        UserError: the config names no directory, something inside the tower is trained, the type is unknown, or there
            are features that were made otherwise.
    """
    if config.data.features is None:
        raise UserError("There is no directory for the features; set data.features, such as data.features=features.")
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"The type is {dtype!r}; allowed: {', '.join(DTYPES)}.")
    if batch_size is not None and batch_size < 1:
        raise UserError(f"The batch size is {batch_size}; it must be 1 or more.")
    root = Path(config.data.features)
    state = join_processes()
    model, processor = start_model(
        config, tower_dtype=DTYPES[resolve_precision(config.training.precision)], language_model=False
    )
    if model.config.needs_frames:
        raise UserError(
            "Contextualizers or relations inside the vision tower change what it makes of frames; its outputs can't be "
            "kept."
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
    """The shards to write; one process says so, since of two that look, one may find what the other wrote by then."""
    prepare_store(writer.directory, key, clips)
    return writer.missing_shards()


class _Encoder(NamedTuple):
    """How features are made of frames."""

    tower: VisionTower
    batch_size: int
    dtype: torch.dtype
    mean: bool
    """Of the frames of a clip, `(1, N, D)`."""

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Frames of at most `batch_size` clips to features on the CPU, `(B, T, N, D)`.

        Always on as many clips as a training step has: matrix products of another size may round otherwise, and
        training would part from that on videos.
        """
        missing = self.batch_size - len(pixels)
        padded = torch.cat([pixels, pixels[-1:].expand(missing, *pixels.shape[1:])]) if missing else pixels
        features = self.tower(padded.to(self.tower.device, non_blocking=True))[: len(pixels)]
        if self.mean:
            features = features.mean(dim=1, keepdim=True)  # as the captioner takes it, in the tower's type
        return features.to(self.dtype).cpu()


class _Shown(NamedTuple):
    """A batch of clips as decoded."""

    clip_ids: list[str]
    bad: dict[str, str]
    """Why a clip could not be decoded."""
    pixels: Tensor | None
    """Of the others, `(B, T, 3, height, width)`."""


def _collate(items: Sequence[dict[str, Any]]) -> _Shown:
    pixels = [item["pixel_values"] for item in items if "bad" not in item]
    bad = {item["clip_id"]: item["bad"] for item in items if "bad" in item}
    return _Shown([item["clip_id"] for item in items], bad, torch.stack(pixels) if pixels else None)


def _extract(
    encoder: _Encoder,
    dataset: CaptionDataset,
    writer: FeatureWriter,
    shards: Sequence[int],
    *,
    num_workers: int,
    console: Console | None,
) -> None:
    """Write shards while the next ones are encoded, and those after them decoded."""
    places = [place for shard in shards for place in writer.clips_of(shard)]
    loader = _loader(dataset, places, encoder.batch_size, num_workers)
    with ThreadPoolExecutor(1) as pool, progress_bar(console) as bar:
        name = f"Features of {writer.directory.name}"
        encoded = iter(bar.track(_encoded(encoder, loader), len(places), description=name))
        written: Future[None] | None = None
        for shard in shards:
            clips = list(islice(encoded, len(writer.clips_of(shard))))
            if written is not None:
                written.result()  # no more than one waits, and what went wrong is raised
            features = {clip_id: found for clip_id, found in clips if not isinstance(found, str)}
            bad = {clip_id: found for clip_id, found in clips if isinstance(found, str)}
            written = pool.submit(writer.write, shard, features, bad)
        if written is not None:
            written.result()
    logger.info("%s: %d clips, %d shards written", writer.directory, len(places), len(shards))


def _loader(dataset: CaptionDataset, places: Sequence[int], batch_size: int, num_workers: int) -> Iterable[_Shown]:
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=[list(places[first : first + batch_size]) for first in range(0, len(places), batch_size)],
        collate_fn=_collate,
        num_workers=num_workers if places else 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )
    leave_signals_to_parent(loader)
    return loader


def _encoded(encoder: _Encoder, batches: Iterable[_Shown]) -> Iterator[tuple[str, Tensor | str]]:
    """Each clip's features, or why it has none, in the order of the batches."""
    for clip_ids, bad, pixels in batches:
        features = iter(() if pixels is None else encoder(pixels))
        for clip_id in clip_ids:
            # A copy, since a file would hold the whole batch for each of its views.
            yield clip_id, bad[clip_id] if clip_id in bad else next(features).clone()
