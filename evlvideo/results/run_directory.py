"""What a run's directory holds, and under which names."""

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
"""What came out: the best step, the trained parameters, the seconds."""
LOG_NAME = "log.jsonl"
"""One JSON object a line, of training and of validation."""
CHECKPOINTS_NAME = "checkpoints"
"""Directory of what a run resumes from; the best checkpoint's weights are in the run's directory itself."""
EVALUATIONS_NAME = "evaluation"
"""Directory of the evaluations, one a split."""
PREDICTIONS_NAME = "predictions.json"
"""In an evaluation's directory: the captions."""
RESULT_NAME = "result.json"
"""In an evaluation's directory: the scores, and all that they depend on."""

LOCK_NAME = ".lock"
"""Held by the process that trains; the system lets go of it however that process ends, and the file stays."""


def evaluation_directory(run: Path, dataset: str, split: str, *, shuffle_frames: bool = False) -> Path:
    """Where the predictions and the result of a run on a split are."""
    return run / EVALUATIONS_NAME / f"{dataset}-{split}{'-shuffled' if shuffle_frames else ''}"


def run_config(run: Path, overrides: list[str] | None = None) -> RunConfig:
    """The config that a run was made with, with `key=value` overrides.

    Raises:
        UserError: the directory holds none.
    """
    path = run / CONFIG_NAME
    if not path.is_file():
        raise UserError(f"{run} holds no {CONFIG_NAME}, so it is not a run; name the directory of a finished run.")
    return load_config(path, overrides)


@contextmanager
def sole_use(run: Path) -> Iterator[None]:
    """Keep a run's directory for this process while the block runs; one that is not there is made.

    Args:
        run: the directory; a hidden file in it, which stays, is what is locked.

    Raises:
        UserError: another process has it, or it cannot be written to.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run / LOCK_NAME)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process trains in {run}, and two would write over each other; wait for it or stop it, or name "
            "another output_dir. If there is none, as a file system without locks cannot tell, remove "
            f"{run / LOCK_NAME}."
        ) from None
    except OSError as error:
        raise UserError(f"{run} cannot be written to: {error.strerror or error}.") from error
    try:
        yield
    finally:
        lock.release()
