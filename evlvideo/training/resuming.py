"""Finds the checkpoint that a run resumes from, and refuses a config that does not fit it."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.results.run_directory import CHECKPOINTS_NAME, CONFIG_NAME, SUMMARY_NAME
from evlvideo.training.log_interval import read_interval

logger = logging.getLogger(__name__)


def checkpoint_to_resume(directory: Path, resume: bool) -> Path | None:
    """Find the checkpoint to resume from; `None` for a new run.

    Raises:
        UserError: there is nothing to resume, or a new run would overwrite an old one.
    """
    found = newest_checkpoint(directory / CHECKPOINTS_NAME)
    if resume and found is None:
        raise UserError(
            f"There is no checkpoint to resume from in {directory / CHECKPOINTS_NAME}; train without --resume."
        )
    if not resume and (found is not None or (directory / SUMMARY_NAME).exists()):
        raise UserError(
            f"{directory} already holds a run. Add --resume to continue it, name another output_dir, or remove it."
        )
    return found if resume else None


def newest_checkpoint(directory: Path) -> Path | None:
    """Find the newest complete checkpoint. The trainer's state is written last, so a killed save is passed over."""
    complete = [path for path in directory.glob("checkpoint-*") if _is_complete(path)]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def state_of(checkpoint: Path) -> TrainerState:
    """Read the trainer's state of a checkpoint."""
    return TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))


def _is_complete(checkpoint: Path) -> bool:
    try:
        state_of(checkpoint)
    except (OSError, ValueError, TypeError):
        return False
    return True


def check_resumable(config: RunConfig, directory: Path, checkpoint: Path) -> None:
    """Refuse to change what a checkpoint's optimizer, the texts or the order of the data depends on.

    The run would record one value and train with another, or repeat some clips of an epoch and miss others. Call it
    before any process writes the run's config.

    Raises:
        UserError: a setting has changed; the message has both values.
    """
    path = directory / CONFIG_NAME
    if not path.is_file():
        return
    saved, processes = load_config(path), PartialState().num_processes
    order = _order_settings(saved, read_interval(checkpoint).processes or processes)
    before = _optimizer_settings(saved) | _text_settings(saved) | order
    now = _optimizer_settings(config) | _text_settings(config) | _order_settings(config, processes)
    if changed := _changes(before, now):
        raise UserError(
            f"The run in {directory} cannot resume with {changed}. Leave it as it was, or train in another output_dir."
        )
    if changed := _changes(_clip_settings(saved), _clip_settings(config)):
        logger.warning("%s resumes with %s, so its clips are in another order.", directory, changed)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={_shown(now[name])} (it was {_shown(before[name])})" for name in now if now[name] != before[name]
    )


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _optimizer_settings(config: RunConfig) -> dict[str, Any]:
    training = config.training
    rates = {f"training.learning_rates.{part}": rate for part, rate in asdict(training.learning_rates).items()}
    names = ("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon")
    return {
        "training.learning_rate": training.learning_rate,
        "training.weight_decay": training.weight_decay,
        **rates,
        **{f"training.arguments.{name}": training.arguments.get(name) for name in names},
    }


def _text_settings(config: RunConfig) -> dict[str, Any]:
    values = asdict(config.text).items()
    return {f"text.{name}": None if value is None else json.dumps(value, ensure_ascii=False) for name, value in values}


def _order_settings(config: RunConfig, processes: int) -> dict[str, Any]:
    data, training = config.data, config.training
    sources = [
        f"{source.dataset}:{source.split}:{source.ratio:g}" + (f":{source.clips}" if source.clips else "")
        for source in data.sources
    ]
    clips = training.batch_size * training.gradient_accumulation_steps * processes
    return {
        "seed": config.seed,
        "stage": config.stage,
        "data.dataset": data.dataset,
        # With several sources, the split is not used.
        "data.train_split": None if sources else data.train_split,
        "data.train_clips": data.train_clips,
        "data.sources": sources,
        "training.batch_size × training.gradient_accumulation_steps × processes": clips,
        "scst.cross_entropy_weight > 0": config.stage == "scst" and config.scst.cross_entropy_weight > 0,
    }


def _clip_settings(config: RunConfig) -> dict[str, Any]:
    return {"data.quarantine": config.data.quarantine, "data.features": config.data.features}
