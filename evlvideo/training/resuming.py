"""Finds the checkpoint that a run resumes from, and refuses a config that does not fit it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.results.run_directory import CHECKPOINTS_NAME, CONFIG_NAME, SUMMARY_NAME


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
            f"{directory} already holds a run. Add --resume to go on with it, or name another output_dir, or remove it."
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


def check_same_optimizer(config: RunConfig, directory: Path) -> None:
    """Refuse to change what the optimizer restores from a checkpoint: the run would record one value and use another.

    Call it before any process writes the run's config.
    """
    path = directory / CONFIG_NAME
    if not path.is_file():
        return
    before = _settings_of_optimizer(load_config(path))
    changed = [
        f"{name} (it was {'null' if (was := before[name]) is None else was})"
        for name, value in _settings_of_optimizer(config).items()
        if value != before[name]
    ]
    if changed:
        raise UserError(
            f"The run in {directory} cannot go on with another {', '.join(changed)}. Leave it as it was, or train in "
            "another output_dir."
        )


def _settings_of_optimizer(config: RunConfig) -> dict[str, Any]:
    training = config.training
    own = {f"training.learning_rates.{part}": rate for part, rate in asdict(training.learning_rates).items()}
    names = ("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon")
    return {
        "training.learning_rate": training.learning_rate,
        "training.weight_decay": training.weight_decay,
        **own,
        **{f"training.arguments.{name}": training.arguments.get(name) for name in names},
    }
