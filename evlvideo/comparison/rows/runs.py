"""Reads evaluated runs from their directories."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evlvideo.comparison.rows.system import System
from evlvideo.comparison.rows.training_log import read_training_log
from evlvideo.config.data import DataConfig
from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.files import read_json
from evlvideo.results.prediction_files import read_predictions
from evlvideo.results.records import EvaluationResult
from evlvideo.results.run_directory import (
    CONFIG_NAME,
    EVALUATIONS_NAME,
    LOG_NAME,
    PREDICTIONS_NAME,
    RESULT_NAME,
    SUMMARY_NAME,
    placed_name,
)
from evlvideo.results.validation_records import read_records


def read_runs(directories: Sequence[Path], split: str) -> list[System]:
    """Read evaluated runs in the order given.

    Args:
        directories: run directories.
        split: the split they were scored on, such as `test`, or with its dataset, `msrvtt:test`, or also with the place
            of its clips, `jsonl@kitchen-3f9a1c:test`, as directories of evaluations are called.

    Raises:
        UserError: no run is given, a directory is not a run or is given twice, runs have no evaluation on the split
            (lists all of them with the command to run), or a file cannot be read.
    """
    if not directories:
        raise UserError("There are no runs to compare; name at least one run directory, such as runs/msrvtt-image.")
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"{directory} is not a directory; name run directories, such as runs/msrvtt-image.")
    dataset, _, plain_split = split.rpartition(":")
    names = unique_names(directories)
    evaluations = [_find_evaluation(directory, dataset, plain_split) for directory in directories]
    _refuse_unevaluated(directories, evaluations, dataset, plain_split)
    return [
        _read_run(name, directory, evaluation)
        for name, directory, evaluation in zip(names, directories, evaluations, strict=True)
        if evaluation is not None
    ]


def unique_names(directories: Sequence[Path]) -> list[str]:
    """Name each directory by as few of its last parts as make it unique; files without their ending, if that is enough.

    Raises:
        UserError: one is given twice.
    """
    resolved = [directory.resolve() for directory in directories]
    for given, path in zip(directories, resolved, strict=True):
        if resolved.count(path) > 1:
            raise UserError(f"{given} is given {resolved.count(path)} times; name each run once.")
    bare = [path.with_suffix("") if path.is_file() else path for path in resolved]
    resolved = bare if len(set(bare)) == len(bare) else resolved
    names = []
    for path in resolved:
        depth = 1
        while sum(other.parts[-depth:] == path.parts[-depth:] for other in resolved) > 1:
            depth += 1
        # Names of directories may hold bytes that are not text.
        names.append("/".join(path.parts[-depth:]).encode("utf-8", "replace").decode("utf-8"))
    return names


def evaluated(directories: Sequence[Path], split: str) -> list[Path]:
    """Select the runs that have an evaluation on a split; see :func:`read_runs`."""
    dataset, _, plain_split = split.rpartition(":")
    return [directory for directory in directories if _find_evaluation(directory, dataset, plain_split)]


def _find_evaluation(directory: Path, dataset: str, split: str) -> Path | None:
    """Find the directory of an evaluation on a split. If there are several, take the one on the run's own dataset."""
    config = read_run_config(directory)
    if config is not None and dataset == placed_name(config.data):
        dataset = config.data.dataset
    found = sorted(path.parent for path in directory.glob(f"{EVALUATIONS_NAME}/{dataset or '*'}-{split}/{RESULT_NAME}"))
    if len(found) > 1:
        own = [path for path in found if config is not None and path.name == f"{config.data.dataset}-{split}"]
        if not own:
            named = ", ".join(f"{path.name.removesuffix(f'-{split}')}:{split}" for path in found)
            raise UserError(f"{directory} was evaluated on several datasets; name one of them as the split: {named}.")
        return own[0]
    return found[0] if found else None


def _refuse_unevaluated(
    directories: Sequence[Path], evaluations: Sequence[Path | None], dataset: str, split: str
) -> None:
    missing = [directory for directory, found in zip(directories, evaluations, strict=True) if found is None]
    if missing:
        where = f"{dataset}:{split}" if dataset else f"the split {split!r}"
        commands = "\n".join(f"  evlvideo evaluate {directory} --split {split}" for directory in missing)
        raise UserError(
            f"{len(missing)} of {len(directories)} runs have no evaluation on {where}. Evaluate them first:\n{commands}"
        )


def _read_run(name: str, directory: Path, evaluation: Path) -> System:
    trained = trained_here(directory)
    config = read_run_config(directory)
    result = EvaluationResult.load(evaluation / RESULT_NAME)
    return System(
        name=name,
        directory=directory,
        result=result,
        predictions=read_predictions(evaluation / PREDICTIONS_NAME),
        training_log=read_training_log(directory / LOG_NAME),
        training=read_training(directory / SUMMARY_NAME),
        data=_data_of(config, result) if config else None,
        regime="trained" if trained else "scored",
        source=None if trained else name,
        config=config,
        validations=read_records(directory),
    )


def trained_here(directory: Path) -> bool:
    """Return whether a run was trained; a baseline leaves the files of a run except for those of training."""
    return any((directory / written).is_file() for written in (SUMMARY_NAME, LOG_NAME))


def _data_of(config: RunConfig, result: EvaluationResult) -> DataConfig:
    """Return where the clips of a result are, which may not be the run's own."""
    return replace(config.data, dataset=result.dataset, **result.data) if result.data else config.data


def read_training(path: Path) -> Mapping[str, Any]:
    """Read the summary of a training. Empty if there is none.

    Raises:
        UserError: the file holds something else.
    """
    training = read_json(path) if path.is_file() else {}
    if not isinstance(training, dict):
        raise UserError(f"{path} holds a JSON {type(training).__name__}, not the facts of a run; train the run again.")
    return training


def read_run_config(directory: Path) -> RunConfig | None:
    """Read the config of a run, if it has one."""
    path = directory / CONFIG_NAME
    return load_config(path) if path.is_file() else None
