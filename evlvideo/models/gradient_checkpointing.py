"""Gradient checkpointing: a layer keeps what it is given, and is computed again in the backward pass.

transformers checkpoints layers in training mode alone, by a flag of their own. Frozen towers are in eval mode, and
gradients flow through them all the same: to the soft prompt through the whole language model, and to what is trained in
the vision tower through every block behind the first contextualizer. Here it is gradients that decide, not the mode.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

Checkpoint = Callable[..., Any]
"""`torch.utils.checkpoint.checkpoint`, with its options."""


class Layer(Protocol):
    """What has a forward pass of its own: a module, or what stands in the place of a module's."""

    forward: Callable[..., Any]


class _Recomputed:
    """A forward pass that keeps its arguments alone."""

    def __init__(self, forward: Callable[..., Any], checkpoint: Checkpoint) -> None:
        self.forward = forward
        self.checkpoint = checkpoint

    def run(self, *args: Any, **kwargs: Any) -> Any:
        # A layer that writes keys and values to a cache would write them a second time: the pass that reads the soft
        # prompt once for several texts, and what goes on from there, keep their activations.
        if not torch.is_grad_enabled() or kwargs.get("cache") is not None:
            return self.forward(*args, **kwargs)
        return self.checkpoint(partial(self.forward, **kwargs), *args)


def recompute(layers: Iterable[Layer], checkpoint: Checkpoint, *, every: int = 1) -> None:
    """Let every `every`-th of the layers keep its arguments alone where there are gradients, whatever its mode.

    The forward pass is replaced on the layer itself, and not by a module around it: names of weights stay what they
    are, and hooks run once.
    """
    for place, layer in enumerate(layers):
        keep(layer)
        if place % every == 0:
            layer.forward = _Recomputed(layer.forward, checkpoint).run


def keep(layer: Layer) -> None:
    """Let a layer keep its activations again, or still."""
    if is_recomputed(layer):
        layer.forward = layer.forward.__self__.forward  # type: ignore[attr-defined]


def layers_of(part: nn.Module) -> list[Layer]:
    """The layers of a model of transformers, or of one that is built of them."""
    return [module for module in part.modules() if isinstance(module, GradientCheckpointingLayer)]


def is_recomputed(layer: Layer) -> bool:
    """Whether a layer keeps its arguments alone."""
    return isinstance(getattr(layer.forward, "__self__", None), _Recomputed)
