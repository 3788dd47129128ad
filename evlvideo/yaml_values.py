"""Values from a YAML file and from `key=value`, as plain dictionaries."""

from pathlib import Path
from typing import Any

from evlvideo.errors import UserError


def read_values(path: str | Path, what: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """Read the keys of a YAML file, changed by overrides, with references (`${…}`) resolved.

    Args:
        path: the file.
        what: how an error calls it.
        overrides: `key=value` in dotted form, such as `training.max_steps=10`.

    Raises:
        UserError: the file cannot be read, is not YAML, or holds no keys; a value is left open; an override is not of
            the form.
    """
    return _plain(f"The {what} {path}", [_read(Path(path), what), *map(_read_override, overrides or [])])


def parse_overrides(overrides: list[str]) -> dict[str, Any]:
    """Nested values from `key=value` in dotted form.

    Raises:
        UserError: one is not of that form.
    """
    return _plain("The list of overrides", [{}, *map(_read_override, overrides)])


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


def _read(path: Path, what: str) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        given = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise UserError(f"The {what} {path} is not valid YAML: {error}") from error
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be read: {error.strerror or error}.") from error
    if not OmegaConf.is_dict(given):
        raise UserError(f"The {what} {path} must hold `key: value` lines at its top level.")
    return given


def _read_override(override: str) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    key, equals, _ = override.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise UserError(f"The override {override!r} is not of the form key=value, such as training.max_steps=100.")
    try:
        return OmegaConf.from_dotlist([override])
    except (YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"The value of the override {override!r} cannot be read: {error}") from error
