"""Read values from a YAML file and from `key=value` as plain dictionaries.

YAML takes `2024_11_26`, `1e-3`, `007` and `no` for numbers and booleans. Where a key wants text, it is taken as typed.

A file may refer to its own keys (`${data.root}/features`), but not to the environment, since it may come from someone
else. An override may, since it is the user's own: `'data.root=${oc.env:DATA}'`.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yaml import Node

from evlvideo.errors import UserError

_ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\b|\$\{[^}]*\$\{")
"""A reference to the environment, or one whose name is made of another, which might be such."""


def read_values(
    path: str | Path, what: str, overrides: list[str] | None = None, *, texts: Collection[str] = ()
) -> dict[str, Any]:
    """Read a YAML file, apply overrides, and resolve references (`${…}`).

    Args:
        path: the file.
        what: what error messages call it.
        overrides: `key=value` in dotted form, such as `training.max_steps=10`.
        texts: dotted keys whose values are text; those in the sections of a list as `key[].name`.

    Raises:
        UserError: the file cannot be read, is not YAML, has no keys, or refers to the environment; a value is missing;
            an override is malformed.
    """
    changes = [_read_override(override, texts) for override in overrides or []]
    return _plain(f"The {what} {path}", [_read(Path(path), what, texts), *changes])


def parse_overrides(overrides: list[str], *, texts: Collection[str] = ()) -> dict[str, Any]:
    """Parse `key=value` in dotted form into nested values.

    Args:
        overrides: as typed.
        texts: as :func:`read_values` takes them.

    Raises:
        UserError: an override is malformed.
    """
    return _plain("The list of overrides", [{}, *(_read_override(override, texts) for override in overrides)])


def _plain(where: str, layers: list[Any]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        values = OmegaConf.to_container(OmegaConf.merge(*layers), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key, reason = getattr(error, "full_key", None) or "a key", str(error).splitlines()[0]
        raise UserError(f"{where} has no usable value for {key}: {reason}.") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _read(path: Path, what: str, texts: Collection[str]) -> Any:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        given = OmegaConf.load(path)
        if texts and OmegaConf.is_dict(given):
            values = OmegaConf.to_container(given)
            given = OmegaConf.create(
                _as_typed(values, yaml.compose(path.read_text("utf-8"), yaml.SafeLoader), "", texts)
            )
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise UserError(f"The {what} {path} is not valid YAML: {error}") from error
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be read: {error.strerror or error}.") from error
    if not OmegaConf.is_dict(given):
        raise UserError(f"The {what} {path} must hold `key: value` lines at its top level.")
    for key, value in _texts(OmegaConf.to_container(given)):
        if _ENVIRONMENT.search(value):
            raise UserError(
                f"The {what} {path} has {key}={value!r}, which may read the environment. A file may come from someone "
                "else, so only an override may do that, such as 'data.root=${oc.env:DATA}' on the command line."
            )
    return given


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts in nested values, each with its key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(inner, f"{key}.{name}" if key else str(name))


def literal(value: Any) -> Any:
    """Return nested values in which OmegaConf takes all texts as they are, `${` included."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, dict):
        return {key: literal(inner) for key, inner in value.items()}
    return [literal(inner) for inner in value] if isinstance(value, list) else value


def _read_override(override: str, texts: Collection[str]) -> Any:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    key, equals, value = override.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise UserError(f"The override {override!r} is not of the form key=value, such as training.max_steps=100.")
    try:
        if key.strip() in texts and not _is_yaml_text(value):
            given = OmegaConf.create()
            OmegaConf.update(given, key.strip(), value)
            return given
        given = OmegaConf.from_dotlist([override])
        if texts and (holder := OmegaConf.select(given, key.strip())) is not None and OmegaConf.is_config(holder):
            values = OmegaConf.to_container(holder)
            OmegaConf.update(given, key, _as_typed(values, yaml.compose(value, yaml.SafeLoader), key.strip(), texts))
        return given
    except (YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"The value of the override {override!r} cannot be read: {error}") from error


def _is_yaml_text(value: str) -> bool:
    """Whether a text is written as YAML does: in quotes, which may hold escapes, or null."""
    stripped = value.strip()
    return stripped in ("", "null") or (len(stripped) > 1 and stripped[0] in "\"'" and stripped[-1] == stripped[0])


def _as_typed(values: Any, node: "Node | None", key: str, texts: Collection[str]) -> Any:
    """Return loaded values, with what YAML has made of texts without quotes as it was typed."""
    from yaml import MappingNode, ScalarNode, SequenceNode

    if isinstance(values, dict) and isinstance(node, MappingNode):
        inside = {name.value: inner for name, inner in node.value}
        return {
            name: _as_typed(value, inside.get(str(name)), f"{key}.{name}" if key else str(name), texts)
            for name, value in values.items()
        }
    if isinstance(values, list) and isinstance(node, SequenceNode):
        return [_as_typed(value, inner, f"{key}[]", texts) for value, inner in zip(values, node.value, strict=True)]
    typed = key in texts and isinstance(values, bool | int | float) and isinstance(node, ScalarNode)
    return node.value if typed and node is not None else values
