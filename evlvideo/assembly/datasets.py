"""Build a run's datasets for training and evaluation from its clips."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from accelerate import PartialState

from evlvideo.assembly.fitted_guide import check_guide
from evlvideo.assembly.precision import precision_of
from evlvideo.config.data import DataConfig
from evlvideo.config.run import RunConfig
from evlvideo.config.vlp import VlpConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.loading.caption_dataset import CaptionDataset
from evlvideo.data.loading.features.dataset import FeatureDataset
from evlvideo.data.loading.features.key import ALL_FRAMES, MEAN_FRAME, FeatureKey
from evlvideo.data.loading.features.store import FeatureReader, split_directory
from evlvideo.data.loading.mixture import Mixture
from evlvideo.data.loading.shards.clips import ShardClips
from evlvideo.data.loading.shards.dataset import ShardDataset
from evlvideo.data.loading.transforms import TRANSFORM_VERSION, Transform, eval_transform, train_transform
from evlvideo.data.media.media import TarMember
from evlvideo.data.video.decode import DECODING_VERSION
from evlvideo.data.video.guarded import decode_frames_guarded
from evlvideo.data.video.sampling import SAMPLERS
from evlvideo.errors import UserError
from evlvideo.models.blocks.pruning_options import NEEDS_FRAMES
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.towers import fingerprint
from evlvideo.models.trainable import holds_some_of


class TakesImages(Protocol):
    """What knows the size of a model's images, such as its processor."""

    @property
    def image_size(self) -> int:
        """Side of an image in pixels."""
        ...


def training_dataset(
    config: RunConfig | VlpConfig,
    model: EvlVideoForCaptioning | None,
    processor: TakesImages,
    sources: Mapping[str, Sequence[CaptionedClip] | ShardClips],
    *,
    per_caption: bool,
) -> Mixture:
    """Build a run's training dataset: the clips of :func:`read_training_clips`, shuffled and mixed by ratio.

    Only a run that trains on features needs its model for that.
    """
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
        one_source_a_step=config.data.batches == "one_source",
    )


def describe_sources(mixture: Mixture) -> dict[str, dict[str, Any]]:
    """Say what a run trains on, for its record.

    Returns:
        source → its number of `clips` and `captions` and, by model, how many of these were `generated`; of shards,
        whose captions are read as they are trained on, the clips alone.
    """
    tables: list[Any] = [cast(Any, source).clips for source in mixture.sources]
    return {
        name: {"clips": len(clips), **(_describe_captions(clips) if isinstance(clips, ClipTable) else {})}
        for name, clips in zip(mixture.names, tables, strict=True)
    }


def _describe_captions(clips: ClipTable) -> dict[str, Any]:
    return {"captions": int(clips.caption_counts().sum()), "generated": clips.captions_by_maker()}


def _source_dataset(
    config: RunConfig | VlpConfig,
    model: EvlVideoForCaptioning | None,
    processor: TakesImages,
    clips: Sequence[CaptionedClip] | ShardClips,
    *,
    per_caption: bool,
) -> CaptionDataset | FeatureDataset | ShardDataset:
    if isinstance(clips, ShardClips):
        return _shard_dataset(config, processor, clips)
    if config.data.features is None:
        return train_dataset(config, processor, clips, per_caption=per_caption)
    assert model is not None
    assert isinstance(processor, EvlVideoProcessor)
    return _feature_dataset(config.data, processor, model, clips, config.data.train_split, per_caption=per_caption)


def train_dataset(
    config: RunConfig | VlpConfig, processor: TakesImages, clips: Sequence[CaptionedClip], *, per_caption: bool
) -> CaptionDataset:
    """Build a dataset of clips for training, with frames and crops sampled by the run's seed."""
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


def _shard_dataset(config: RunConfig | VlpConfig, processor: TakesImages, clips: ShardClips) -> ShardDataset:
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
    return decode_frames_guarded(
        media, lambda frames, seconds: sampler(frames, seconds, num_frames, generator), size, keep_aspect=keep_aspect
    ).frames


def _train_transform(data: DataConfig, processor: TakesImages) -> Transform:
    if not data.augment:
        return _evaluation_transform(data, processor)
    return train_transform(processor.image_size, data.crop_scale_min, data.horizontal_flip)


def _evaluation_transform(data: DataConfig, processor: TakesImages) -> Transform:
    """Return the deterministic transform from decoded frames to model inputs."""
    return eval_transform(processor.image_size, keep_aspect=data.keep_aspect)


def evaluation_dataset(
    data: DataConfig,
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    clips: Sequence[CaptionedClip],
    split: str,
) -> CaptionDataset | FeatureDataset:
    """Build a dataset of a split for captioning, from features if the run has them, otherwise from videos."""
    if data.features is None:
        return video_dataset(data, processor, clips)
    return _feature_dataset(data, processor, model, clips, split, per_caption=None)


def _feature_dataset(
    data: DataConfig,
    processor: EvlVideoProcessor,
    model: EvlVideoForCaptioning,
    clips: Sequence[CaptionedClip],
    split: str,
    *,
    per_caption: bool | None,
) -> FeatureDataset:
    """Build a dataset of features that this model's tower produced; in evaluation, `per_caption` is None."""
    assert data.features is not None
    directory = split_directory(Path(data.features), data.dataset, split)
    reader = FeatureReader(directory, feature_key(data, model, processor))
    reader.check(clips)
    return FeatureDataset(clips, reader, per_caption=bool(per_caption), leave_out_bad=per_caption is not None)


def feature_key(data: DataConfig, model: EvlVideoForCaptioning, processor: EvlVideoProcessor) -> FeatureKey:
    """Return the key of a run's features; they are means over frames if the model's fusion is.

    Raises:
        UserError: the tower prunes by a draft of each clip, or by a guide that is not fitted yet.
    """
    tower = model.vision_tower
    computed_in = precision_of(tower.dtype)
    # The fingerprint that was taken when the tower was loaded is of what it was before it was trained.
    trained = holds_some_of("vision_tower", model.held_weights)
    return FeatureKey(
        tower=(None if trained else model.tower_fingerprints.get("vision_tower")) or fingerprint(tower),
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
        pruning=_pruning_key(model),
    )


def _pruning_key(model: EvlVideoForCaptioning) -> str | None:
    """Describe how a tower prunes, with a digest of what it is guided by."""
    config, guide = model.config, model.vision_tower.pruning_guide
    if config.drafts:
        raise UserError(f"{NEEDS_FRAMES}.")
    if config.tower_pruning is None:
        return None
    check_guide(model, "stored features would depend on it")
    fitted = {} if guide is None else {"fitted": fingerprint(guide)}
    return json.dumps({**(config.pruning or {}), **fitted}, sort_keys=True)


def video_dataset(data: DataConfig, processor: TakesImages, clips: Sequence[CaptionedClip]) -> CaptionDataset:
    """Build a dataset of videos for captioning, without any randomness."""
    return CaptionDataset(
        clips,
        num_frames=data.num_frames,
        sampling=data.eval_sampling,
        image_size=processor.image_size,
        transform=_evaluation_transform(data, processor),
        seed=0,
        per_caption=False,
        on_bad_clip="skip",
        keep_aspect=data.keep_aspect,
    )
