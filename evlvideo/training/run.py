"""Trains one run, from its config to the run's directory."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from rich.console import Console
from transformers import TrainingArguments, set_seed

from evlvideo.assembly.clips import read_clips, read_training_clips, references_of
from evlvideo.assembly.datasets import describe_sources, evaluation_dataset, training_dataset
from evlvideo.assembly.first_stage import start_first_stage
from evlvideo.assembly.fitted_guide import GUIDE_CLIPS, fit_guide, needs_fit
from evlvideo.assembly.fitted_start import fit_to_clips
from evlvideo.assembly.models import check_start, start_model
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.assembly.stages import trains_on_captions
from evlvideo.config.loading import save_config
from evlvideo.config.reward_names import parse_reward
from evlvideo.config.run import REPRESENTATION, TOWERS, RunConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.loading.collate import CaptionCollator
from evlvideo.data.loading.mixture import Mixture
from evlvideo.data.loading.shards.clips import ShardClips
from evlvideo.data.media.errors import DecodeError
from evlvideo.errors import Interrupted, UserError
from evlvideo.files import read_json, write_json
from evlvideo.metrics.names import format_score
from evlvideo.metrics.remarks import cider_remarks, script_remarks
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.representation.files import is_first_stage
from evlvideo.processes import join_processes, on_main_process
from evlvideo.results.provenance import git_commit
from evlvideo.results.run_directory import (
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    SUMMARY_NAME,
    TRAINING_LOG_NAME,
    check_writable,
    cleared,
)
from evlvideo.terminal import log_file
from evlvideo.training.arguments import training_arguments
from evlvideo.training.callbacks import RunFiles
from evlvideo.training.contrast import Contrast
from evlvideo.training.health.collapse import signs_of_validation
from evlvideo.training.parameter_groups import staircase_share
from evlvideo.training.questions.texts import answers_of, questionnaire_of
from evlvideo.training.questions.trainer import AnswerTrainer
from evlvideo.training.representation.trainer import RepresentationTrainer
from evlvideo.training.resuming.checkpoints import (
    checkpoint_to_resume,
    problem_of_weights,
    state_of,
    tell_passed_over,
)
from evlvideo.training.resuming.record import RunRecord
from evlvideo.training.resuming.settings import (
    RATES,
    changes_at,
    check_same_model,
    record_of_finished,
    resumed_record,
    tell_changes,
)
from evlvideo.training.run_log import RunLog
from evlvideo.training.scst.rewards import Reward, make_reward
from evlvideo.training.scst.trainer import SelfCriticalTrainer
from evlvideo.training.stopping import COLLAPSED, EarlyStopping, GracefulStop, reached_limit
from evlvideo.training.trackers import trackers_of_run
from evlvideo.training.trainer import CaptionTrainer
from evlvideo.training.validation import SELECTION_TOKENIZER

logger = logging.getLogger(__name__)

REWARD_NAME = "reward.safetensors"
"""File of CIDEr-D's reference counts, in the run's directory."""
_ITEMS_PER_FITTED_CLIP = 8


def train(config: RunConfig, *, resume: bool = False, console: Console | None = None) -> Path:
    """Train a run, and write the best checkpoint by validation CIDEr into its directory.

    Args:
        config: the run.
        resume: resume from the newest checkpoint in the run's directory.
        console: where to draw progress. Defaults to standard error.

    Returns:
        the run's directory.

    Raises:
        UserError: something that the config names is missing or does not fit, or another process trains in the run's
            directory; no file has been written.
        UserError: the run has collapsed, and `training.stop_on_collapse` ended it. Its files are complete.
        Interrupted: a signal stopped the run.
    """
    join_processes()
    directory = Path(config.output_dir)
    check_writable(directory)
    if found := checkpoint_to_resume(directory, resume):
        resumed_record(config, directory, found)
    precision = resolve_precision(config.training.precision)
    arguments = training_arguments(config, precision)
    check_start(config)
    sources = read_training_clips(config.data)
    validation_clips = read_clips(config.data, config.data.validation_split)[: config.data.validation_clips]
    set_seed(config.seed)
    trainer = _make_trainer(config, arguments, DTYPES[precision], sources, validation_clips)
    with ExitStack() as held:
        # One process takes the directory; a refusal is raised in all, or the others would wait for it.
        on_main_process(lambda: held.enter_context(cleared(directory)))
        # Look again: another process may have trained in the directory until now.
        checkpoint = checkpoint_to_resume(directory, resume)
        with log_file(directory / TRAINING_LOG_NAME):
            record = RunRecord(config) if checkpoint is None else _resume(trainer, config, checkpoint)
            _train(trainer, record, checkpoint, console or Console(stderr=True))
    return directory


def _resume(trainer: CaptionTrainer, config: RunConfig, checkpoint: Path) -> RunRecord:
    """Say what a run resumes from and with, once it is sure that it can."""
    directory = Path(config.output_dir)
    record = resumed_record(config, directory, checkpoint)
    check_same_model(trainer.captioner, checkpoint)
    tell_passed_over(checkpoint)
    if reached_limit(config.training, state_of(checkpoint)):
        return record_of_finished(config, directory, checkpoint)
    tell_changes(record, directory, checkpoint)
    return record


def _train(trainer: CaptionTrainer, record: RunRecord, checkpoint: Path | None, console: Console) -> None:
    config = record.config
    directory = Path(config.output_dir)
    if checkpoint is None:
        _fit(trainer, config)
    limit = config.training.max_hours
    stop = GracefulStop(lambda: limit is not None and trainer.training_seconds >= 3600 * limit)
    trainer.asked_to_stop = lambda: stop.signalled
    if checkpoint and reached_limit(config.training, state_of(checkpoint)):
        trainer.restore(checkpoint)
        if trainer.is_world_process_zero():
            save_config(config, directory / CONFIG_NAME)
    else:
        _train_on(trainer, record, stop, checkpoint, console)
    if stop.stopped and trainer.state.global_step < config.training.max_steps:
        raise Interrupted(
            f"Stopped at step {trainer.state.global_step} of {config.training.max_steps}, with a checkpoint in "
            f"{directory / CHECKPOINTS_NAME}. Give the same command with --resume to continue."
        )
    if trainer.is_world_process_zero():
        _finish(record, trainer, directory)
    # Only now: the names of bad clips may have to be read from shards again.
    bad_clips = sorted(set(gather_object(_bad_clips(trainer))))
    if trainer.is_world_process_zero():
        _name_bad_clips(directory, bad_clips)
    trainer.accelerator.wait_for_everyone()
    if reached_limit(config.training, trainer.state) == COLLAPSED:
        raise UserError(_collapse_of(trainer, directory))


def _fit(trainer: CaptionTrainer, config: RunConfig) -> None:
    """Fit the guide of a tower that prunes, if it has a new one, and a new connector to clips, if any."""
    captioner, tokenizer, clips = trainer.captioner, trainer.processor.tokenizer, config.clips_to_fit
    # The connector reads what the guide leaves.
    if needs_fit(captioner):
        fit_guide(captioner, tokenizer, _batches_of(trainer, GUIDE_CLIPS))
    if clips:
        norm = config.init == TOWERS or not is_first_stage(checkpoint_directory(config.init))
        fit_to_clips(captioner, tokenizer, _batches_of(trainer, clips), clips, norm=norm)
    if captioner.config.drafts and trainer.is_world_process_zero():
        logger.info("Training prunes by the class token; captions are drafted in validation and evaluation alone")


def _batches_of(trainer: CaptionTrainer, clips: int) -> Iterable[dict[str, Any]]:
    # Items are captions; a clip with many of them comes again before all clips have come.
    return trainer.batches_before_training(items=_ITEMS_PER_FITTED_CLIP * clips)


def _collapse_of(trainer: CaptionTrainer, directory: Path) -> str:
    """Say why a run ended early, and how to go on."""
    signs = [sign for sign in signs_of_validation(trainer.state.log_history) if sign.stops]
    cause = signs[0].text
    return (
        f"{directory} has collapsed ({', '.join(sign.name for sign in signs)}), and training.stop_on_collapse ended it "
        f"at step {trainer.state.global_step} of {trainer.args.max_steps}. {cause[0].upper()}{cause[1:]} "
        f"Its checkpoint and its summary, {SUMMARY_NAME}, are written. Train anew in another output_dir, or go on in "
        "spite of it with --resume and training.stop_on_collapse=false."
    )


def _bad_clips(trainer: CaptionTrainer) -> list[str]:
    """Names of the clips that could not be decoded; a finished run does not fail if they cannot be read."""
    try:
        return list(getattr(trainer.train_dataset, "bad_clips", []))
    except (UserError, DecodeError, OSError) as error:
        logger.warning("The clips that could not be decoded cannot be named: %s", error)
        return []


def _name_bad_clips(directory: Path, bad_clips: list[str]) -> None:
    if bad_clips:
        write_json(directory / SUMMARY_NAME, {**read_json(directory / SUMMARY_NAME), "bad_clips": bad_clips})
        logger.warning("%s: %d clips could not be decoded: %s", directory, len(bad_clips), ", ".join(bad_clips[:10]))


def _train_on(
    trainer: CaptionTrainer, record: RunRecord, stop: GracefulStop, checkpoint: Path | None, console: Console
) -> None:
    config = record.config
    directory = Path(config.output_dir)
    trainer.run_record = record
    trainer.has_new_rates = checkpoint is not None and not changes_at(record, checkpoint).keys().isdisjoint(RATES)
    progress = RunLog(directory, console, lambda: trainer.record)
    early = EarlyStopping(config.training.patience, stop_on_collapse=config.training.stop_on_collapse)
    for callback in (RunFiles(config), progress, early, stop):
        trainer.add_callback(callback)
    try:
        with stop.listening(), trackers_of_run(trainer, directory):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        progress.close()


def _make_trainer(
    config: RunConfig,
    arguments: TrainingArguments,
    tower_dtype: torch.dtype,
    sources: Mapping[str, Sequence[CaptionedClip] | ShardClips],
    validation_clips: Sequence[CaptionedClip],
) -> CaptionTrainer:
    first_stage = start_first_stage(config, tower_dtype=tower_dtype) if config.stage == REPRESENTATION else None
    if first_stage is not None:
        model, processor = first_stage.captioner, first_stage.processor
    else:
        model, processor = start_model(config, tower_dtype=tower_dtype)
    common: dict[str, Any] = {
        "args": arguments,
        "train_dataset": training_dataset(config, model, processor, sources, per_caption=trains_on_captions(config)),
        "eval_dataset": evaluation_dataset(
            config.data, model, processor, validation_clips, config.data.validation_split
        ),
        "learning_rates": config.training.learning_rates,
        "schedule": (
            partial(staircase_share, training=config.training) if config.training.schedule == "staircase" else None
        ),
        "generation": config.generation,
        "validation_references": references_of(validation_clips),
        "scoring_tokenizer": _scoring_tokenizer(config),
    }
    if first_stage is not None:
        return RepresentationTrainer(first_stage=first_stage, weights=config.representation, **common)
    common["questionnaire"] = questionnaire_of(config, processor, validation_clips)
    if common["questionnaire"] is None:
        _warn_of_scores(config, "validation", common["validation_references"])
    else:
        common["generation"] = config.answering
    return _caption_trainer(config, model, processor, sources, common)


def _caption_trainer(
    config: RunConfig,
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    sources: Mapping[str, Sequence[CaptionedClip] | ShardClips],
    common: dict[str, Any],
) -> CaptionTrainer:
    """Make the trainer of a stage that captions."""
    contrast = Contrast(model, config.contrastive) if config.contrastive.beta else None
    sentences = None if contrast is None else contrast.encoder.tokenize
    answers = answers_of(config, processor)
    collator = CaptionCollator(processor, config.data.captions_per_clip, sentences=sentences, answers=answers)
    common |= {"model": model, "processor": processor, "data_collator": collator}
    if config.stage != "scst":
        trainer = (CaptionTrainer if common["questionnaire"] is None else AnswerTrainer)(**common)
        trainer.contrast = contrast
        return trainer
    clips = (clip for of_source in sources.values() for clip in of_source if isinstance(clip, CaptionedClip))
    references = references_of(clips)
    _warn_of_scores(config, "the reward", references)
    return SelfCriticalTrainer(reward=_make_reward(config, references), scst=config.scst, **common)


def _scoring_tokenizer(config: RunConfig) -> str:
    return config.data.scoring_tokenizer or SELECTION_TOKENIZER


def _warn_of_scores(config: RunConfig, what: str, references: Mapping[str, Sequence[str]]) -> None:
    """Warn of references that make the scores of any captions alike."""
    chosen = config.data.scoring_tokenizer is not None
    of_script = [] if chosen else script_remarks(references, SELECTION_TOKENIZER)
    for remark in [*of_script, *cider_remarks(references)]:
        logger.warning("Scores of %s: %s", what, remark)


def _make_reward(config: RunConfig, references: dict[str, list[str]]) -> Reward:
    """Make the reward that the config names, and keep CIDEr-D's reference counts in a file.

    Defaults to a file in the run's directory: it is writable, which a dataset's directory need not be, and resuming
    reads it back. A run overwrites its own file, but never one that the config names.
    """
    scst = config.scst
    return make_reward(
        parse_reward(scst.reward),
        references,
        split=_training_split(config),
        end_of_text=scst.reward_end_of_text,
        frequencies={"train": "split", "batch": "batch"}[scst.reward_frequencies],
        first_reference_only=scst.reward_references == "first",
        tokenizer=_scoring_tokenizer(config),
        scorer_file=Path(scst.reward_file or Path(config.output_dir) / REWARD_NAME),
        replace_file=scst.reward_file is None,
    )


def _training_split(config: RunConfig) -> str:
    sources = [f"{source.dataset}:{source.split}" for source in config.data.sources]
    return " + ".join(sources) or f"{config.data.dataset}:{config.data.train_split}"


def _finish(record: RunRecord, trainer: CaptionTrainer, directory: Path) -> None:
    """Write the best checkpoint's weights and the run's summary into the run's directory."""
    config, state = record.config, trainer.state
    seconds = trainer.training_seconds
    ended_by = reached_limit(config.training, state)
    best_step, best = _best_of(trainer, directory)
    if best_step != state.global_step:
        trainer.load_weights(directory / CHECKPOINTS_NAME / f"checkpoint-{best_step}")
    trainer.write_model(directory)
    write_json(
        directory / SUMMARY_NAME,
        {
            "name": directory.name,
            "stage": config.stage,
            "init": config.init,
            "seed": config.seed,
            "changes": list(record.changes),
            "sources": describe_sources(cast(Mixture, trainer.train_dataset)),
            "commit": git_commit(),
            "steps": state.global_step,
            "ended_by": ended_by,
            "signs": [str(sign) for sign in signs_of_validation(state.log_history)],
            "best_step": best_step,
            f"best_{trainer.validation_key.removeprefix('validation_')}": best,
            "trained_parameters": sum(
                weight.numel() for weight in trainer.trained.parameters() if weight.requires_grad
            ),
            "training_seconds": seconds,
            "bad_clips": [],
        },
    )
    if ended_by != "training.max_steps":
        logger.info("%s: ended by %s at step %d of %d", directory, ended_by, state.global_step, state.max_steps)
    logger.info(
        "%s: best validation %s at step %d, after %.0f s of training",
        directory,
        _shown_best(trainer, best),
        best_step,
        seconds,
    )


def _shown_best(trainer: CaptionTrainer, best: float | None) -> str:
    if not trainer.lower_is_better:
        what = "CIDEr" if trainer.validation_key == CaptionTrainer.validation_key else "share of right answers"
        return f"{what} {format_score(best)}"
    return "loss –" if best is None else f"loss {best:.3f}"


def _best_of(trainer: CaptionTrainer, directory: Path) -> tuple[int, float | None]:
    """Return step and score of the best checkpoint; of the last one if that is gone, which ends no run."""
    state, key = trainer.state, trainer.validation_key
    best = state.best_global_step or state.global_step
    if best == state.global_step:
        return best, state.best_metric
    checkpoint = directory / CHECKPOINTS_NAME / f"checkpoint-{best}"
    if not (problem := problem_of_weights(checkpoint)):
        return best, state.best_metric
    logger.warning(
        "%s: the best checkpoint, of step %d, is gone or broken (%s); the run's weights are those of its last step, %d",
        directory,
        best,
        problem,
        state.global_step,
    )
    last = [entry[key] for entry in state.log_history if key in entry]
    return state.global_step, last[-1] if last else None
