"""Caption video files that belong to no dataset."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import set_seed

from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.config.generation import GenerationConfig
from evlvideo.config.loading import config_of
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.errors import UserError
from evlvideo.inference.captioning import stream_captions
from evlvideo.inference.captions import Caption
from evlvideo.inference.pipeline import Outcome
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.processes import join_processes
from evlvideo.results.run_directory import CONFIG_NAME, run_config


class CaptionedFile(NamedTuple):
    """The outcome for a file."""

    video: Path
    captions: list[str]
    """The likeliest first; empty if the file could not be decoded."""
    bad: str | None
    """Why it could not be decoded."""
    special_tokens: tuple[tuple[str, ...], ...] = ()
    """Special tokens inside each caption, which is without them."""


def caption_files(
    videos: Sequence[Path],
    checkpoint: str,
    *,
    config: RunConfig | None = None,
    overrides: list[str] | None = None,
    captions_per_video: int = 1,
    prompt: str | None = None,
) -> Iterator[CaptionedFile]:
    """Caption videos as an evaluation does, and yield each as soon as its batch of `generation.batch_size` is done.

    Several processes, such as those of `torchrun`, share the files.

    Args:
        videos: files.
        checkpoint: a run, a checkpoint, or a hub name.
        config: frames and decoding. Defaults to the run's config, or to the default config for a bare checkpoint.
        overrides: `key=value` changes to the run's config.
        captions_per_video: captions of each video, the likeliest first; needs at least as many beams, or sampling.
        prompt: text that every caption continues. Defaults to the checkpoint's.

    Returns:
        the outcome for each file, in order, in every process. Errors are raised before the first outcome. A file that
        cannot be decoded is no error: the reason is logged and returned.

    Raises:
        UserError: there are no videos, a file is missing, captions_per_video is below 1 or above the number of beams,
            or there is no checkpoint.
    """
    check_captions(captions_per_video)
    check_files(videos)
    join_processes()
    directory = checkpoint_directory(checkpoint)
    config = config or checkpoint_config(directory, overrides)
    model, processor = open_captioner(directory, config, captions_per_video, prompt)
    set_seed(config.seed)
    dataset = video_dataset(config.data, processor, [CaptionedClip(video.name, video, ()) for video in videos])
    captioned = stream_captions(
        model,
        processor,
        dataset,
        config.generation,
        num_workers=config.data.num_workers,
        captions_per_clip=captions_per_video,
    )
    return (_captioned(video, item) for video, item in zip(videos, captioned, strict=True))


def check_captions(captions_per_video: int) -> None:
    """Check the number of captions of each video.

    Raises:
        UserError: it is below 1.
    """
    if captions_per_video < 1:
        raise UserError(f"The number of captions a video is {captions_per_video}; it must be at least 1.")


def check_beams(captions_per_video: int, generation: GenerationConfig) -> None:
    """Check that there are as many beams as captions of each video, or that captions are sampled.

    Raises:
        UserError: there are fewer.
    """
    if captions_per_video > generation.num_beams and not generation.do_sample:
        raise UserError(
            f"{captions_per_video} captions a video need as many beams, but generation.num_beams is "
            f"{generation.num_beams}; increase it, or set generation.do_sample=true."
        )


def open_captioner(
    directory: Path, config: RunConfig, captions_per_video: int, prompt: str | None
) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    """Open a checkpoint that makes so many captions of each video, which continue a prompt.

    Args:
        directory: of the checkpoint.
        config: frames and decoding.
        captions_per_video: captions of each video.
        prompt: text that every caption continues. Defaults to the checkpoint's.

    Raises:
        UserError: there are fewer beams, or the checkpoint cannot be opened.
    """
    check_beams(captions_per_video, config.generation)
    model, processor = open_model(directory, config)
    return model, processor if prompt is None else processor.changed(model.config, prompt=prompt)


def check_files(videos: Sequence[Path]) -> None:
    """Check that there are files, before a model is opened for them.

    Raises:
        UserError: none was named, or some do not exist.
    """
    if not videos:
        raise UserError("No videos were given; name at least one file.")
    missing = [str(video) for video in videos if not video.exists()]
    if missing:
        raise UserError(f"{len(missing)} of {len(videos)} videos do not exist: {', '.join(missing[:3])}.")


def checkpoint_config(directory: Path, overrides: list[str] | None) -> RunConfig:
    """Load the config of a checkpoint that is a run, or the default config, with `key=value` changes."""
    of_run = (directory / CONFIG_NAME).is_file()
    return run_config(directory, overrides) if of_run else config_of(overrides or [])


def _captioned(video: Path, item: Outcome[list[Caption]]) -> CaptionedFile:
    captions = item.result or []
    special = tuple(caption.special_tokens for caption in captions)
    return CaptionedFile(video, [caption.text for caption in captions], item.bad, special)
