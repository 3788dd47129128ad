"""Checkpoints on disk: finding them, and loading exactly the weights that should be there."""

import logging
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from evlvideo.errors import UserError
from evlvideo.files import give_ordinary_permissions, read_json, write_json
from evlvideo.models.language import add_lora
from evlvideo.models.towers import (
    MANIFEST_NAME,
    PACKAGE_PREFIX,
    TowerRecord,
    check_same_tower,
    fingerprint,
    resolve_source,
)
from evlvideo.models.trainable import tower_of, without_lora

if TYPE_CHECKING:
    from evlvideo.models.captioner import EvlVideoForCaptioning

logger = logging.getLogger(__name__)

MINI_CHECKPOINT = "mini"
_AFTER_LAST_BLOCK = ("norm.", "fc_norm.", "head.")
"""What a vision tower's file may hold and a tower that ends with its last block does not use."""
_LISTED = 10


def checkpoint_directory(name: str, *, revision: str | None = None, token: str | bool | None = None) -> Path:
    """Find a checkpoint: a directory, `mini` (the one inside the package), or a hub name, which is downloaded.

    Raises:
        UserError: nothing there, or a directory without a checkpoint.
    """
    if name == MINI_CHECKPOINT:
        name = resolve_source(f"{PACKAGE_PREFIX}mini/evlgen")
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


def finish_saving(model: "EvlVideoForCaptioning", directory: Path, *, full: bool) -> None:
    """Make a checkpoint of the weights that transformers saved: readable like other files, and with a manifest."""
    for weights in directory.glob("*.safetensors"):
        give_ordinary_permissions(weights)
    write_manifest(model, directory, full=full)


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


def load_frozen_towers(
    model: "EvlVideoForCaptioning",
    directory: Path | None,
    *,
    dtype: torch.dtype,
    only: AbstractSet[str] = frozenset({"vision_tower", "language_model"}),
) -> None:
    """Load the towers' weights in place, from where the model's configuration says.

    Args:
        model: with towers of any weights.
        directory: the checkpoint, whose manifest says which towers they have to be; `None` for a new model.
        dtype: type of the towers.
        only: the towers to load, for who needs one of them alone.

    Raises:
        UserError: a tower is not there, or not the one that the checkpoint was trained with, or the checkpoint does not
            say how pixels are normalised.
    """
    manifest = None
    if directory is not None:
        _check_pixels_are_known(model.config, directory)
        manifest = read_manifest(directory)
    names = [name for name in (("vision_tower", "language_model") if manifest is None else manifest) if name in only]
    if "vision_tower" in names:
        _load_vision_weights(model)
    if "language_model" in names:
        model.language_model = _load_language_model(model.config.language_model)
        add_lora(model.language_model, model.config)
    # Fingerprints are those of the weights as they are stored: float16 rounds others than bfloat16 does.
    model.tower_fingerprints = {name: fingerprint(getattr(model, name)) for name in names}
    for name in names:
        if manifest is not None:
            check_same_tower(name, manifest[name], model.tower_fingerprints[name])
    for name, parameter in model.named_parameters():
        if tower_of(name) is not None:
            parameter.data = parameter.data.to(dtype)


def _check_pixels_are_known(config: PreTrainedConfig, directory: Path) -> None:
    """A checkpoint has to say how its tower's pictures are normalised."""
    if getattr(config, "image_mean", None) is None:
        raise UserError(
            f"{directory / 'config.json'} does not say how pixels are normalised. Checkpoints of earlier versions have "
            "image_mean and image_std in processor_config.json: copy both from there to config.json."
        )


def read_text_config(name: str) -> PreTrainedConfig:
    """The configuration of a language model, by hub name or folder.

    Raises:
        UserError: there is no such language model.
    """
    try:
        config = AutoConfig.from_pretrained(resolve_source(name))
    except (OSError, ValueError) as error:
        raise UserError(f"The language model {name!r} could not be read: {error}") from error
    # Where this machine keeps it would go into every checkpoint.
    config._name_or_path = ""
    return config


def _load_language_model(name: str) -> Any:
    try:
        return AutoModelForCausalLM.from_pretrained(resolve_source(name), dtype="auto")
    except (OSError, ValueError) as error:
        raise UserError(f"The language model {name!r} could not be read: {error}") from error


def _load_vision_weights(model: "EvlVideoForCaptioning") -> None:
    config = model.config
    if config.vision_weights == "timm":
        state = _timm_weights(config.vision_tower, config.vision_overrides or {})
    else:
        state = read_weights(Path(resolve_source(config.vision_weights)))
    vit = model.vision_tower.vit
    own = {name: value for name, value in vit.state_dict().items() if ".temporal_merge." not in name}
    if not config.vision_final_norm:
        state = {name: value for name, value in state.items() if not name.startswith(_AFTER_LAST_BLOCK)}
    copy_weights(f"The vision tower's weights {config.vision_weights!r}", own, _first_blocks(state, len(vit.blocks)))


def _timm_weights(name: str, overrides: dict[str, Any]) -> dict[str, Tensor]:
    """Pretrained weights of a tower of timm's own depth.

    timm itself loads another depth strictly or not at all strictly, as the number of classes has it.
    """
    whole = {key: value for key, value in overrides.items() if key != "depth"}
    try:
        state = timm.create_model(name, pretrained=True, **{"num_classes": 0, **whole}).state_dict()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"timm gives no weights for the vision tower {name!r} with {overrides}: {error}") from error
    return state


def _first_blocks(state: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """A tower with a smaller depth takes the first blocks of deeper weights, as EVLGen's does."""
    beyond = tuple(f"blocks.{number}." for number in range(depth, len(state)))
    return {name: value for name, value in state.items() if not name.startswith(beyond)}


def load_trained_weights(
    model: "EvlVideoForCaptioning",
    directory: Path,
    *,
    may_be_missing: AbstractSet[str] = frozenset(),
    left_out: AbstractSet[str] = frozenset(),
) -> None:
    """Load a checkpoint's weights in place, and accept no other gap than the towers that its manifest names.

    Args:
        model: the captioner.
        directory: the checkpoint.
        may_be_missing: weights that are new in `model` and not in the checkpoint.
        left_out: weights of the checkpoint that are not to be loaded, since `model` has another connector; the log says
            so.

    Raises:
        UserError: weights are missing, too many, or of another shape; they are listed.
    """
    stored = read_weights(directory / "model.safetensors")
    state = {name: value for name, value in stored.items() if name not in left_out}
    if len(state) < len(stored):
        logger.warning(
            "%s was trained with another connector: %d of its weights are left out, and connector=%s starts at random",
            directory,
            len(stored) - len(state),
            model.config.connector,
        )
    towers = read_manifest(directory)
    # A tied weight is stored once, under the name of the one it is tied to.
    tied = set(model.all_tied_weights_keys)
    own = {name: value for name, value in model.state_dict().items() if tower_of(name) not in towers}
    own = {without_lora(name): value for name, value in own.items() if name not in tied}
    state = {without_lora(name): value for name, value in state.items()}
    copy_weights(f"The checkpoint {directory}", own, state, may_be_missing=may_be_missing)


def load_own_tower(model: "EvlVideoForCaptioning", directory: Path) -> None:
    """Load the vision tower in place from a checkpoint that stands alone; that of any other was a frozen tower's.

    Raises:
        UserError: its weights are missing, too many, or of another shape.
    """
    if "vision_tower" in read_manifest(directory):
        return
    prefix = "vision_tower.vit."
    stored = read_weights(directory / "model.safetensors")
    tower = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
    own, state = (
        {name: value for name, value in weights.items() if ".temporal_merge." not in name}
        for weights in (model.vision_tower.vit.state_dict(), tower)
    )
    copy_weights(f"The checkpoint {directory}", own, state)


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
    except UnpicklingError as error:
        # torch advises to load it all the same, which would run whatever code the file brings.
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = (
            f"they need {asked[1]}, which could run code, and only tensors and plain containers are read; save the "
            "weights alone, as a dictionary of tensors"
            if asked
            else "the file is broken, or holds something else than tensors and plain containers"
        )
        raise UserError(f"The weights {path} could not be read: {reason}.") from error
    except Exception as error:  # both readers raise types of their own for a broken file
        raise UserError(f"The weights {path} could not be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; it must hold weights by name.")
    return content


def copy_weights(
    what: str,
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    *,
    may_be_missing: AbstractSet[str] = frozenset(),
    listed: int | None = _LISTED,
) -> None:
    """Copy weights into a model's, which they have to fit name for name and shape for shape.

    Args:
        what: how an error calls the weights.
        own: the model's tensors by name; they are written to.
        state: the weights.
        may_be_missing: names in `own` that need not be in `state`.
        listed: most names of one kind in an error; `None` lists all.

    Raises:
        UserError: weights are missing, have no place, or are of another shape; then nothing was copied.
    """
    problems = {
        "are missing": sorted(own.keys() - state.keys() - may_be_missing),
        "have no place in the model": sorted(state.keys() - own.keys()),
        "have other shapes": [
            f"{name} is {tuple(state[name].shape)}, the model's {tuple(own[name].shape)}"
            for name in sorted(own.keys() & state.keys())
            if own[name].shape != state[name].shape
        ],
    }
    parts = [
        f"{len(found)} weights {problem}: {', '.join(found[:listed] + ['…'] * (len(found) > len(found[:listed])))}"
        for problem, found in problems.items()
        if found
    ]
    if parts:
        raise UserError(f"{what} does not fit the model: {'; '.join(parts)}.")
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)
