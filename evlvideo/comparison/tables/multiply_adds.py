"""Counts the multiply-adds of runs from their configs."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from evlvideo.comparison.rows.answers import AnsweringSystem
from evlvideo.comparison.rows.row import Row
from evlvideo.comparison.rows.system import Scored, System
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.results.run_directory import CONFIG_NAME, run_config

_ENDING = "_multiply_adds"
_TRAINING, _CAPTIONING, _ANSWERING = (f"{name}{_ENDING}" for name in ("training", "captioning", "answering"))


def add_multiply_adds(rows: Sequence[Row], systems: Sequence[System]) -> tuple[list[Row], list[str]]:
    """Add to the rows of runs the cost of a clip in training and captioning, or the reason why it is unknown.

    Returns:
        the rows, and a remark that explains the numbers if there are any.
    """
    trained = [system for system in systems if system.regime == "trained"]
    costs = {system.name: _costs(system, system.result.decoding, _CAPTIONING) for system in trained}
    return _with_costs(rows, costs, "captioning is as evaluated")


def add_answering_multiply_adds(rows: Sequence[Row], systems: Sequence[AnsweringSystem]) -> tuple[list[Row], list[str]]:
    """Add to the rows of runs the cost of a clip in training and of answering a question, likewise."""
    trained = [system for system in systems if system.regime == "trained"]
    costs = {system.name: _costs(system, system.result.decoding, _ANSWERING) for system in trained}
    return _with_costs(rows, costs, "answering is one question about a clip, as evaluated, of the maximum length")


def _with_costs(
    rows: Sequence[Row], costs: Mapping[str, Mapping[str, int | str]], evaluated: str
) -> tuple[list[Row], list[str]]:
    """Add costs, numbers or reasons by row and column key, to the rows of runs."""
    made = [_with(row, costs[row.name]) if row.regime == "trained" else row for row in rows]
    if not any(isinstance(cost, int) for of_run in costs.values() for cost in of_run.values()):
        return made, []
    return made, [
        "MACs are multiply-adds per clip, counted from each run's config and not measured: matrix products and "
        "convolutions of all parts, frozen ones included; training is one forward and backward pass with all captions "
        f"or samples of a clip, {evaluated}."
    ]


def _with(row: Row, costs: Mapping[str, int | str]) -> Row:
    numbers = {key: cost for key, cost in costs.items() if isinstance(cost, int)}
    reasons = {key: cost for key, cost in costs.items() if isinstance(cost, str)}
    return replace(row, values={**row.values, **numbers}, reasons={**row.reasons, **reasons})


def _costs(run: Scored, decoding: Mapping[str, Any], asked: str) -> dict[str, int | str]:
    """Count the multiply-adds of a run in training and, as evaluated, in what is asked; or say why they are unknown.

    Args:
        run: the run.
        decoding: how its texts were generated.
        asked: column key of captioning or answering.
    """
    if run.directory is None or not (run.directory / CONFIG_NAME).is_file():
        reason = f"a run without {CONFIG_NAME} does not tell what it asked of its model."
        return dict.fromkeys((_TRAINING, asked), reason)
    # From the run's own checkpoint: the one that it started from may be gone.
    config = replace(run_config(run.directory), init=str(run.directory), architecture=None)
    evaluated = _as_evaluated(config, decoding, "generation" if asked == _CAPTIONING else "answering")
    return {_TRAINING: _cost(config, "training"), asked: _cost(evaluated, asked.removesuffix(_ENDING))}


def _cost(config: RunConfig, of: str) -> int | str:
    """Count a cost of :class:`~evlvideo.estimate.run_costs.ClipCosts`, or say why it is unknown."""
    # Imported late: not every table has runs.
    from evlvideo.estimate.run_costs import clip_costs

    try:
        cost: int | None = getattr(clip_costs(config), of)
    except (UserError, OSError) as error:
        return f"it cannot be counted: {error}"
    return "question and answer do not fit into its language model." if cost is None else cost


def _as_evaluated(config: RunConfig, decoding: Mapping[str, Any], section: str) -> RunConfig:
    """The config with the decoding of its evaluation, and not with the drawing of the self-critical stage."""
    of_section = getattr(config, section)
    stated = {field.name: decoding[field.name] for field in fields(of_section) if field.name in decoding}
    data = replace(config.data, num_frames=decoding.get("num_frames", config.data.num_frames))
    # What training alone needs may be gone.
    contrastive = replace(config.contrastive, beta=0.0)
    changed = {section: replace(of_section, **stated)}
    return replace(config, stage="caption", data=data, contrastive=contrastive, **changed)
