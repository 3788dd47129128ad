"""Gradient checkpointing: keep only the input of a layer, and run the layer again in the backward pass.

transformers checkpoints only layers in training mode. Frozen towers are in eval mode, and gradients flow through them
all the same: to the soft prompt through the whole language model. Here gradients decide, not the mode. The vision tower
checkpoints its blocks itself.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

Checkpoint = Callable[..., Any]
"""`torch.utils.checkpoint.checkpoint`, with its options."""


def checkpoint_layers(part: nn.Module, checkpoint: Checkpoint | None, *, every: int = 1) -> None:
    """Keep only the input of every `every`-th layer of transformers in a model. If None, keep all activations.

    Replaces the layer's `forward`, so that names of weights stay as they are and hooks run once.
    """
    layers = [module for module in part.modules() if isinstance(module, GradientCheckpointingLayer)]
    for index, layer in enumerate(layers):
        vars(layer).pop("forward", None)
        if checkpoint is not None and index % every == 0:
            vars(layer)["forward"] = partial(_run_checkpointed, layer.forward, checkpoint)


def _run_checkpointed(forward: Callable[..., Any], checkpoint: Checkpoint, *args: Any, **kwargs: Any) -> Any:
    # A layer that writes to a cache would write twice: a soft prompt that several texts share is read without
    # checkpointing, and so are the texts after it.
    if not torch.is_grad_enabled() or kwargs.get("cache") is not None:
        return forward(*args, **kwargs)
    return checkpoint(partial(forward, **kwargs), *args)
