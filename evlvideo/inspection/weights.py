"""What a checkpoint's weights tell without data: sizes, norms, gates, values that are not finite."""

import math
from collections.abc import Collection, Iterable, Iterator
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from evlvideo.inspection.records import Gate, LoraNorms, PartWeights, WeightNorm, WeightsSeen
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.tokens.contextualizers import InTowerContextualizer, MergedContextualizer
from evlvideo.models.tokens.prompt_statistics import mean_norm
from evlvideo.models.trainable import tower_of, trained_part

PARTS = ("vision_tower", "projections", "connector", "contextualizers", "lora", "language_model")
"""Parts, in the order of tables. All but the towers are the parts with learning rates of their own."""
_LEARNED_TOKENS = ("position", "queries")
"""Parts of the names of learned positions and queries."""


@torch.no_grad()
def weights_of(model: EvlVideoForCaptioning, frozen_towers: Collection[str]) -> WeightsSeen:
    """Look at a model's weights.

    Args:
        model: the captioner, with its language model.
        frozen_towers: the towers that its checkpoint does not hold.
    """
    by_part: dict[str, dict[str, nn.Parameter]] = {part: {} for part in PARTS}
    for name, weight in model.named_parameters():
        by_part[trained_part(name)][name] = weight
    words: Any = model.language_model.get_input_embeddings()
    return WeightsSeen(
        parts=[
            _part(part, weights, _saved(weights, model.held_weights, frozen_towers))
            for part, weights in by_part.items()
            if weights
        ],
        norms=list(_norms(by_part)),
        words_norm=mean_norm(words.weight),
        gates=list(_gates(model)),
        lora=_lora(model.language_model),
    )


def _saved(weights: dict[str, nn.Parameter], held: tuple[str, ...], frozen_towers: Collection[str]) -> int:
    return _count(value for name, value in weights.items() if tower_of(name, held) not in frozen_towers)


def _part(name: str, weights: dict[str, nn.Parameter], saved: int) -> PartWeights:
    values = weights.values()
    parameters = _count(values)
    # In float64, as billions of squares are beyond the digits of float32.
    squares = sum(float(torch.linalg.vector_norm(value, dtype=torch.float32)) ** 2 for value in values)
    return PartWeights(
        name=name,
        parameters=parameters,
        trained=_count(value for value in values if value.requires_grad),
        saved=saved,
        dtype=" and ".join(sorted({str(value.dtype).removeprefix("torch.") for value in values})),
        rms=math.sqrt(squares / parameters),
        not_finite=sum(int((~torch.isfinite(value)).sum()) for value in values),
    )


def _count(weights: Iterable[Tensor]) -> int:
    return sum(weight.numel() for weight in weights)


def _norms(by_part: dict[str, dict[str, nn.Parameter]]) -> Iterator[WeightNorm]:
    """Give the norms of the weights around the connector, and of its learned positions and queries."""
    for name, weight in {**by_part["projections"], **by_part["connector"]}.items():
        if name in by_part["projections"] or any(part in name for part in _LEARNED_TOKENS):
            row = mean_norm(weight) if weight.dim() >= 2 else None
            norm = float(torch.linalg.vector_norm(weight, dtype=torch.float32))
            yield WeightNorm(name, tuple(weight.shape), norm, row)


def _gates(model: nn.Module) -> Iterator[Gate]:
    for name, module in model.named_modules():
        if isinstance(module, InTowerContextualizer | MergedContextualizer):
            positions = module.frame_positions
            yield Gate(name, float(module.alpha), None if positions is None else mean_norm(positions.weight))


def _lora(language_model: nn.Module) -> LoraNorms | None:
    changes = {}
    for name, module in language_model.named_modules():
        # peft's layers, by adapter; ours is the only one.
        for adapter, down in getattr(module, "lora_A", {}).items():
            layer: Any = module
            change = _product_norm(layer.lora_B[adapter].weight, down.weight) * layer.scaling[adapter]
            base = float(torch.linalg.vector_norm(layer.base_layer.weight, dtype=torch.float32))
            changes[name] = change / base if base else math.inf
    if not changes:
        return None
    largest = max(changes, key=lambda name: changes[name])
    return LoraNorms(len(changes), median(changes.values()), changes[largest], largest)


def _product_norm(up: Tensor, down: Tensor) -> float:
    """Norm of `up @ down`, `(out, r)` and `(r, in)`, without the product: |UD|² = Σ (UᵀU) ∘ (DDᵀ)."""
    up, down = up.double(), down.double()
    return math.sqrt(max(0.0, float(((up.T @ up) * (down @ down.T)).sum())))
