"""From a run's config to its clips, data sets and models."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from evlvideo.architecture import changed_by_run, check_same_architecture, compared_keys, run_architecture
from evlvideo.config import DataConfig, RunConfig, SourceConfig
from evlvideo.config_checks import SHARDS, TOWERS
from evlvideo.data.annotations import CaptionedClip, locate
from evlvideo.data.clip_table import ClipTable
from evlvideo.data.datasets import CaptionDataset
from evlvideo.data.decode import DECODING_VERSION
from evlvideo.data.feature_dataset import FeatureDataset
from evlvideo.data.feature_key import ALL_FRAMES, MEAN_FRAME, FeatureKey
from evlvideo.data.feature_store import FeatureReader, split_directory
from evlvideo.data.guarded import decode_clip_guarded
from evlvideo.data.media import TarMember
from evlvideo.data.mixture import Mixture
from evlvideo.data.quarantine import read_quarantine, without_quarantined
from evlvideo.data.sampling import SAMPLERS
from evlvideo.data.shards import ShardClips, ShardDataset, find_shards
from evlvideo.data.stored_clips import read_stored
from evlvideo.data.transforms import TRANSFORM_VERSION, Transform, eval_transform, train_transform
from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import (
    checkpoint_directory,
    load_frozen_towers,
    load_own_tower,
    read_text_config,
)
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.frozen import fingerprint
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.processes import on_main_process, wait_for_all


def read_clips(data: DataConfig, split: str) -> ClipTable:
    """The clips of a split of a run's data set; every process of a command has to ask for them.

    Of several processes, one looks for the files, and one on each machine where the cache is not shared. The others
    take its word and, where there are many clips, its table.

    Raises:
        UserError: the split cannot be read, or not all of its files are there; in every process.
    """
    root = locate(data.dataset, Path(data.root) if data.root else None)
    video_root = Path(data.video_root) if data.video_root else None
    read = partial(read_stored, data.dataset, split, root, video_root)
    state = PartialState()
    if state.num_processes == 1:
        return read()
    on_main_process(lambda: len(read()))
    if state.is_local_main_process and not state.is_main_process:
        read()
    wait_for_all()
    return read(check_files=False)


def read_training_clips(data: DataConfig) -> dict[str, ClipTable | ShardClips]:
    """The clips that a run trains on, by source, without those in quarantine: several data sets, or a split of one."""
    clips: dict[str, ClipTable | ShardClips] = {
        f"sources[{place}], {source.dataset}:{source.split}": _read_source(data, source)
        for place, source in enumerate(data.sources)
    }
    if not data.sources:
        clips = {f"{data.dataset}:{data.train_split}": read_clips(data, data.train_split)}
    if data.quarantine is None:
        return clips
    bad = read_quarantine(Path(data.quarantine))
    return {
        name: of_source if isinstance(of_source, ShardClips) else without_quarantined(of_source, bad, name)
        for name, of_source in clips.items()
    }


def _read_source(data: DataConfig, source: SourceConfig) -> ClipTable | ShardClips:
    if source.dataset != SHARDS:
        of_source = replace(data, dataset=source.dataset, root=source.root, video_root=source.video_root)
        return read_clips(of_source, source.split)
    if source.root is None:
        raise UserError("A source of shards has no root; set its root to the directory that holds the .tar files.")
    return ShardClips(find_shards(Path(source.root)))


def references_of(clips: Iterable[CaptionedClip]) -> dict[str, list[str]]:
    """Clip id → captions."""
    return {clip.clip_id: list(clip.captions) for clip in clips}


def training_data(
    config: RunConfig,
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    sources: Mapping[str, Sequence[CaptionedClip] | ShardClips],
    *,
    per_caption: bool,
) -> Mixture:
    """What :func:`read_training_clips` gave, in the order in which it is trained on, by ratio of several sources."""
    datasets = {
        name: _source_dataset(config, model, processor, clips, per_caption=per_caption)
        for name, clips in sources.items()
    }
    ratios = [source.ratio for source in config.data.sources] or [1.0]
    training = config.training
    return Mixture(
        datasets,
        dict(zip(datasets, ratios, strict=True)),
        seed=config.seed,
        items_per_step=training.batch_size * training.gradient_accumulation_steps * PartialState().num_processes,
    )


def _source_dataset(
    config: RunConfig,
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    clips: Sequence[CaptionedClip] | ShardClips,
    *,
    per_caption: bool,
) -> CaptionDataset | FeatureDataset | ShardDataset:
    if isinstance(clips, ShardClips):
        return shard_dataset(config, processor, clips)
    if config.data.features is None:
        return train_dataset(config, processor, clips, per_caption=per_caption)
    return feature_dataset(config.data, processor, model, clips, config.data.train_split, per_caption=per_caption)


def train_dataset(
    config: RunConfig, processor: EvlVideoProcessor, clips: Sequence[CaptionedClip], *, per_caption: bool
) -> CaptionDataset:
    """Clips as they are trained on: frames and crops at random, by the seed of the run."""
    data = config.data
    return CaptionDataset(
        clips,
        num_frames=data.num_frames,
        sampling=data.train_sampling,
        image_size=processor.image_size,
        transform=_train_transform(data, processor),
        seed=config.seed,
        per_caption=per_caption,
        on_bad_clip="resample",
        keep_aspect=data.keep_aspect,
    )


def shard_dataset(config: RunConfig, processor: EvlVideoProcessor, clips: ShardClips) -> ShardDataset:
    """Samples of shards as they are trained on."""
    data = config.data
    decode = partial(
        _decode_member,
        sampling=data.train_sampling,
        num_frames=data.num_frames,
        size=processor.image_size,
        keep_aspect=data.keep_aspect,
    )
    return ShardDataset(clips, decode=decode, transform=_train_transform(data, processor), seed=config.seed)


def _decode_member(
    media: TarMember, generator: torch.Generator, *, sampling: str, num_frames: int, size: int, keep_aspect: bool
) -> np.ndarray:
    sampler = SAMPLERS[sampling]
    return decode_clip_guarded(
        media, lambda frames, rate: sampler(frames, rate, num_frames, generator), size, keep_aspect=keep_aspect
    ).frames


def _train_transform(data: DataConfig, processor: EvlVideoProcessor) -> Transform:
    if not data.augment:
        return evaluation_transform(data, processor)
    return train_transform(processor.image_size, data.crop_scale_min, data.horizontal_flip)


def evaluation_transform(data: DataConfig, processor: EvlVideoProcessor) -> Transform:
    """From decoded frames to what a model of a run is given, without any randomness."""
    return eval_transform(processor.image_size, keep_aspect=data.keep_aspect)


def evaluation_data(
    data: DataConfig,
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    clips: Sequence[CaptionedClip],
    split: str,
) -> CaptionDataset | FeatureDataset:
    """Clips of a split as they are captioned: from features where the run has some, else from their videos."""
    if data.features is None:
        return evaluation_dataset(data, processor, clips)
    return feature_dataset(data, processor, model, clips, split, per_caption=None)


def feature_dataset(
    data: DataConfig,
    processor: EvlVideoProcessor,
    model: EvlVideoForCaptioning,
    clips: Sequence[CaptionedClip],
    split: str,
    *,
    per_caption: bool | None,
) -> FeatureDataset:
    """Clips by features that the model's own tower made; `per_caption` is `None` in evaluation."""
    assert data.features is not None
    directory = split_directory(Path(data.features), data.dataset, split)
    reader = FeatureReader(directory, feature_key(data, model, processor))
    reader.check(clips)
    return FeatureDataset(clips, reader, per_caption=bool(per_caption), leave_out_bad=per_caption is not None)


def feature_key(data: DataConfig, model: EvlVideoForCaptioning, processor: EvlVideoProcessor) -> FeatureKey:
    """What a run's features depend on: of all frames, or of their mean where the model takes that."""
    tower = model.vision_tower
    computed_in = precision_of(tower.dtype)
    return FeatureKey(
        tower=model.tower_fingerprints.get("vision_tower") or fingerprint(tower),
        num_frames=data.num_frames,
        sampling=data.eval_sampling,
        keep_aspect=data.keep_aspect,
        image_size=processor.image_size,
        image_mean=list(tower.image_mean),
        image_std=list(tower.image_std),
        backend="auto",
        decoding_version=DECODING_VERSION,
        transform_version=TRANSFORM_VERSION,
        frames=MEAN_FRAME if model.config.fusion == "mean" else ALL_FRAMES,
        computed_in=computed_in,
        stored_in=computed_in,
    )


def evaluation_dataset(
    data: DataConfig, processor: EvlVideoProcessor, clips: Sequence[CaptionedClip]
) -> CaptionDataset:
    """Clips as they are captioned: frames chosen and scaled without any randomness."""
    return CaptionDataset(
        clips,
        num_frames=data.num_frames,
        sampling=data.eval_sampling,
        image_size=processor.image_size,
        transform=evaluation_transform(data, processor),
        seed=0,
        per_caption=False,
        on_bad_clip="skip",
        keep_aspect=data.keep_aspect,
    )


def start_model(config: RunConfig, *, tower_dtype: torch.dtype) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    """Make the model that a run starts from: a new one, or a checkpoint's with the changes that the run makes to it."""
    architecture, directory = _start_of(config)
    if directory is None:
        model = EvlVideoForCaptioning.from_towers(architecture, bert=config.connector_init, tower_dtype=tower_dtype)
    else:
        model = EvlVideoForCaptioning.from_pretrained(directory, config=architecture, tower_dtype=tower_dtype)
    return model, _processor_of(model, directory)


def start_tower(config: RunConfig, *, tower_dtype: torch.dtype) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    """Make :func:`start_model`'s as far as its vision tower: nothing else has weights that were read."""
    architecture, directory = _start_of(config)
    model = without_language_model(architecture, directory, tower_dtype=tower_dtype)
    if directory is not None:
        load_own_tower(model, directory)
    return model.eval(), _processor_of(model, directory)


def without_language_model(
    architecture: EvlVideoConfig, directory: Path | None, *, tower_dtype: torch.dtype
) -> EvlVideoForCaptioning:
    """A captioner whose language model takes no memory, with its frozen vision tower and trained parts at random."""
    model = EvlVideoForCaptioning(architecture, empty_language_model=True)
    load_frozen_towers(model, directory, dtype=tower_dtype, only={"vision_tower"})
    return model


def _start_of(config: RunConfig) -> tuple[EvlVideoConfig, Path | None]:
    """The architecture that a run starts from, and its checkpoint where there is one."""
    if config.init != TOWERS:
        directory = checkpoint_directory(config.init)
        saved = EvlVideoConfig.from_pretrained(directory)
        if config.architecture is not None:
            check_same_architecture(Path(config.architecture), saved, directory, keys=compared_keys(config))
        return changed_by_run(saved, config), directory
    architecture = run_architecture(config)
    # The file states the language model's sizes for estimates; its own configuration says all.
    architecture.text_config = read_text_config(architecture.language_model)
    # All else is from the file, with what the run changes.
    check_same_architecture(
        Path(str(config.architecture)), architecture, Path(architecture.language_model), keys=("text_config",)
    )
    return architecture, None


def _processor_of(model: EvlVideoForCaptioning, directory: Path | None) -> EvlVideoProcessor:
    if directory is None:
        return EvlVideoProcessor.for_towers(model.config, model.vision_tower)
    return EvlVideoProcessor.from_pretrained(directory)


def open_model(checkpoint: Path | str, config: RunConfig) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    """Open a checkpoint for captioning, changed as the run says, on this process's GPU or on the CPU.

    Raises:
        UserError: there is no checkpoint, or the device does not compute in the run's precision.
    """
    directory = checkpoint_directory(str(checkpoint))
    model = EvlVideoForCaptioning.from_pretrained(
        directory,
        config=changed_by_run(EvlVideoConfig.from_pretrained(directory), config),
        tower_dtype=tower_dtype(resolve_precision(config.training.precision)),
    )
    return model.to(PartialState().device), EvlVideoProcessor.from_pretrained(directory)


def resolve_precision(precision: str) -> str:
    """`auto` is bf16 on a GPU that has it, else fp32; bf16 that is asked for is computed on a CPU too.

    Raises:
        UserError: half precision is asked for that the GPU, or the CPU where there is none, does not have.
    """
    gpu = torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")
    # Without emulation, which would be slower than float32.
    fast_bf16 = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    available = {"fp32": True, "fp16": gpu, "bf16": fast_bf16 or not gpu}
    if precision == "auto":
        return "bf16" if fast_bf16 else "fp32"
    if not available[precision]:
        allowed = ", ".join(["auto", *(name for name in available if available[name])])
        where = "this GPU does not have it" if gpu else "there is no GPU, which it needs"
        raise UserError(f"training.precision is {precision}, and {where}; allowed here: {allowed}.")
    return precision


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
"""Types by the name of their precision."""


def tower_dtype(precision: str) -> torch.dtype:
    """Frozen towers are kept in the type that they compute in."""
    return DTYPES[precision]


def precision_of(dtype: torch.dtype) -> str:
    """The name of a tower's type."""
    return next(name for name, named in DTYPES.items() if named == dtype)


def trained_parameters(model: EvlVideoForCaptioning) -> int:
    """How many numbers take gradients."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
