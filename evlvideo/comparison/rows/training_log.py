"""What a run logged while it trained: one series of points for each quantity."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from evlvideo.errors import UserError

Points: TypeAlias = tuple[tuple[int, float], ...]
"""Pairs of step and value, by rising step."""
TrainingLog: TypeAlias = Mapping[str, Points]
"""Points by the name of the quantity, such as `loss` or `validation_cider`."""


def read_training_log(path: Path) -> TrainingLog:
    """Read a run's `log.jsonl`.

    A resumed run can log a step twice; the later line counts. A run that was killed can end in half a line, which is
    left out, as are values that are not finite numbers. A run without the file has an empty history.

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
        entry = _parse(line)
        if entry is None:
            if number == len(lines):
                break
            raise UserError(f"{path} is not a training log: its line {number} is not a JSON object. Remove that line.")
        step = entry.get("step")
        if not isinstance(step, int):
            continue
        for key, value in entry.items():
            if key != "step" and _is_number(value):
                series.setdefault(key, {})[step] = float(value)  # type: ignore[arg-type]
    return {key: tuple(sorted(points.items())) for key, points in series.items()}


def _parse(line: str) -> dict[str, object] | None:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
