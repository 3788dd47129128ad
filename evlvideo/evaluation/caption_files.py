"""Caption video files that belong to no data set."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import set_seed

from evlvideo.assembly import evaluation_transform, open_model
from evlvideo.config import RunConfig, config_of
from evlvideo.data.decode import decode_clip
from evlvideo.data.sampling import SAMPLERS
from evlvideo.errors import UserError
from evlvideo.evaluation.predict import decoding_arguments
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.run_directory import CONFIG_NAME, run_config


def caption_files(
    videos: Sequence[Path],
    checkpoint: str,
    *,
    config: RunConfig | None = None,
    overrides: list[str] | None = None,
    captions_per_video: int = 1,
    prompt: str | None = None,
) -> list[list[str]]:
    """Caption videos.

    Args:
        videos: files.
        checkpoint: a run, a checkpoint, or a hub name.
        config: frames and decoding; the run's own where nothing is given, or the defaults for a bare checkpoint.
        overrides: `key=value` changes to the run's own config.
        captions_per_video: captions of each, the likeliest first; needs as many beams, or drawing at random.
        prompt: text that every caption continues; the checkpoint's own where nothing is given.

    Returns:
        captions of each video.

    Raises:
        UserError: no videos, a file that is missing or no video, too few beams, or no checkpoint.
    """
    if not videos:
        raise UserError("No videos were given; name at least one file.")
    missing = [str(video) for video in videos if not video.exists()]
    if missing:
        raise UserError(f"{len(missing)} of {len(videos)} videos are not there: {', '.join(missing[:3])}.")
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
    device = next(model.language_projection.parameters()).device
    sampler = SAMPLERS[config.data.eval_sampling]
    frames_wanted = config.data.num_frames

    def choose(frames_in_clip: int, rate: float) -> list[int]:
        return sampler(frames_in_clip, rate, frames_wanted, torch.Generator().manual_seed(0))

    # All are decoded before any is captioned: a broken file is told at once.
    size, keep_aspect = processor.image_size, config.data.keep_aspect
    transform = evaluation_transform(config.data, processor)
    clips = [transform(decode_clip(video, choose, size, keep_aspect=keep_aspect).frames) for video in videos]
    captions: list[list[str]] = []
    for clip in clips:
        tokens = model.generate(
            clip.unsqueeze(0).to(device),
            prompt_ids=processor.prompt_ids(),
            num_return_sequences=captions_per_video,
            **decoding_arguments(generation),
        )
        captions.append(processor.captions(tokens))
    return captions
