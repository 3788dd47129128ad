"""Open a checkpoint, and look at its weights and at what it makes of clips."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from evlvideo.assembly.models import open_model
from evlvideo.config.loading import config_of, load_config
from evlvideo.config.model import ModelConfig
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.inspection.clips import see_clips
from evlvideo.inspection.findings import findings_of
from evlvideo.inspection.records import ClipsSeen, Inspection
from evlvideo.inspection.settings import merging_of, settings_of
from evlvideo.inspection.weights import weights_of
from evlvideo.models.checkpoint import checkpoint_directory, weights_file
from evlvideo.models.towers import read_manifest
from evlvideo.processes import join_processes
from evlvideo.results.run_directory import CHECKPOINTS_NAME, CONFIG_NAME, run_config
from evlvideo.training.resuming.checkpoints import newest_with_weights

logger = logging.getLogger(__name__)


def inspect_checkpoint(
    checkpoint: str,
    *,
    clips: int,
    data: Sequence[str] = (),
    split: str | None = None,
    console: Console | None = None,
) -> Inspection:
    """Inspect a checkpoint: its weights and, with data, the tokens of clips after each step of its connector.

    The model is opened as it was saved: of a config that is given, only data and precision count.

    Args:
        checkpoint: a run, one of its checkpoints, another checkpoint's directory, a hub name, or `mini`. Of a run that
            has not finished, the newest checkpoint.
        clips: how many are seen, at equal distances over the split.
        data: a run's YAML or directory, and `key=value` changes to its data, such as `dataset=mini`. Defaults to the
            config of the run that the checkpoint is of; then data that cannot be read are no error.
        split: defaults to the split of validation.
        console: shows a progress bar.

    Raises:
        UserError: there is no checkpoint, or the data that were asked for cannot be read.
    """
    if clips < 1:
        raise UserError(f"The number of clips is {clips}; it must be at least 1.")
    join_processes()
    name = _newest(checkpoint)
    given = checkpoint_directory(name)
    asked = bool(data) or split is not None
    config = _data_config(_run_of(given), data)
    if asked and config is None:
        raise UserError(
            f"{checkpoint} is of no run, so that a split needs data: name them with --data, as a run's YAML or as "
            "key=value, such as dataset=mini."
        )
    opened = replace(config or RunConfig(), model=ModelConfig())
    model, processor = open_model(given, opened, may_be_broken=True)
    weights = weights_of(model, read_manifest(given))
    seen: ClipsSeen | None = None
    if config is not None:
        try:
            seen = see_clips(
                model,
                processor,
                opened,
                split=split or config.data.validation_split,
                clips=clips,
                words_norm=weights.words_norm,
                console=console,
            )
        except UserError as error:
            if asked:
                raise
            logger.warning("The clips of the run cannot be read, so that only weights are inspected: %s", error)
    return Inspection(
        checkpoint=name,
        settings=settings_of(model, read_manifest(given)),
        merging=merging_of(model),
        weights=weights,
        clips=seen,
        findings=findings_of(weights, seen),
    )


def _newest(checkpoint: str) -> str:
    """Name the newest checkpoint of a run that has not finished; any other name stays."""
    directory = Path(checkpoint)
    if weights_file(directory).is_file():
        return checkpoint
    newest = newest_with_weights(directory / CHECKPOINTS_NAME)
    return checkpoint if newest is None else str(newest)


def _run_of(checkpoint: Path) -> Path | None:
    """Find the run of a checkpoint's directory: itself, or the one above its `checkpoints`."""
    folder = checkpoint.absolute().parent
    candidates = [checkpoint, folder.parent] if folder.name == CHECKPOINTS_NAME else [checkpoint]
    return next((directory for directory in candidates if (directory / CONFIG_NAME).is_file()), None)


def _data_config(run: Path | None, data: Sequence[str]) -> RunConfig | None:
    files = [value for value in data if "=" not in value]
    changes = [_named(value) for value in data if "=" in value]
    if len(files) > 1:
        raise UserError(f"--data names {len(files)} configs: {', '.join(files)}; name one.")
    if files:
        path = Path(files[0])
        return run_config(path, changes) if path.is_dir() else load_config(path, changes)
    if run is not None:
        return run_config(run, changes)
    return config_of(changes) if changes else None


def _named(change: str) -> str:
    """Put a change of a key without a section into that of the data."""
    return change if "." in change.partition("=")[0] else f"data.{change}"
