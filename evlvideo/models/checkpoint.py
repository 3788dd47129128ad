"""Checkpoints on disk: finding them, and loading exactly the weights that should be there."""

import hashlib
import logging
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from evlvideo.errors import UserError
from evlvideo.files import at_home, give_ordinary_permissions, inside, read_json
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.towers import PACKAGE_PREFIX, read_held_weights, read_manifest, resolve_source
from evlvideo.models.trainable import is_of_guide, is_of_training, part_of, tower_of, without_lora
from evlvideo.models.weights import copy_weights, read_weights

logger = logging.getLogger(__name__)

MINI_CHECKPOINT = "mini"
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
"""Names the files of weights that were saved with `max_shard_size`."""
_NOT_OF_THE_MODEL = ["checkpoints/*", "evaluation/*", "tensorboard/*"]
"""Folders of an uploaded run that are not downloaded to open it; optimizers are larger than what was trained."""
_RENAMED = {
    "vision_projection.": "connector.projection.",
    "contextualizer.": "connector.contextualizer.",
    "connector.embeddings.": "connector.bert.embeddings.",
    "connector.encoder.": "connector.bert.encoder.",
}
"""Prefixes of earlier versions, and of this one."""
_OF_CONNECTOR = ("connector.", "language_projection.", "vision_tower.video_relations.")
"""Prefixes of weights that another connector does not use, or has in another shape."""


def checkpoint_directory(name: str, *, revision: str | None = None, token: str | bool | None = None) -> Path:
    """Find a checkpoint: a directory, `mini` (the one inside the package), or a hub name, which is downloaded.

    Raises:
        UserError: there is nothing, or a directory without a checkpoint, or its config.json is not JSON.
    """
    if name == MINI_CHECKPOINT:
        name = resolve_source(f"{PACKAGE_PREFIX}mini/evlgen")
    path = Path(at_home(name))
    if path.is_dir():
        return _checked(path, f"The directory {name}")
    # `runs/typo` looks like a hub name; next to a folder `runs`, it is a missing directory.
    if path.is_absolute() or path.exists() or path.parent.is_dir() or name.count("/") != 1:
        raise UserError(f"There is no checkpoint at {name}. Name a directory, a hub name (owner/name), or `mini`.")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(name, revision=revision, token=token, ignore_patterns=_NOT_OF_THE_MODEL)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{name} is neither a directory with a checkpoint nor a model that the hub gives: {error}"
        ) from error
    return _checked(Path(found), f"The hub's {name}")


def _checked(directory: Path, what: str) -> Path:
    missing = [] if (directory / CONFIG_NAME).is_file() else [CONFIG_NAME]
    missing += [] if weights_file(directory).is_file() else [WEIGHTS_NAME]
    if missing:
        raise UserError(
            f"{what} holds no checkpoint ({' and '.join(missing)} missing). Name a finished run, a directory written "
            "by save_pretrained, or `mini`."
        )
    read_json(directory / CONFIG_NAME)  # transformers' error would not be the user's
    return directory


def weights_file(directory: Path) -> Path:
    """Return the file of a checkpoint's weights, or the index of its files if they were saved in several."""
    index = directory / INDEX_NAME
    return index if index.is_file() and not (directory / WEIGHTS_NAME).is_file() else directory / WEIGHTS_NAME


def weights_digest(directory: Path) -> str:
    """Return the SHA-256 of a checkpoint's weights, as hexadecimal digits.

    Raises:
        UserError: as :func:`weights_files`.
    """
    digest = hashlib.sha256()
    for path in weights_files(directory):
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def weights_files(directory: Path) -> list[Path]:
    """Return the file or files of a checkpoint's weights; whether they are there is not looked at.

    Raises:
        UserError: the index of several is broken or none.
    """
    file = weights_file(directory)
    if file.name != INDEX_NAME:
        return [file]
    content = read_json(file)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"{file} is not an index of files of weights: it has no weight_map of their names.")
    return [inside(directory, name) for name in sorted(set(names.values()))]


def read_all_weights(directory: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint from its file or files.

    Raises:
        UserError: one is missing or broken, or the index is none.
    """
    return {weight: value for file in weights_files(directory) for weight, value in read_weights(file).items()}


def read_configuration(directory: Path) -> EvlVideoConfig:
    """Read the configuration of a checkpoint.

    Raises:
        UserError: it is of another model, or a value is wrong or of the wrong type.
    """
    path = directory / CONFIG_NAME
    content = read_json(path)
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind != EvlVideoConfig.model_type:
        raise UserError(
            f"{path} is not of one of our captioners: its model_type is {kind!r}, not {EvlVideoConfig.model_type!r}."
        )
    try:
        config: EvlVideoConfig = EvlVideoConfig.from_pretrained(directory)
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path} has a value of the wrong kind: {' '.join(str(error).split())}") from error
    if config.text_config is None:
        raise UserError(f"{path} has no text_config, the configuration of its language model.")
    return config


def make_weights_readable(directory: Path) -> None:
    """Give the weights that transformers wrote the permissions of other files."""
    for weights in directory.glob("*.safetensors"):
        give_ordinary_permissions(weights)


def check_pixels_are_known(config: PreTrainedConfig, directory: Path) -> None:
    """Check that a checkpoint says how its tower's images are normalised.

    Raises:
        UserError: it does not.
    """
    if getattr(config, "image_mean", None) is None:
        raise UserError(
            f"{directory / 'config.json'} does not say how pixels are normalised. Checkpoints of earlier versions have "
            "image_mean and image_std in processor_config.json: copy both from there to config.json."
        )


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of a checkpoint of an earlier version their present names."""
    return {_present_name(name): value for name, value in state.items()}


def _present_name(name: str) -> str:
    old = next((prefix for prefix in _RENAMED if name.startswith(prefix)), "")
    return _RENAMED.get(old, "") + name.removeprefix(old)


def load_trained_weights(
    model: PreTrainedModel,
    directory: Path,
    *,
    may_be_missing: AbstractSet[str] = frozenset(),
    left_out: AbstractSet[str] = frozenset(),
    language_model: bool = True,
) -> None:
    """Load a checkpoint's weights in place, without any gap but the towers that its manifest names.

    Args:
        model: the captioner.
        directory: the checkpoint.
        may_be_missing: weights that are new in `model` and not in the checkpoint.
        left_out: weights of the checkpoint that `model`, with another connector, does not have; the log tells how many.
            And the guide of a tower that pruned in another way.
        language_model: whether to load the language model's, which only a checkpoint that stands alone holds.

    Raises:
        UserError: weights are missing, too many, or of another shape; they are listed.
    """
    stored = renamed(read_all_weights(directory))
    state = {name: value for name, value in stored.items() if name not in left_out}
    if of_connector := [name for name in stored.keys() - state.keys() if not is_of_guide(name)]:
        logger.warning(
            "%s was trained with another connector: %d of its weights are left out, and connector=%s starts at random",
            directory,
            len(of_connector),
            model.config.connector,
        )
    towers, held = read_manifest(directory), read_held_weights(directory)
    # A tied weight is stored once, under the name of the one it is tied to.
    tied = set(model.all_tied_weights_keys)
    kept = {name: value for name, value in model.state_dict().items() if not is_of_training(name)}
    own = {name: value for name, value in kept.items() if tower_of(name, held) not in towers}
    own = {without_lora(name): value for name, value in own.items() if name not in tied}
    state = {without_lora(name): value for name, value in state.items()}
    if not language_model:
        own, state = _without_language_model(own), _without_language_model(state)
    copy_weights(f"The checkpoint {directory}", own, state, may_be_missing=may_be_missing)


def _without_language_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if part_of(name) != "language_model"}


def changed_weights(
    model: type[PreTrainedModel], saved: EvlVideoConfig, config: EvlVideoConfig
) -> tuple[set[str], set[str]]:
    """Name the weights that a changed configuration adds, and those that have no place in it.

    Weights are left out for another connector only: those of the old one; and the values of a guide that was fitted for
    other keys of `pruning`. Any other without a place is an error later.
    """
    before, after = _weight_shapes(model, saved), _weight_shapes(model, config)
    stale = {name for name in before if is_of_guide(name) and saved.fitted_guide != config.fitted_guide}
    if saved.connector == config.connector:
        return after.keys() - (before.keys() - stale), stale
    kept = {
        name
        for name in before.keys() & after.keys()
        if before[name] == after[name] and not name.startswith("connector.") and name not in stale
    }
    return after.keys() - kept, {name for name in before.keys() - kept if name.startswith(_OF_CONNECTOR)} | stale


def _weight_shapes(model: type[PreTrainedModel], config: EvlVideoConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: value.shape for name, value in model(config).state_dict().items()}
