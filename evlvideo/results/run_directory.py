"""The layout of a run's directory, and its lock."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError

CONFIG_NAME = "config.yaml"
"""The whole config of the run."""
SUMMARY_NAME = "training.json"
"""Summary of the training: best step, number of trained parameters, seconds."""
LOG_NAME = "log.jsonl"
"""Log of training and validation, one JSON object per line."""
VALIDATIONS_NAME = "validations.jsonl"
"""Sample captions and warnings of each validation, one JSON object per line."""
CHECKPOINTS_NAME = "checkpoints"
"""Directory of resumable checkpoints; the weights of the best are in the run's directory itself."""
EVALUATIONS_NAME = "evaluation"
"""Directory of the evaluations, one per split."""
PREDICTIONS_NAME = "predictions.json"
"""Captions, in an evaluation's directory."""
RESULT_NAME = "result.json"
"""Scores, with everything they depend on, in an evaluation's directory."""

LOCK_NAME = ".lock"
"""Locked by the process that trains. The system unlocks it however that process ends; the file stays."""


def evaluation_directory(run: Path, dataset: str, split: str, *, shuffle_frames: bool = False) -> Path:
    """Return the directory of a run's predictions and result on a split."""
    return run / EVALUATIONS_NAME / f"{dataset}-{split}{'-shuffled' if shuffle_frames else ''}"


def run_config(run: Path, overrides: list[str] | None = None) -> RunConfig:
    """Load the config of a run, with `key=value` overrides.

    Raises:
        UserError: the directory holds no config.
    """
    path = run / CONFIG_NAME
    if not path.is_file():
        raise UserError(f"{run} holds no {CONFIG_NAME}, so it is not a run; name the directory of a finished run.")
    return load_config(path, overrides)


def check_writable(run: Path) -> None:
    """Check that a run's directory can be made and written to, before any work is done for it.

    Raises:
        UserError: it, or a directory above it, is a file or a dangling link, or is not the user's to write to.
    """
    nearest = next(path for path in (run.absolute(), *run.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise UserError(f"{run} cannot be a directory, since {nearest} is none; name another output_dir.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{run} cannot be written to, since {nearest} is write-protected; name another output_dir.")


@contextmanager
def sole_use(run: Path) -> Iterator[None]:
    """Lock a run's directory for this process while the block runs. Create the directory if needed.

    Args:
        run: the directory; the lock is a hidden file in it, which stays.

    Raises:
        UserError: another process has locked it, or it cannot be written to.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run / LOCK_NAME)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process trains in {run}, and two would overwrite each other; wait for it, stop it, or name "
            "another output_dir. If there is none, as a file system without locks cannot tell, remove "
            f"{run / LOCK_NAME}."
        ) from None
    except OSError as error:
        raise UserError(f"{run} cannot be written to: {error.strerror or error}.") from error
    try:
        yield
    finally:
        lock.release()
