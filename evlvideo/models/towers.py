"""Frozen towers: where their weights come from, and how to tell that they are the same.

A checkpoint holds what was trained. Its manifest, `towers.json`, names the frozen towers that it was trained with, each
with a fingerprint, so that loading it beside other weights is an error and not a worse caption.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from evlvideo.errors import UserError
from evlvideo.models.trainable import _is_trained_inside, without_lora

MANIFEST_NAME = "towers.json"


PACKAGE_PREFIX = "package:"


_PACKAGE_ASSETS = Path(__file__).parents[1] / "assets"


_FINGERPRINT_VALUES = 1024


@dataclass(frozen=True, slots=True)
class TowerRecord:
    """What the manifest says of one tower."""

    source: str
    fingerprint: str

    def to_json(self) -> dict[str, str]:
        """As a plain dictionary."""
        return asdict(self)


def resolve_source(source: str) -> str:
    """Resolve where weights come from: `package:` names a folder inside this package, all else stays as it is."""
    if source.startswith(PACKAGE_PREFIX):
        return str(_PACKAGE_ASSETS / source.removeprefix(PACKAGE_PREFIX))
    return source


def fingerprint(tower: nn.Module) -> str:
    """Digest of a tower's own weights: names, shapes, and evenly spaced values of each.

    Values are compared in bfloat16, so that the same tower has the same fingerprint in float32 and in bfloat16, and
    only up to 1,024 of a tensor's are read, so that billions of weights take about a second.
    """
    digest = hashlib.sha256()
    own = {without_lora(name): value for name, value in tower.state_dict().items()}
    for name, value in sorted(own.items()):
        if _is_trained_inside(f".{name}"):
            continue
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(_sample(value).numpy().tobytes())
    return digest.hexdigest()


def _sample(value: Tensor) -> Tensor:
    flat = value.detach().flatten()
    step = max(1, flat.numel() // _FINGERPRINT_VALUES)
    return flat[::step].to(device="cpu", dtype=torch.bfloat16).view(torch.int16)


def check_same_tower(tower: str, expected: TowerRecord, actual: str) -> None:
    """Compare the fingerprint of a loaded tower with the manifest.

    Raises:
        UserError: the weights are others than those that the checkpoint was trained with.
    """
    if actual != expected.fingerprint:
        raise UserError(
            f"The {tower.replace('_', ' ')} read from {expected.source!r} is not the one this checkpoint was trained "
            f"with: its fingerprint is {actual[:12]}, expected {expected.fingerprint[:12]}. Restore the weights that "
            "it was trained with, or train again."
        )
