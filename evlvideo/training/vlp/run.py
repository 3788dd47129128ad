"""Pre-trains one model, from its config to the run's directory."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from accelerate import PartialState
from rich.console import Console
from transformers import set_seed

from evlvideo.assembly.clips import read_clips, read_training_clips
from evlvideo.assembly.datasets import training_dataset, video_dataset
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.assembly.vlp import check_pruning, encoder_of, pretraining_of, start_host
from evlvideo.config.vlp import VlpConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.splits import RETRIEVAL
from evlvideo.data.loading.shards.clips import ShardClips
from evlvideo.errors import UserError
from evlvideo.inference.embed_run import ImageSize
from evlvideo.inference.embedding import texts_of
from evlvideo.models.vlp.images import read_guidance
from evlvideo.processes import join_processes, on_main_process
from evlvideo.results.run_directory import TRAINING_LOG_NAME, check_writable, cleared
from evlvideo.terminal import log_file
from evlvideo.training.seeds import seed_process
from evlvideo.training.vlp.batches import PairCollator
from evlvideo.training.vlp.checkpoints import check_same_config, checkpoint_to_resume
from evlvideo.training.vlp.loop import Loop
from evlvideo.training.vlp.validation import retrieval_validation


def pretrain(config: VlpConfig, *, resume: bool = False, console: Console | None = None) -> Path:
    """Pre-train a model, and write the best checkpoint by mean recall into the run's directory.

    Args:
        config: the run.
        resume: resume from the newest checkpoint in the run's directory.
        console: where to draw progress. Defaults to standard error.

    Returns:
        the run's directory.

    Raises:
        UserError: something that the config names is missing or does not fit, or another process trains in the run's
            directory; no file has been written.
        UserError: the run has diverged.
        Interrupted: a signal stopped the run.
    """
    join_processes()
    directory = Path(config.output_dir)
    check_writable(directory)
    if found := checkpoint_to_resume(directory, resume):
        check_same_config(config, found)
    read_guidance(config.model.pruning)
    precision = resolve_precision(config.training.precision)
    sources = read_training_clips(config.data, purpose=RETRIEVAL)
    validation_clips = read_clips(config.data, config.data.validation_split, purpose=RETRIEVAL)
    validation_clips = validation_clips[: config.data.validation_clips]
    texts_of(validation_clips)  # all must have captions
    set_seed(config.seed)
    host, tokenizer = start_host(config.model, _captions(config, sources))
    check_pruning(config, host)
    pretraining = pretraining_of(config, host)
    if config.training.gradient_checkpointing:
        host.activation_checkpointing_enable({"use_reentrant": False})
    images, dtype = ImageSize(config.model.image_size), DTYPES[precision]
    collator = PairCollator(tokenizer, config.model.max_text_tokens)
    validation = retrieval_validation(
        pretraining,
        encoder_of(config, host, tokenizer, dtype),
        video_dataset(config.data, images, validation_clips),
        collator,
        config,
        dtype,
    )
    loop = Loop(
        config,
        directory,
        pretraining,
        tokenizer,
        training_dataset(config, None, images, sources, per_caption=True),
        collator,
        validation,
        dtype,
        {"stage": "pretrain", "host": config.model.host},
    )
    run_loop(loop, config.seed, directory, resume=resume, console=console)
    return directory


def run_loop(loop: Loop, seed: int, directory: Path, *, resume: bool, console: Console | None) -> None:
    """Train in a run's directory, which this process takes for itself.

    Args:
        loop: what trains.
        seed: of the run.
        directory: of the run.
        resume: go on from the newest checkpoint in it.
        console: where to draw progress. Defaults to standard error.
    """
    # Dropout must differ between processes. New weights, which must be equal, have been sampled before.
    seed_process(seed, PartialState().process_index)
    with ExitStack() as held:
        on_main_process(lambda: held.enter_context(cleared(directory)))
        with log_file(directory / TRAINING_LOG_NAME):
            loop.train(checkpoint_to_resume(directory, resume), console or Console(stderr=True))


def _captions(config: VlpConfig, sources: Mapping[str, Sequence[CaptionedClip] | ShardClips]) -> Iterator[str]:
    """Give the training captions, whose words a new tokenizer has."""
    for clips in sources.values():
        if isinstance(clips, ShardClips):
            raise UserError(
                "The words of shards are not read for a tokenizer; set model.tokenizer, such as bert-base-uncased."
            )
        for clip in clips:
            yield from clip.captions
