"""Tensors by name: reading them from files, and copying them exactly into a model."""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import load_file
from torch import Tensor

from evlvideo.errors import UserError

_LISTED = 10


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from `.safetensors`, or from a PyTorch file of tensors and plain containers alone.

    Raises:
        UserError: the file is missing or of another kind.
    """
    if not path.is_file():
        raise UserError(f"There is no file of weights at {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        # torch advises to load it anyway, which would run whatever code the file brings.
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = (
            f"they need {asked[1]}, which could run code, and only tensors and plain containers are read; save the "
            "weights alone, as a dictionary of tensors"
            if asked
            else "the file is broken, or holds something other than tensors and plain containers"
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
    """Copy weights into a model, whose names and shapes they must have.

    Args:
        what: name of the weights in errors.
        own: the model's tensors by name; they are written to.
        state: the weights.
        may_be_missing: names in `own` that need not be in `state`.
        listed: most names of one kind in an error. If None, all.

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
