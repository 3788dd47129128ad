"""Multiply-adds of the runs of a table, counted from their configs."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from evlvideo.comparison.rows.row import Row
from evlvideo.comparison.rows.system import System
from evlvideo.config.generation import GenerationConfig
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.results.run_directory import CONFIG_NAME, run_config

_KEYS = ("training_multiply_adds", "captioning_multiply_adds")


def add_multiply_adds(entries: Sequence[Row], systems: Sequence[System]) -> tuple[list[Row], list[str]]:
    """Give the entries of runs what a clip costs in training and in captioning, or the reason why that is not known.

    Returns:
        the entries, and a sentence on what the numbers are, where there is one.
    """
    runs = {system.name: _cost(system) for system in systems if system.regime == "trained"}
    made = [_with(entry, runs[entry.name]) if entry.regime == "trained" else entry for entry in entries]
    if not any(isinstance(cost, tuple) for cost in runs.values()):
        return made, []
    return made, [
        "MACs are multiply-adds a clip, counted from each run's config and not measured: matrix products and "
        "convolutions of all parts, frozen ones included; training is one forward and backward pass with all captions "
        "or samples of a clip, captioning is as evaluated."
    ]


def _with(entry: Row, cost: tuple[int, int] | str) -> Row:
    if isinstance(cost, str):
        return replace(entry, reasons={**entry.reasons, **dict.fromkeys(_KEYS, cost)})
    return replace(entry, values={**entry.values, **dict(zip(_KEYS, cost, strict=True))})


def _cost(run: System) -> tuple[int, int] | str:
    """Multiply-adds of a clip in training and in captioning, or why there are none."""
    if run.directory is None or not (run.directory / CONFIG_NAME).is_file():
        return f"a run without {CONFIG_NAME} does not tell what it asked of its model."
    # Late, as not every table has runs.
    from evlvideo.estimate.run_costs import clip_costs

    try:
        # The run's own checkpoint, since what it started from may be gone.
        config = replace(run_config(run.directory), init=str(run.directory), architecture=None)
        return clip_costs(config).training, clip_costs(_as_evaluated(config, run.result.decoding)).captioning
    except (UserError, OSError) as error:
        return f"it cannot be counted: {error}"


def _as_evaluated(config: RunConfig, decoding: Mapping[str, Any]) -> RunConfig:
    """The config with the decoding of its evaluation, and not with the drawing of the self-critical stage."""
    stated = {field.name: decoding[field.name] for field in fields(GenerationConfig) if field.name in decoding}
    data = replace(config.data, num_frames=decoding.get("num_frames", config.data.num_frames))
    return replace(config, stage="caption", generation=replace(config.generation, **stated), data=data)
