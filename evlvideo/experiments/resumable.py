"""Steps of a command that trains many runs and can be stopped: finished runs are kept, and the others resume."""

import logging
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from evlvideo.config.data import QUESTIONS
from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.config.settings import flat_settings
from evlvideo.errors import Interrupted, UserError
from evlvideo.processes import is_main
from evlvideo.results.records import EvaluationResult
from evlvideo.results.run_directory import (
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    RESULT_NAME,
    SUMMARY_NAME,
    evaluation_directory,
)
from evlvideo.training.resuming.checkpoints import newest_checkpoint
from evlvideo.training.run import train

logger = logging.getLogger(__name__)


def check_captions(config: RunConfig) -> None:
    """Check that a run is evaluated by captions, which studies and sweeps score.

    Raises:
        UserError: it is validated on questions.
    """
    if config.data.kind == QUESTIONS:
        raise UserError(
            f"data.kind is {QUESTIONS}, but captions are compared here; train each run by itself, and answer with "
            "`evlvideo evaluate-answers`. Questions in data.sources, beside a dataset of captions, may be trained on."
        )


def check_settings(configs: Iterable[RunConfig]) -> None:
    """Check that the directories of runs are empty or hold these runs.

    Raises:
        UserError: a directory holds a run with other settings; they are listed.
    """
    for config in configs:
        path = Path(config.output_dir) / CONFIG_NAME
        if not path.is_file():
            continue
        found, wanted = flat_settings(asdict(load_config(path))), flat_settings(asdict(config))
        different = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
        if different:
            raise UserError(
                f"{config.output_dir} holds a run with other settings ({', '.join(different)}); name another --out, or "
                "remove it."
            )


def train_unfinished(
    config: RunConfig,
    title: str,
    whole: str,
    console: Console | None,
    *,
    advice: str = "the same command goes on",
) -> None:
    """Train a run, or resume it from its newest checkpoint; leave a trained run as it is.

    Args:
        config: the run.
        title: what log lines call it.
        whole: what messages call the command, such as `study`.
        console: where progress is drawn.
        advice: how to go on after a signal.

    Raises:
        UserError: the run cannot be trained.
        Interrupted: a signal stopped it.
    """
    directory = Path(config.output_dir)
    if (directory / SUMMARY_NAME).exists():
        log("%s: trained already", title)
        return
    resume = newest_checkpoint(directory / CHECKPOINTS_NAME) is not None
    log("%s: %s", title, "resumes from its newest checkpoint" if resume else "trains")
    try:
        train(config, resume=resume, console=console)
    except Interrupted as error:
        raise Interrupted(f"The {whole} was stopped at {title}; {advice}.") from error


def finished_evaluation(config: RunConfig, split: str, title: str) -> EvaluationResult | None:
    """Return the result of an earlier call, or None."""
    path = evaluation_directory(Path(config.output_dir), config.data, split) / RESULT_NAME
    if not path.is_file():
        return None
    log("%s: evaluated already", title)
    return EvaluationResult.load(path)


def log(message: str, *values: object) -> None:
    """Log a line, from the main process alone."""
    if is_main():
        logger.info(message, *values)
