"""Settings by their dotted keys."""

from collections.abc import Mapping
from typing import Any


def flat_settings(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of nested sections by their keys with dots."""
    values: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            values.update(flat_settings(value, f"{prefix}{name}."))
        else:
            values[prefix + name] = value
    return values
