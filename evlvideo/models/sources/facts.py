"""Check a vision tower against what the source of its weights says: architecture, activation, arguments, pixels.

Shapes do not tell an activation. OpenAI's CLIP was trained with quick-GELU; in an architecture with GELU its weights
give features that are near the right ones (a cosine of 0.9), and no error.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, is_model
from torch import nn

from evlvideo.errors import UserError, raise_problems
from evlvideo.files import read_json
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.vision import VisionTower

TIMM = "timm"
"""The source that is timm itself."""
FOLDER_PREFIX = "local-dir:"
"""Prefix of a folder with a timm model, as timm spells it."""
TIMM_CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"

_QUICK, _PLAIN = "quick-GELU", "GELU"
_AFTER_LAST_BLOCK = ("norm", "fc_norm", "head", "head_drop", "attn_pool")
"""Modules that a tower may lack."""

_ROUNDING = 1e-3
"""Means and standard deviations that differ by less are equal."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What a source says of the tower that its weights were trained in; what it does not say is None or empty."""

    said_by: str
    """Names what says it, in messages."""
    architecture: str | None = None
    """timm's name, without a tag."""
    activation: str | None = None
    """`quick-GELU` or `GELU`, of a CLIP."""
    model_args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `timm.create_model`."""
    image_mean: list[float] | None = None
    image_std: list[float] | None = None


def folder_of(source: str) -> Path | None:
    """Return the folder of a source that is one, with or without timm's prefix; else None."""
    if source.startswith(FOLDER_PREFIX):
        return Path(source.removeprefix(FOLDER_PREFIX))
    return Path(source) if source != TIMM and Path(source).is_dir() else None


def read_facts(source: str, vision_tower: str) -> SourceFacts:
    """Read what a source says: timm's registry, or timm's and open_clip's config beside the weights.

    Args:
        source: `timm`, a folder or a file.
        vision_tower: timm's name of the tower, for the registry.

    Raises:
        UserError: the folder has no config of timm's, or a config is malformed.
    """
    if source == TIMM:
        return _registered(vision_tower)
    folder = folder_of(source)
    if folder is None:
        folder = Path(source).parent
    elif not (folder / TIMM_CONFIG).is_file():
        raise UserError(
            f"The folder {folder} of the vision tower has no {TIMM_CONFIG}; name a folder as timm saves models, with "
            f"{TIMM_CONFIG} and model.safetensors, or a file of weights."
        )
    of_timm, of_open_clip = _timm_facts(folder / TIMM_CONFIG), _open_clip_facts(folder / OPEN_CLIP_CONFIG)
    if of_timm is None or of_open_clip is None:
        return of_timm or of_open_clip or SourceFacts(source)
    # open_clip says more of the activation; timm's file may be of a GELU architecture with a note in the registry.
    return SourceFacts(
        said_by=of_open_clip.said_by if of_open_clip.activation else of_timm.said_by,
        architecture=of_timm.architecture,
        activation=of_open_clip.activation or of_timm.activation,
        model_args=of_timm.model_args,
        image_mean=of_timm.image_mean or of_open_clip.image_mean,
        image_std=of_timm.image_std or of_open_clip.image_std,
    )


def _registered(name: str) -> SourceFacts:
    known = get_pretrained_cfg(name, allow_unregistered=True)
    pixels = (list(known.mean), list(known.std)) if known is not None else (None, None)
    return SourceFacts("timm", _base(name), _noted(name), {}, *pixels)


def _timm_facts(path: Path) -> SourceFacts | None:
    """Read timm's config; None if there is none, or it is of another kind, as our checkpoints' is."""
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict) or "architecture" not in content:
        return None
    # Older files have all values on one level.
    pretrained, arguments = content.get("pretrained_cfg", content), content.get("model_args") or {}
    if not isinstance(pretrained, dict) or not isinstance(arguments, dict):
        raise UserError(f"{path} is not a config of timm's: pretrained_cfg and model_args must be objects.")
    architecture, tag = str(content["architecture"]), pretrained.get("tag")
    noted = _activation_of(pretrained.get("notes")) or (_noted(f"{architecture}.{tag}") if tag else None)
    return SourceFacts(
        said_by=str(path),
        architecture=_base(architecture),
        activation=_activation(str(arguments["act_layer"])) if "act_layer" in arguments else noted,
        model_args=arguments,
        image_mean=_pixels(path, pretrained.get("mean")),
        image_std=_pixels(path, pretrained.get("std")),
    )


def _open_clip_facts(path: Path) -> SourceFacts | None:
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict):
        return None
    model, pixels = content.get("model_cfg") or {}, content.get("preprocess_cfg") or {}
    return SourceFacts(
        said_by=str(path),
        activation=_QUICK if model.get("quick_gelu") else None,
        image_mean=_pixels(path, pixels.get("mean")),
        image_std=_pixels(path, pixels.get("std")),
    )


def _pixels(path: Path, values: Any) -> list[float] | None:
    if values is None:
        return None
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(map(_is_number, values)):
        raise UserError(f"{path}: mean and std are lists of numbers; one is {values!r}.")
    return [float(value) for value in values]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _noted(name: str) -> str | None:
    """Return the activation that timm's registry notes for weights by name and tag."""
    known = get_pretrained_cfg(name, allow_unregistered=True) if is_model(_base(name)) else None
    return _activation_of(known.notes if known is not None else None)


def _activation_of(notes: object) -> str | None:
    return _QUICK if "quickgelu" in str(notes).lower() else None


def _activation(name: str) -> str:
    return _QUICK if "quick" in name.lower() else _PLAIN


def _base(name: str) -> str:
    return name.partition(".")[0]


def _family(name: str) -> str:
    """Return a name without its activation: both variants have the same weights."""
    return name.replace("_clip_quickgelu_", "_clip_")


def check_vision_source(config: EvlVideoConfig, source: str) -> None:
    """Check that an architecture's tower can be run block by block, and is the one that its weights were trained in.

    Reads no weights. A file that does not say how it was trained is not checked.

    Args:
        config: the architecture.
        source: its `vision_weights`, resolved.

    Raises:
        UserError: timm cannot make the tower, it is of another family, or the source says otherwise.
    """
    with torch.device("meta"):
        tower = VisionTower.from_config(config)
    facts = read_facts(source, config.vision_tower)
    raise_problems(f"The vision tower {config.vision_tower}", _problems(config, facts, tower.vit))


def _problems(config: EvlVideoConfig, facts: SourceFacts, vit: nn.Module) -> list[str]:
    ours, overrides = _base(config.vision_tower), config.vision_overrides or {}
    if facts.architecture is None and facts.activation is None:
        return []
    if facts.architecture is not None and _family(facts.architecture) != _family(ours):
        return [f"{facts.said_by} says that the weights are of {facts.architecture}; set vision_tower to that"]
    theirs = facts.activation or _activation(str(facts.architecture))
    problems = []
    if "act_layer" not in overrides and _has_variants(ours) and theirs != _activation(ours):
        problems.append(
            f"{facts.said_by} says that the weights were trained with {theirs}, and this architecture computes "
            f"{_activation(ours)}, so that features would be wrong without an error; set vision_tower to "
            f"{_variant(config.vision_tower, theirs)}, or, if {_activation(ours)} is meant, vision_overrides.act_layer "
            f"to {'quick_gelu' if _activation(ours) == _QUICK else 'gelu'}"
        )
    if facts.model_args and (difference := _difference(facts, vit)):
        arguments = {name: value for name, value in facts.model_args.items() if name != "num_classes"}
        problems.append(f"{difference}; {facts.said_by} was saved with {arguments}: set vision_overrides likewise")
    return problems


def _difference(facts: SourceFacts, vit: nn.Module) -> str | None:
    """Name a module in which a tower differs from the one that was saved, in what shapes do not tell."""
    try:
        with torch.device("meta"):
            saved = timm.create_model(str(facts.architecture), **{**facts.model_args, "num_classes": 0})
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{facts.said_by}: timm cannot make {facts.architecture} with its arguments: {error}"
        ) from error
    theirs = {name: _described(module) for name, module in saved.named_modules() if not _may_differ(name)}
    for name, module in vit.named_modules():
        if name in theirs and theirs[name] != _described(module):
            return f"{name} is {theirs[name]} in the saved model and {_described(module)} here"
    return None


def _described(module: nn.Module) -> str:
    heads = f", {module.num_heads} heads" if hasattr(module, "num_heads") else ""
    return f"{type(module).__name__}({module.extra_repr()}){heads}"


def _may_differ(name: str) -> bool:
    return name.partition(".")[0] in _AFTER_LAST_BLOCK or name.endswith(".act")


def _has_variants(name: str) -> bool:
    return "_clip_" in name and is_model(_variant(name, _QUICK))


def _variant(name: str, activation: str) -> str:
    """Return the name of the architecture with an activation, with its tag."""
    base = _family(name)
    return base.replace("_clip_", "_clip_quickgelu_") if activation == _QUICK else base


def take_pixels_of_source(config: EvlVideoConfig, source: str) -> None:
    """Set an architecture's `image_mean` and `image_std` to what the source says; warn if they are set otherwise.

    Warn too if the source does not say which of two activations its weights were trained with.

    Raises:
        UserError: as :func:`read_facts`.
    """
    facts = read_facts(source, config.vision_tower)
    if facts.image_mean is not None and facts.image_std is not None:
        if config.image_mean is None or config.image_std is None:
            config.image_mean, config.image_std = facts.image_mean, facts.image_std
        stated, theirs = [*config.image_mean, *config.image_std], [*facts.image_mean, *facts.image_std]
        if max(abs(ours - found) for ours, found in zip(stated, theirs, strict=True)) > _ROUNDING:
            logger.warning(
                "image_mean and image_std are %s and %s, and %s says %s and %s.",
                config.image_mean,
                config.image_std,
                facts.said_by,
                facts.image_mean,
                facts.image_std,
            )
    if facts.architecture is None and facts.activation is None and _has_variants(_base(config.vision_tower)):
        name = _base(config.vision_tower)
        logger.warning(
            "%s does not say with which activation it was trained, and %s computes %s: with OpenAI's, MetaCLIP's and "
            "DFN's weights, %s is right.",
            source,
            name,
            _activation(name),
            _variant(name, _QUICK),
        )
