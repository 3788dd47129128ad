"""Towers: the source of their weights, the manifest that names them, and their fingerprints.

A checkpoint holds what was trained. Its manifest, `towers.json`, names the frozen towers that it was trained with, each
with a fingerprint, so that loading it beside other weights is an error and not a worse caption. If weights of towers
were trained too, the manifest lists their prefixes. A tower of which some were trained is named as it was before.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from evlvideo.errors import UserError
from evlvideo.files import at_home, read_json, write_json
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.language import prepare_language_model
from evlvideo.models.sources.facts import FOLDER_PREFIX, TIMM, check_vision_source, take_pixels_of_source
from evlvideo.models.sources.language import check_language_model
from evlvideo.models.sources.loading import load_vision_weights
from evlvideo.models.trainable import (
    held_weights_of,
    holds_all_of,
    is_trained_inside,
    part_of,
    tower_of,
    without_lora,
)
from evlvideo.models.vision import VisionTower
from evlvideo.progress import timed

logger = logging.getLogger(__name__)

TOWERS = ("vision_tower", "language_model")
MANIFEST_NAME = "towers.json"
PACKAGE_PREFIX = "package:"

_PACKAGE_ASSETS = Path(__file__).parents[1] / "assets"
_FINGERPRINT_VALUES = 1024
_HELD = "trained_weights"
"""Key of the manifest with the prefixes of the towers' own weights that were trained, if there are any."""


@dataclass(frozen=True, slots=True)
class TowerRecord:
    """One tower in the manifest."""

    source: str
    fingerprint: str | None
    """None if the tower was not loaded when the checkpoint was written; then any is accepted."""

    def to_json(self) -> dict[str, str | None]:
        """Return a plain dictionary."""
        return asdict(self)


def resolve_source(source: str) -> str:
    """Resolve a source of weights: `package:` names a folder inside this package, and `~` is the user's home."""
    if source.startswith(PACKAGE_PREFIX):
        return str(_PACKAGE_ASSETS / source.removeprefix(PACKAGE_PREFIX))
    folder = FOLDER_PREFIX if source.startswith(FOLDER_PREFIX) else ""
    return folder + at_home(source.removeprefix(folder))


def read_manifest(directory: Path) -> dict[str, TowerRecord]:
    """Read which frozen towers a checkpoint was trained with and does not hold.

    Raises:
        UserError: there is no manifest, or it is malformed.
    """
    content = read_json(directory / MANIFEST_NAME)
    try:
        return {name: TowerRecord(**record) for name, record in content["frozen_towers"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{directory / MANIFEST_NAME} is not a manifest of frozen towers: {error!r}.") from error


def read_held_weights(directory: Path) -> tuple[str, ...]:
    """Read which of the towers' own weights a checkpoint holds because they were trained, as prefixes of their names.

    Raises:
        UserError: there is no manifest, or it is malformed.
    """
    towers, listed = read_manifest(directory), read_json(directory / MANIFEST_NAME).get(_HELD, [])
    if not isinstance(listed, list) or not all(isinstance(prefix, str) and part_of(prefix) for prefix in listed):
        raise UserError(
            f"{directory / MANIFEST_NAME} has {_HELD}={listed!r}; it must be a list of beginnings of names of the "
            "towers' weights, such as language_model."
        )
    return held_weights_of(listed, towers)


def write_manifest(directory: Path, model: Any, *, full: bool) -> None:
    """Name a captioner's frozen towers beside its weights.

    Args:
        directory: of the checkpoint.
        model: an :class:`~evlvideo.models.captioner.EvlVideoForCaptioning`.
        full: whether the checkpoint holds its towers.
    """
    config, known, held = model.config, model.tower_fingerprints, model.held_weights
    sources = {
        "vision_tower": f"timm/{config.vision_tower}" if config.vision_weights == TIMM else config.vision_weights,
        "language_model": config.language_model,
    }
    towers = {
        name: TowerRecord(sources[name], known[name] if name in known else fingerprint(getattr(model, name))).to_json()
        for name in (() if full else TOWERS)
        if not holds_all_of(name, held)
    }
    write_json(directory / MANIFEST_NAME, {"frozen_towers": towers, **({_HELD: list(held)} if held else {})})


def fingerprint(tower: nn.Module) -> str:
    """Digest a tower's own weights: names, shapes, and evenly spaced values of each.

    Values are compared in bfloat16, so that a tower has the same fingerprint in float32 and in bfloat16. Up to 1,024 of
    a tensor's are read, so that billions of weights take about a second.
    """
    digest = hashlib.sha256()
    own = {without_lora(name): value for name, value in tower.state_dict().items()}
    for name, value in sorted(own.items()):
        if is_trained_inside(f".{name}"):
            continue
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(_sample(value).numpy().tobytes())
    return digest.hexdigest()


def _sample(value: Tensor) -> Tensor:
    flat = value.detach().flatten()
    step = max(1, flat.numel() // _FINGERPRINT_VALUES)
    return flat[::step].to(device="cpu", dtype=torch.bfloat16).view(torch.int16)


def check_same_tower(tower: str, expected: TowerRecord, actual: str | None) -> None:
    """Compare the fingerprint of a loaded tower with the manifest. None is that of a tower that was not loaded.

    Raises:
        UserError: the weights are not those that the checkpoint was trained with.
    """
    if actual is not None and expected.fingerprint is not None and actual != expected.fingerprint:
        raise UserError(
            f"The {tower.replace('_', ' ')} read from {expected.source!r} is not the one this checkpoint was trained "
            f"with: its fingerprint is {actual[:12]}, expected {expected.fingerprint[:12]}. Restore the weights that "
            "it was trained with, or train again."
        )


def read_text_config(name: str) -> PreTrainedConfig:
    """Read the configuration of a language model, by hub name or folder.

    Raises:
        UserError: there is no such language model, or it cannot continue a soft prompt.
    """
    try:
        config = AutoConfig.from_pretrained(resolve_source(name))
    except (OSError, ValueError) as error:
        raise UserError(f"The language model {name!r} could not be read: {error}") from error
    check_language_model(name, config)
    # The path on this machine would end up in every checkpoint.
    config._name_or_path = ""
    return config


def check_towers(config: EvlVideoConfig) -> None:
    """Check an architecture's towers as far as that takes no weights; see :func:`check_vision_source`.

    Raises:
        UserError: the vision tower cannot be used, the source of its weights says that they are of another, or the
            architecture describes a language model that cannot continue a soft prompt.
    """
    check_vision_source(config, resolve_source(config.vision_weights))
    if config.text_config is not None:
        check_language_model(config.language_model, config.text)


def take_pixels(config: EvlVideoConfig) -> None:
    """Take from the source of the vision tower how its pixels are normalised, unless the architecture says it."""
    take_pixels_of_source(config, resolve_source(config.vision_weights))


def load_towers(
    vision_tower: VisionTower,
    config: EvlVideoConfig,
    manifest: Mapping[str, TowerRecord] | None,
    *,
    language_model: bool = True,
) -> tuple[PreTrainedModel | None, dict[str, str]]:
    """Load frozen towers from the sources that an architecture names.

    Args:
        vision_tower: loaded in place.
        config: the architecture.
        manifest: the towers that a checkpoint does not hold, and what they must be. If None, all are loaded.
        language_model: if False, the language model is left out.

    Returns:
        the language model, if it was loaded, and the fingerprint of each tower that was.

    Raises:
        UserError: a tower is not there, does not fit, or is not the one that the checkpoint was trained with.
    """
    names = [name for name in (TOWERS if manifest is None else manifest) if language_model or name != "language_model"]
    found: PreTrainedModel | None = None
    if "vision_tower" in names:
        with timed(f"the vision tower {config.vision_tower}", logger.info) as outcome:
            load_vision_weights(vision_tower.vit, config, resolve_source(config.vision_weights))
            outcome.append(_size(vision_tower.vit))
    if "language_model" in names:
        with timed(f"the language model {config.language_model}", logger.info) as outcome:
            found = read_language_model(config.language_model)
            outcome.append(_size(found))
    loaded = {"vision_tower": vision_tower, "language_model": found}
    # Fingerprints are of the weights as stored: float16 rounds differently from bfloat16.
    fingerprints = {name: fingerprint(cast("nn.Module", loaded[name])) for name in names}
    for name in names:
        if manifest is not None:
            check_same_tower(name, manifest[name], fingerprints[name])
    return found, fingerprints


def _size(module: nn.Module) -> str:
    weights = sum(value.numel() for value in module.state_dict().values())
    return f"{weights:,} weights"


def read_language_model(name: str) -> PreTrainedModel:
    """Read a language model, by hub name or folder.

    Raises:
        UserError: there is no such language model.
    """
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(resolve_source(name), dtype="auto")
    except (OSError, ValueError) as error:
        raise UserError(f"The language model {name!r} could not be read: {error}") from error
    return model


def give_towers(
    model: Any, manifest: Mapping[str, TowerRecord] | None, dtype: torch.dtype | None, *, language_model: bool
) -> None:
    """Load a captioner's towers in place, convert what is frozen of them to a dtype, and note their fingerprints.

    What was trained of them, or is to be, is in float32.

    Args:
        model: an :class:`~evlvideo.models.captioner.EvlVideoForCaptioning`.
        manifest: as :func:`load_towers` takes it.
        dtype: of the frozen weights. Defaults to float32.
        language_model: if False, the language model is left out.
    """
    found, model.tower_fingerprints = load_towers(
        model.vision_tower, model.config, manifest, language_model=language_model
    )
    if found is not None:
        model.language_model = found
        prepare_language_model(found, model.config)
    dtype = dtype or torch.float32
    convert_towers(model, dtype, model.held_weights)
    if holds_all_of("vision_tower", model.held_weights):
        model.vision_tower.computed_in = dtype


def convert_towers(model: nn.Module, dtype: torch.dtype, held: tuple[str, ...] = ()) -> None:
    """Convert what is frozen of a model's towers to a dtype, and what was trained of them (`held`) to float32."""
    for name, parameter in model.named_parameters():
        if tower_of(name) is not None:
            parameter.data = parameter.data.to(torch.float32 if tower_of(name, held) is None else dtype)
