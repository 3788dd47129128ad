"""Finds the checkpoint that a run resumes from, the newest whole one, and clears out older and unfinished ones."""

import logging
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import TrainerState
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME

from evlvideo.errors import UserError, why_not_written
from evlvideo.files import read_json
from evlvideo.models.checkpoint import CONFIG_NAME, weights_files
from evlvideo.models.towers import read_manifest
from evlvideo.processes import is_main
from evlvideo.results.run_directory import CHECKPOINTS_NAME, SUMMARY_NAME
from evlvideo.training.resuming.log_interval import read_interval

logger = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoint_to_resume(directory: Path, resume: bool) -> Path | None:
    """Find the checkpoint to resume from; `None` for a new run.

    Raises:
        UserError: there is nothing to resume, or a new run would overwrite an old one.
    """
    checkpoints = directory / CHECKPOINTS_NAME
    found = newest_checkpoint(checkpoints)
    if resume and found is None:
        broken = "; ".join(f"{path.name}: {problem}" for path, problem in passed_over(checkpoints, None).items())
        raise UserError(
            f"There is no whole checkpoint to resume from in {checkpoints} ({broken}); train without --resume."
            if broken
            else f"There is no checkpoint to resume from in {checkpoints}; train without --resume."
        )
    if not resume and (found is not None or (directory / SUMMARY_NAME).exists()):
        raise UserError(
            f"{directory} already holds a run. Add --resume to continue it, name another output_dir, or remove it."
        )
    return found if resume else None


def newest_checkpoint(directory: Path) -> Path | None:
    """Find the newest whole checkpoint. One that a kill or a full disk cut short is passed over."""
    return next((path for _, path in _newest_first(directory) if problem_of_checkpoint(path) is None), None)


def newest_with_weights(directory: Path) -> Path | None:
    """Find the newest checkpoint that a model can be opened from, whether or not a run can resume from it."""
    return next((path for _, path in _newest_first(directory) if problem_of_weights(path) is None), None)


def passed_over(directory: Path, chosen: Path | None) -> dict[Path, str]:
    """Name the checkpoints newer than the chosen one, or all if there is none, and why each was not taken."""
    found: dict[Path, str] = {}
    for _, path in _newest_first(directory):
        if path == chosen:
            break
        found[path] = problem_of_checkpoint(path) or "it was written meanwhile"
    return found


def tell_passed_over(checkpoint: Path) -> None:
    """Log why newer checkpoints are not resumed from; the main process speaks."""
    if is_main():
        for path, problem in passed_over(checkpoint.parent, checkpoint).items():
            logger.warning("%s is passed over: %s. The run resumes from %s.", path, problem, checkpoint.name)


def _newest_first(directory: Path) -> list[tuple[int, Path]]:
    """List the checkpoints by step. Others' folders beside them, such as `checkpoint-6.bak`, are none."""
    named = ((_NAME.fullmatch(path.name), path) for path in directory.glob("checkpoint-*") if path.is_dir())
    return sorted(((int(match[1]), path) for match, path in named if match), reverse=True)


def problem_of_checkpoint(checkpoint: Path) -> str | None:
    """Say why a run cannot resume from a checkpoint, or None if it can.

    Files that were cut short are found by their ends, without reading them whole.
    """
    try:
        state = state_of(checkpoint)
    except (OSError, ValueError, TypeError):
        return f"{TRAINER_STATE_NAME} is missing or broken"
    if state.global_step != int(checkpoint.name.rpartition("-")[2]):
        return f"its {TRAINER_STATE_NAME} is of step {state.global_step}"
    try:
        read_json(checkpoint / CONFIG_NAME)
        read_manifest(checkpoint)
        files = list(_files(checkpoint, read_interval(checkpoint).processes))
    except UserError as error:
        return str(error).removesuffix(".")
    return next(filter(None, map(_problem_of_file, files)), None)


def _files(checkpoint: Path, processes: int | None) -> Iterator[Path]:
    """Name the binary files that resuming needs."""
    yield from weights_files(checkpoint)
    yield from sorted(checkpoint.glob("*.safetensors"))
    # DeepSpeed keeps the optimizer, and sometimes the schedule, in a folder of its own.
    if not any(checkpoint.glob("global_step*")):
        yield checkpoint / OPTIMIZER_NAME
        yield checkpoint / SCHEDULER_NAME
    if processes is None:
        # Earlier versions did not note how many they were.
        yield from sorted(checkpoint.glob("rng_state*.pth")) or [checkpoint / "rng_state.pth"]
    elif processes == 1:
        yield checkpoint / "rng_state.pth"
    else:
        yield from (checkpoint / f"rng_state_{index}.pth" for index in range(processes))


def _problem_of_file(path: Path) -> str | None:
    if not path.is_file():
        return f"{path.name} is missing"
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                return None
        with zipfile.ZipFile(path):
            return None
    except (SafetensorError, zipfile.BadZipFile, OSError):
        return f"{path.name} is cut short or broken"


def problem_of_weights(checkpoint: Path) -> str | None:
    """Say what is wrong with the files of a checkpoint's weights, or None."""
    try:
        return next(filter(None, map(_problem_of_file, weights_files(checkpoint))), None)
    except UserError as error:
        return str(error).removesuffix(".")


def processes_of(checkpoint: Path) -> int:
    """Count the processes that saved a checkpoint."""
    noted = read_interval(checkpoint).processes
    return noted or max(1, len(list(checkpoint.glob("rng_state_*.pth"))))


def state_of(checkpoint: Path) -> TrainerState:
    """Read the trainer's state of a checkpoint."""
    return TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))


def rotate(directory: Path, keep: int, *, newest: int, best: int | None) -> None:
    """Remove the oldest checkpoints by step.

    Clocks jump, and copies have times of their own, so that the time of a file tells nothing. Checkpoints of later
    steps are what an interrupted run left; they do not count, and are replaced on the way.

    Args:
        directory: of the checkpoints.
        keep: how many stay besides the best; if the best is among the newest, one more does.
        newest: step of the one that was just written, which stays.
        best: step of the best one, which stays. None if there is none.
    """
    steps = {step: path for step, path in reversed(_newest_first(directory)) if step <= newest}
    removable = [path for step, path in steps.items() if step not in (newest, best)]
    for path in removable[: max(0, len(steps) - max(keep + 1, len(steps) - len(removable)))]:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def told_if_not_written(checkpoint: Path) -> Iterator[None]:
    """Say what keeps a checkpoint from being written in the block, and remove what there is of it.

    Raises:
        UserError: the disk is full, or the like. Older checkpoints are as they were.
    """
    try:
        yield
    except Exception as error:
        if (reason := why_not_written(error)) is None:
            raise
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise UserError(
            f"{checkpoint} cannot be written: {reason}. Make room, and give the same command with --resume to go on "
            "from the newest whole checkpoint, or without it if there is none."
        ) from error
