"""Caption video files that belong to no data set."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import set_seed

from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.config.loading import config_of
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.errors import UserError
from evlvideo.inference.captioning import stream_captions
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.processes import join_processes
from evlvideo.results.run_directory import CONFIG_NAME, run_config


class CaptionedFile(NamedTuple):
    """What came of a file."""

    video: Path
    captions: list[str]
    """The likeliest first; none where the file could not be decoded."""
    bad: str | None
    """Why it could not."""


def caption_files(
    videos: Sequence[Path],
    checkpoint: str,
    *,
    config: RunConfig | None = None,
    overrides: list[str] | None = None,
    captions_per_video: int = 1,
    prompt: str | None = None,
) -> Iterator[CaptionedFile]:
    """Caption videos as an evaluation does, and give each as soon as its batch of `generation.batch_size` is done.

    Several processes, as `torchrun` starts them, share the files.

    Args:
        videos: files.
        checkpoint: a run, a checkpoint, or a hub name.
        config: frames and decoding; the run's own where nothing is given, or the defaults for a bare checkpoint.
        overrides: `key=value` changes to the run's own config.
        captions_per_video: captions of each, the likeliest first; needs as many beams, or drawing at random.
        prompt: text that every caption continues; the checkpoint's own where nothing is given.

    Returns:
        what came of each file, in their order, in every process. All that is an error is raised before the first; a
        file that cannot be decoded is none: its reason is logged, and stands in its place.

    Raises:
        UserError: no videos, a file that is missing, no captions asked for, too few beams, or no checkpoint.
    """
    if not videos:
        raise UserError("No videos were given; name at least one file.")
    if captions_per_video < 1:
        raise UserError(f"{captions_per_video} captions a video were asked for; it must be 1 or more.")
    missing = [str(video) for video in videos if not video.exists()]
    if missing:
        raise UserError(f"{len(missing)} of {len(videos)} videos are not there: {', '.join(missing[:3])}.")
    join_processes()
    directory = checkpoint_directory(checkpoint)
    if config is None:
        of_run = (directory / CONFIG_NAME).is_file()
        config = run_config(directory, overrides) if of_run else config_of(overrides or [])
    generation = config.generation
    if captions_per_video > generation.num_beams and not generation.do_sample:
        raise UserError(
            f"{captions_per_video} captions a video need as many beams, and generation.num_beams is "
            f"{generation.num_beams}; set it higher, or set generation.do_sample=true."
        )
    model, processor = open_model(directory, config)
    if prompt is not None:
        processor.prompt = prompt
    set_seed(config.seed)
    dataset = video_dataset(config.data, processor, [CaptionedClip(video.name, video, ()) for video in videos])
    captioned = stream_captions(
        model,
        processor,
        dataset,
        generation,
        num_workers=config.data.num_workers,
        captions_per_clip=captions_per_video,
    )
    return (CaptionedFile(video, item.captions, item.bad) for video, item in zip(videos, captioned, strict=True))
