"""The layout of a run's directory, and its lock."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from evlvideo.config.data import DataConfig
from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError, first_ten
from evlvideo.files import remove_leftovers
from evlvideo.mini.rendered import SCHEME

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.yaml"
"""The whole config of the run."""
SUMMARY_NAME = "training.json"
"""Summary of the training: best step, number of trained parameters, seconds."""
LOG_NAME = "log.jsonl"
"""Log of training and validation, one JSON object per line."""
VALIDATIONS_NAME = "validations.jsonl"
"""Sample captions and warnings of each validation, one JSON object per line."""
TRAINING_LOG_NAME, EVALUATION_LOG_NAME = "train.log", "evaluate.log"
"""What the commands told while they ran, with times."""
CHECKPOINTS_NAME = "checkpoints"
"""Directory of resumable checkpoints; the weights of the best are in the run's directory itself."""
EVALUATIONS_NAME = "evaluation"
"""Directory of the evaluations, one per split and place of its clips."""
ANSWERS_NAME = "answers"
"""Directory of the answers to questions, one per dataset of questions and split."""
PREDICTIONS_NAME = "predictions.json"
"""Captions, in an evaluation's directory."""
SUBMISSION_NAME = "submission.json"
"""Captions as the dataset's server takes them, in an evaluation's directory, if there is a server."""
RESULT_NAME = "result.json"
"""Scores, with everything they depend on, in an evaluation's directory."""

LOCK_NAME = ".lock"
"""Locked by the process that trains. The system unlocks it however that process ends; the file stays."""


def evaluation_directory(
    run: Path, data: DataConfig, split: str, *, shuffle_frames: bool = False, other_clips: bool = False
) -> Path:
    """Return the directory of a run's predictions and result on a split, with shuffled frames, or on other clips.

    It is `DATASET-SPLIT` on the run's own clips, and `DATASET@PLACE-SPLIT` on others; see :func:`placed_name`. With
    another number of frames than the run's, the number is added: `DATASET+8frames-SPLIT`.
    """
    own = _own_data(run)
    name = data.dataset if own is None or _same_place(own, data) else placed_name(data)
    if own is not None and own.num_frames != data.num_frames:
        name += f"+{data.num_frames}frame{'' if data.num_frames == 1 else 's'}"
    probe = "-shuffled" if shuffle_frames else "-other-clips" if other_clips else ""
    return run / EVALUATIONS_NAME / f"{name}-{split}{probe}"


def other_data(run: Path, data: DataConfig) -> dict[str, Any]:
    """Return the values of a data section that say where clips are read, if they are not those of the run's own."""
    own = _own_data(run)
    if own is None or (_same_place(own, data) and own.check_counts == data.check_counts):
        return {}
    return {"root": _absolute(data.root), "video_root": _absolute(data.video_root), "check_counts": data.check_counts}


def placed_name(data: DataConfig) -> str:
    """Name a dataset and the place of its clips: `jsonl@kitchen-3f9a1c`, a folder's name and a digest of its path.

    The folder is the video root if there is one, else the root. Without both, the dataset has only one place.
    """
    folder = _absolute(data.video_root or data.root)
    if folder is None:
        return data.dataset
    digest = sha256(repr((_absolute(data.root), _absolute(data.video_root))).encode("utf-8", "surrogateescape"))
    readable = re.sub(r"[^\w.]+", "_", Path(folder).name) or "root"
    return f"{data.dataset}@{readable}-{digest.hexdigest()[:6]}"


def _own_data(run: Path) -> DataConfig | None:
    return run_config(run).data if (run / CONFIG_NAME).is_file() else None


def _same_place(own: DataConfig, data: DataConfig) -> bool:
    return own.dataset == data.dataset and placed_name(own) == placed_name(data)


def _absolute(path: str | None) -> str | None:
    """Return a path that does not depend on the working directory; a place in a rendered dataset is one already."""
    return path if path is None or path.startswith(SCHEME) else str(Path(path).resolve())


def run_config(run: Path, overrides: list[str] | None = None) -> RunConfig:
    """Load the config of a run, with `key=value` overrides.

    Raises:
        UserError: the directory holds no config.
    """
    path = run / CONFIG_NAME
    if not path.is_file():
        raise UserError(f"{run} holds no {CONFIG_NAME}, so it is not a run; name the directory of a finished run.")
    return load_config(path, overrides)


def config_of_finished(run: Path, made_by: str) -> Path:
    """Return the place of the config of a finished run of pre-training, or of a classifier.

    Args:
        run: its directory.
        made_by: what writes such a run, for the message.

    Raises:
        UserError: there is no such run, or it has not finished.
    """
    path = run / CONFIG_NAME
    if not path.is_file():
        raise UserError(f"{run} holds no {CONFIG_NAME}, so it is not a run of {made_by}; name a finished run.")
    if not (run / "model.safetensors").is_file():
        raise UserError(f"{run} holds no model yet; let its training finish, with --resume if it was interrupted.")
    return path


def check_writable(run: Path, advice: str = "name another output_dir") -> None:
    """Check that a run's directory can be made and written to, before any work is done for it. Leaves nothing there.

    Args:
        run: the directory; one inside a run, too.
        advice: what to do if it cannot.

    Raises:
        UserError: it, or a directory above it, is a file or a dangling link, or cannot be written to: it is not the
            user's, its file system is read-only or full.
    """
    nearest = next(path for path in (run.absolute(), *run.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise UserError(f"{run} cannot be a directory, since {nearest} is none; {advice}.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{run} cannot be written to, since {nearest} is write-protected; {advice}.")
    try:
        # The administrator may write anywhere, says the system, even where nobody can.
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(bytes(1024))
    except OSError as error:
        raise UserError(f"{run} cannot be written to: {error.strerror or error}; make room, or {advice}.") from error


def remove_unfinished(run: Path) -> list[Path]:
    """Remove what a killed training was writing: weights under a temporary name, beside those of a run or checkpoint.

    Call it only while :func:`sole_use` has the directory.

    Returns:
        the files.
    """
    return [file for folder in (run, *(run / CHECKPOINTS_NAME).glob("*/")) for file in remove_leftovers(folder)]


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


@contextmanager
def cleared(directory: Path) -> Iterator[None]:
    """Take a run's directory for this process, without what a killed one was writing."""
    with sole_use(directory):
        if removed := remove_unfinished(directory):
            logger.info("%s: removed %s, which a killed process left unfinished", directory, first_ten(removed))
        yield
