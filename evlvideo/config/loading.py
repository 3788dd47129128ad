"""Load a run's config from a YAML file and `key=value` overrides, and save it.

Read a config that comes from someone else before you use it: it names the files that are read and written, and
`scst.reward=module:function` runs code. It cannot read environment variables (:mod:`evlvideo.yaml_values`).
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from evlvideo.config.data import SourceConfig
from evlvideo.config.run import RunConfig
from evlvideo.config.scst_presets import PRESETS
from evlvideo.config.settings import flat_settings, text_keys
from evlvideo.errors import ProblemsError, raise_problems
from evlvideo.yaml_values import literal, parse_overrides, read_values

TEXTS = frozenset(text_keys(RunConfig))
"""Keys of a run whose values are text."""
Config = TypeVar("Config")


def load_config(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a run from YAML, with `key=value` overrides in dotted form (`training.max_steps=10`).

    Raises:
        UserError: the file cannot be read, is not YAML, or has unknown keys or wrong values; all of them are listed.
    """
    return load_config_of(RunConfig, path, overrides)


def load_config_of(kind: type[Config], path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a config of another kind as :func:`load_config` reads a run.

    Args:
        kind: a dataclass of settings that checks itself.
        path: the file.
        overrides: `key=value` in dotted form.

    Raises:
        UserError: as :func:`load_config`.
    """
    values = read_values(path, "config", overrides, texts=frozenset(text_keys(kind)))
    return _checked(kind, values, f"The config {path}")


def config_of(overrides: list[str]) -> RunConfig:
    """Return the defaults, with `key=value` overrides.

    Raises:
        UserError: there are unknown keys or wrong values; all of them are listed.
    """
    return checked_run(parse_overrides(overrides, texts=TEXTS), "The list of overrides")


def checked_run(given: dict[str, Any], where: str) -> RunConfig:
    """Make a run of nested values.

    Args:
        given: as in a YAML; what is missing has its default.
        where: source of the values, for errors.

    Raises:
        ProblemsError: there are unknown keys or wrong values; all of them are listed.
    """
    return _checked(RunConfig, given, where)


def _checked(kind: type[Config], given: dict[str, Any], where: str) -> Config:
    from omegaconf import OmegaConf

    run = OmegaConf.structured(kind)
    for key, value in (_preset_values(given) if kind is RunConfig else {}).items():
        OmegaConf.update(run, key, value, merge=False)
    problems = _set_values(run, given, kind, kind)
    try:
        loaded = OmegaConf.to_object(run)
    except ProblemsError as error:  # a config checks itself; keys of a wrong type have their defaults by now
        problems += error.problems
    raise_problems(where, problems)
    assert isinstance(loaded, kind)
    return loaded


def _preset_values(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values of the preset that is asked for; an unknown one is reported later, with all other problems."""
    scst = given.get("scst")
    preset = PRESETS.get(str(scst.get("preset"))) if isinstance(scst, Mapping) else None
    return preset.values if preset is not None else {}


def _set_values(run: Any, given: Any, kind: type, section: type, prefix: str = "") -> list[str]:
    """Set what is right in `run`, a structured config, and return what is wrong: unknown keys and wrong types.

    Args:
        run: the config, changed in place.
        given: values of one of its sections.
        kind: class of the whole config.
        section: class of the section.
        prefix: the section's dotted key, with a dot behind it.
    """
    types = get_type_hints(section)
    if not isinstance(given, Mapping):
        return [f"{prefix.rstrip('.')} is {given!r}; it is a section with the keys {', '.join(types)}"]
    problems = []
    for key, value in given.items():
        name = f"{prefix}{key}"
        if key not in types:
            problems.append(f"unknown key {name}; {_hint(str(key), kind, types, prefix)}")
        elif value is None and _is_section(types[key]):
            continue  # a section whose keys are all commented out is null
        elif is_dataclass(types[key]):
            problems += _set_values(run, value, kind, types[key], f"{name}.")
        elif (entry := _entry_type(types[key])) and isinstance(value, list):
            problems += _set_entries(run, value, kind, entry, name)
        else:
            problems += _set_value(run, value, types[key], name)
    return problems


def _set_entries(run: Any, given: list[Any], kind: type, entry: type, name: str) -> list[str]:
    from omegaconf import OmegaConf

    OmegaConf.update(run, name, [entry() for _ in given], merge=False)
    found = (_set_values(run, values, kind, entry, f"{name}[{index}].") for index, values in enumerate(given))
    return [problem for problems in found for problem in problems]


def _set_value(run: Any, value: Any, annotation: Any, name: str) -> list[str]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        # References are resolved already; what is left of them is text.
        OmegaConf.update(run, name, literal(value), merge=False)
    except OmegaConfBaseException:
        return [f"{name} is {'null' if value is None else repr(value)}; it must be {_describe(annotation)}"]
    return []


def _hint(key: str, kind: type, allowed: Mapping[str, Any], prefix: str) -> str:
    if "." in key:
        return "in YAML, write the section and its key on two lines, the key indented"
    elsewhere = [name for name in flat_settings(asdict(kind())) if name.rpartition(".")[2] == key]
    close = elsewhere or [prefix + name for name in difflib.get_close_matches(key, allowed, n=1)]
    return f"did you mean {close[0]}?" if close else f"allowed: {', '.join(allowed)}"


def _is_section(annotation: Any) -> bool:
    return is_dataclass(annotation) or get_origin(annotation) is dict


def _entry_type(annotation: Any) -> type | None:
    """Return the type of a list's sections, or `None` if the annotation is no list of sections."""
    if get_origin(annotation) is not list:
        return None
    entry: type = get_args(annotation)[0]
    return entry if is_dataclass(entry) else None


_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list[int]: "a list of whole numbers",
    list[str]: "a list of names",
    list[SourceConfig]: "a list of sections, each with a dataset and a ratio",
    dict[str, Any]: "a section of values by name",
    type(None): "null",
}


def _describe(annotation: Any) -> str:
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return " or ".join(_TYPE_NAMES[option] for option in options)


def save_config(config: Any, path: Path) -> None:
    """Write a whole config, a dataclass, defaults included, as YAML that :func:`load_config` reads back."""
    from omegaconf import OmegaConf

    from evlvideo.files import write_text

    write_text(path, OmegaConf.to_yaml(OmegaConf.create(literal(asdict(config)))))
