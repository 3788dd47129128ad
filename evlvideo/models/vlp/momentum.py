"""A momentum teacher: a copy of a model that follows it slowly."""

import copy
from collections.abc import Collection
from typing import TypeVar

import torch
from torch import nn

_Model = TypeVar("_Model", bound=nn.Module)


def teacher_of(model: _Model, without: Collection[str] = ()) -> _Model:
    """Copy a model, without gradients.

    Args:
        model: the model.
        without: names of the parts that are not copied.
    """
    # The parts are memory that a copy would take first.
    parts = {name: getattr(model, name) for name in without}
    teacher = copy.deepcopy(model, {id(part): None for part in parts.values()})
    return teacher.requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, model: nn.Module, momentum: float) -> None:
    """Move a teacher's weights towards the model's of the same names.

    Args:
        teacher: from :func:`teacher_of`, changed in place.
        model: what it copied.
        momentum: share of its own weights that remains.
    """
    now, own = dict(model.named_parameters()), dict(teacher.named_parameters())
    torch._foreach_lerp_(list(own.values()), [now[name].detach() for name in own], 1 - momentum)
