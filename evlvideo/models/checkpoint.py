"""Checkpoints on disk: finding them, and loading exactly the weights that should be there."""

from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from evlvideo.errors import UserError
from evlvideo.files import read_json, write_json
from evlvideo.models.frozen import (
    MANIFEST_NAME,
    PACKAGE_PREFIX,
    TowerRecord,
    check_same_tower,
    fingerprint,
    locate,
    tower_of,
)

if TYPE_CHECKING:
    from evlvideo.models.captioner import EvlVideoForCaptioning

MINI_CHECKPOINT = "mini"
_LISTED = 10


def checkpoint_directory(name: str, *, revision: str | None = None, token: str | bool | None = None) -> Path:
    """Find a checkpoint: a directory, `mini` (the one inside the package), or a hub name, which is downloaded.

    Raises:
        UserError: nothing there, or a directory without a checkpoint.
    """
    if name == MINI_CHECKPOINT:
        name = locate(f"{PACKAGE_PREFIX}mini/evlgen")
    path = Path(name)
    if path.is_dir():
        missing = [file for file in ("config.json", "model.safetensors") if not (path / file).is_file()]
        if missing:
            raise UserError(
                f"The directory {name} holds no checkpoint ({' and '.join(missing)} missing). Name a finished run, a "
                "directory written by save_pretrained, or `mini`."
            )
        return path
    # `runs/typo` has the form of a hub name; where there is a folder `runs`, it is not meant as one.
    if path.is_absolute() or path.exists() or path.parent.is_dir() or name.count("/") != 1:
        raise UserError(f"There is no checkpoint at {name}. Name a directory, a hub name (owner/name), or `mini`.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, token=token))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{name} is neither a directory with a checkpoint nor a model that the hub gives: {error}"
        ) from error


def write_manifest(model: "EvlVideoForCaptioning", directory: Path, *, full: bool) -> None:
    """Name the frozen towers beside the weights; a full checkpoint needs none."""
    towers = {}
    if not full:
        towers = {
            name: TowerRecord(source, model.tower_fingerprints.get(name) or fingerprint(getattr(model, name))).to_json()
            for name, source in _tower_sources(model).items()
        }
    write_json(directory / MANIFEST_NAME, {"frozen_towers": towers})


def _tower_sources(model: "EvlVideoForCaptioning") -> dict[str, str]:
    config = model.config
    weights = config.vision_weights
    return {
        "vision_tower": f"timm/{config.vision_tower}" if weights == "timm" else weights,
        "language_model": config.language_model,
    }


def read_manifest(directory: Path) -> dict[str, TowerRecord]:
    """The frozen towers that a checkpoint was trained with and does not hold.

    Raises:
        UserError: no manifest, or not one of ours.
    """
    content = read_json(directory / MANIFEST_NAME)
    try:
        return {name: TowerRecord(**record) for name, record in content["frozen_towers"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{directory / MANIFEST_NAME} is not a manifest of frozen towers: {error!r}.") from error


def load_frozen_towers(model: "EvlVideoForCaptioning", directory: Path | None, *, dtype: torch.dtype) -> None:
    """Load the towers' weights in place, from where the model's configuration says.

    Args:
        model: with towers of any weights.
        directory: the checkpoint, whose manifest says which towers they have to be; `None` for a new model.
        dtype: type of the towers.
    """
    manifest = None if directory is None else read_manifest(directory)
    if manifest is None or "vision_tower" in manifest:
        _load_vision_weights(model)
    if manifest is None or "language_model" in manifest:
        model.language_model = _load_language_model(model.config.language_model)
    # Fingerprints are those of the weights as they are stored: float16 rounds others than bfloat16 does.
    names = ("vision_tower", "language_model") if manifest is None else tuple(manifest)
    model.tower_fingerprints = {name: fingerprint(getattr(model, name)) for name in names}
    for name, record in (manifest or {}).items():
        check_same_tower(name, record, model.tower_fingerprints[name])
    for name, parameter in model.named_parameters():
        if tower_of(name) is not None:
            parameter.data = parameter.data.to(dtype)


def read_text_config(name: str) -> PreTrainedConfig:
    """The configuration of a language model, by hub name or folder.

    Raises:
        UserError: there is no such language model.
    """
    try:
        config = AutoConfig.from_pretrained(locate(name))
    except (OSError, ValueError) as error:
        raise UserError(f"The language model {name!r} could not be read: {error}") from error
    # Where this machine keeps it would go into every checkpoint.
    config._name_or_path = ""
    return config


def _load_language_model(name: str) -> Any:
    try:
        return AutoModelForCausalLM.from_pretrained(locate(name), dtype="auto")
    except (OSError, ValueError) as error:
        raise UserError(f"The language model {name!r} could not be read: {error}") from error


def _load_vision_weights(model: "EvlVideoForCaptioning") -> None:
    config = model.config
    if config.vision_weights == "timm":
        state = _timm_weights(config.vision_tower, config.vision_overrides or {})
    else:
        state = read_weights(Path(locate(config.vision_weights)))
    vit = model.vision_tower.vit
    expected = {name for name in vit.state_dict() if ".temporal_merge." not in name}
    if not config.vision_final_norm:
        state = {name: value for name, value in state.items() if not name.startswith("norm.")}
    _check_names(
        f"The vision tower's weights {config.vision_weights!r}", expected - state.keys(), state.keys() - expected
    )
    _load(f"the vision tower's weights {config.vision_weights!r}", vit, state)


def _timm_weights(name: str, overrides: dict[str, Any]) -> dict[str, Tensor]:
    """Pretrained weights of a tower; one with a smaller `depth` takes the first blocks.

    timm itself loads another depth strictly or not at all strictly, as the number of classes has it.
    """
    whole = {key: value for key, value in overrides.items() if key != "depth"}
    try:
        state = timm.create_model(name, pretrained=True, **{"num_classes": 0, **whole}).state_dict()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"timm gives no weights for the vision tower {name!r} with {overrides}: {error}") from error
    beyond = tuple(f"blocks.{number}." for number in range(overrides.get("depth", len(state)), len(state)))
    return {key: value for key, value in state.items() if not key.startswith(beyond)}


def load_trained_weights(
    model: "EvlVideoForCaptioning", directory: Path, *, may_be_missing: AbstractSet[str] = frozenset()
) -> None:
    """Load a checkpoint's weights in place, and accept no other gap than the towers that its manifest names.

    Args:
        model: the captioner.
        directory: the checkpoint.
        may_be_missing: weights that are new in `model` and not in the checkpoint.

    Raises:
        UserError: weights are missing, too many, or of another shape; they are listed.
    """
    state = read_weights(directory / "model.safetensors")
    towers = read_manifest(directory)
    # A tied weight is stored once, under the name of the one it is tied to.
    tied = set(model.all_tied_weights_keys)
    expected = {name for name in model.state_dict() if tower_of(name) not in towers} - tied
    _check_names(f"The checkpoint {directory}", expected - state.keys() - may_be_missing, state.keys() - expected)
    _load(f"the checkpoint {directory}", model, state)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from `.safetensors`, or from a PyTorch file that holds nothing but tensors and containers.

    Raises:
        UserError: the file is missing, or is not such a file.
    """
    if not path.is_file():
        raise UserError(f"There is no file of weights at {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise types of their own for a broken file
        raise UserError(f"The weights {path} could not be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; it must hold weights by name.")
    return content


def _check_names(what: str, missing: AbstractSet[str], unexpected: AbstractSet[str]) -> None:
    parts = [
        f"{len(names)} weights {problem}: {', '.join(sorted(names)[:_LISTED])}{', …' if len(names) > _LISTED else ''}"
        for problem, names in (("are missing", missing), ("have no place in the model", unexpected))
        if names
    ]
    if parts:
        raise UserError(f"{what} does not fit the model: {'; '.join(parts)}.")


def _load(what: str, module: torch.nn.Module, state: dict[str, Tensor]) -> None:
    own = module.state_dict()
    wrong = [
        f"{name} is {tuple(value.shape)}, the model's {tuple(own[name].shape)}"
        for name, value in state.items()
        if own[name].shape != value.shape
    ]
    if wrong:
        raise UserError(f"Weights of {what} have other shapes: {'; '.join(wrong[:_LISTED])}.")
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)
