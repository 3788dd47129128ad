"""How a config declares its keys, each with its default and its bounds, and how values are held against them."""

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

_BOUNDS = "bounds"

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the value of a key may be, beyond its type. Numbers must be finite; `None` sets no bound."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    def problem_of(self, value: Any) -> str | None:
        """Say what is wrong with a value of the right type, or `None` if it is allowed."""
        if self.choices:
            return None if value in self.choices else f"is {value!r}; allowed: {', '.join(self.choices)}"
        limits = [
            (words, holds, limit)
            for words, holds, limit in (
                ("at least", operator.ge, self.least),
                ("above", operator.gt, self.above),
                ("at most", operator.le, self.most),
                ("below", operator.lt, self.below),
            )
            if limit is not None
        ]
        if math.isfinite(value) and all(holds(value, limit) for _, holds, limit in limits):
            return None
        allowed = " and ".join(
            f"{words} {limit if isinstance(limit, int) else format(limit, 'g')}" for words, _, limit in limits
        )
        return f"is {value}; it must be {allowed or 'finite'}"


def setting(
    default: Value,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
) -> Value:
    """Declare a key: the field of a dataclass, with its default and its :class:`Bounds`."""
    return field(default=default, metadata={_BOUNDS: Bounds(least, above, most, below, choices)})


def problems_of_bounds(section: Any, prefix: str = "") -> Iterator[str]:
    """Name every value of a section, and of the sections in it, that is out of its bounds.

    Args:
        section: a dataclass of settings; a value of `None` is in all bounds.
        prefix: the dotted key of the section, with a dot behind it.
    """
    for entry in fields(section):
        key, value = prefix + entry.name, getattr(section, entry.name)
        if is_dataclass(value):
            yield from problems_of_bounds(value, f"{key}.")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if is_dataclass(item):
                    yield from problems_of_bounds(item, f"{key}[{index}].")
        elif value is not None and _BOUNDS in entry.metadata and (problem := entry.metadata[_BOUNDS].problem_of(value)):
            yield f"{key} {problem}"


def flat_settings(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings of nested sections by their dotted keys."""
    values: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            values.update(flat_settings(value, f"{prefix}{name}."))
        else:
            values[prefix + name] = value
    return values
