"""Reads the training log of a run: one series of points for each quantity."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from evlvideo.errors import UserError
from evlvideo.files import parse_object

Points: TypeAlias = tuple[tuple[int, float], ...]
"""Pairs of step and value in the order of the steps."""
TrainingLog: TypeAlias = Mapping[str, Points]
"""Quantity, such as `loss` or `validation_cider` → points."""


def read_training_log(path: Path) -> TrainingLog:
    """Read a run's `log.jsonl`.

    A resumed run can log a step twice: the later line counts. Ignores half a line at the end, left by a killed run, and
    values that are not finite numbers. A run without the file has an empty log.

    Raises:
        UserError: the file cannot be read, or a line before the last is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    series: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, start=1):
        entry = parse_object(line)
        if entry is None:
            if number == len(lines):
                break
            raise UserError(f"{path} is not a training log: its line {number} is not a JSON object. Remove that line.")
        step = entry.get("step")
        if not isinstance(step, int):
            continue
        for key, value in entry.items():
            if key != "step" and _is_number(value):
                series.setdefault(key, {})[step] = float(value)
    return {key: tuple(sorted(points.items())) for key, points in series.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
