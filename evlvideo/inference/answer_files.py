"""Answer questions about images and videos that belong to no dataset."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from transformers import set_seed

from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.errors import UserError
from evlvideo.inference.answering import Answer, answer_batches, check_asks
from evlvideo.inference.caption_files import check_files, checkpoint_config
from evlvideo.inference.captioning import gather_stream
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.processes import join_processes


class AnsweredFile(NamedTuple):
    """The outcome for a file."""

    file: Path
    answers: list[Answer]
    """The answer to each question, in order; empty if the file could not be decoded."""
    bad: str | None
    """Why it could not be decoded."""


def answer_files(
    files: Sequence[Path],
    questions: Sequence[str],
    checkpoint: str,
    *,
    config: RunConfig | None = None,
    overrides: list[str] | None = None,
    prompt: str | None = None,
) -> Iterator[AnsweredFile]:
    """Ask the same questions about each file, and yield its answers as soon as its batch is done.

    Several processes, such as those of `torchrun`, share the files.

    Args:
        files: images and videos.
        questions: as people ask them.
        checkpoint: a run, a checkpoint, or a hub name.
        config: frames, prompt and decoding. Defaults to the run's config, or to the default config for a bare
            checkpoint.
        overrides: `key=value` changes to the run's config.
        prompt: what stands around a question, with `{}` for it. Defaults to the config's.

    Returns:
        the outcome for each file, in order, in every process. Errors are raised before the first outcome. A file that
        cannot be decoded is no error: the reason is logged and returned.

    Raises:
        UserError: there are no files or questions, a question is empty, a file is missing, there is no checkpoint, or
            its texts have no place for questions.
    """
    if not questions or not all(question.strip() for question in questions):
        raise UserError(f"The questions are {list(questions)}; give at least one, and none that is empty.")
    check_files(files)
    join_processes()
    directory = checkpoint_directory(checkpoint)
    config = config or checkpoint_config(directory, overrides)
    if prompt is not None:
        config = replace(config, answering=replace(config.answering, prompt=prompt))
    model, processor = open_model(directory, config)
    check_asks(processor, config.answering)
    set_seed(config.seed)
    clips = [CaptionedClip(file.name, file, ()) for file in files]
    dataset = video_dataset(config.data, processor, clips)
    mine = answer_batches(
        model,
        processor,
        dataset,
        {clip.clip_id: questions for clip in clips},
        config.answering,
        num_workers=config.data.num_workers,
    )
    answered = gather_stream(mine, dataset, config.answering.batch_size)
    return (AnsweredFile(file, item.result or [], item.bad) for file, item in zip(files, answered, strict=True))
