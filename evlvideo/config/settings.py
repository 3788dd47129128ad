"""How a config declares its keys, each with its default and its bounds, and how values are held against them."""

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from evlvideo.files import at_home

_BOUNDS = "bounds"
_PLACE = "place"

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


def place(default: Value) -> Value:
    """Declare a key that names a file or directory, in which `~` is the user's home."""
    return field(default=default, metadata={_PLACE: True})


def expand_home(section: Any) -> None:
    """Replace a `~` at the beginning of every place of a section, and of the sections in it."""
    for entry in fields(section):
        value = getattr(section, entry.name)
        for inner in value if isinstance(value, list) else [value]:
            if is_dataclass(inner):
                expand_home(inner)
        if isinstance(value, str) and _PLACE in entry.metadata:
            setattr(section, entry.name, at_home(value))


def text_keys(section: Any, prefix: str = "") -> Iterator[str]:
    """List the dotted keys of a section whose values are text; those in a list of sections as `key[].name`."""
    for name, annotation in get_type_hints(section).items():
        options = get_args(annotation)
        if is_dataclass(annotation):
            yield from text_keys(annotation, f"{prefix}{name}.")
        elif get_origin(annotation) is list and is_dataclass(options[0]):
            yield from text_keys(options[0], f"{prefix}{name}[].")
        elif annotation is str or (isinstance(annotation, UnionType) and set(options) <= {str, NoneType}):
            yield prefix + name


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


def told_differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name the settings of nested sections that differ, in a line each: what was found, and what is asked for."""
    found, asked = flat_settings(there), flat_settings(wanted)
    return [
        f"  - {key}: {found.get(key)!r} there, {asked.get(key)!r} asked for"
        for key in [*asked, *(key for key in found if key not in asked)]
        if found.get(key) != asked.get(key)
    ]
