"""What the optimizer is given: trained weights by part, each with its learning rate and its weight decay."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import nn

from evlvideo.config.training import LearningRatesConfig
from evlvideo.models.trainable import is_decayed, trained_part


def peak_rates(model: nn.Module, learning_rate: float, own: LearningRatesConfig) -> dict[str, float]:
    """The peak learning rate of each part of a model that is trained, in the order of their names.

    Args:
        model: the captioner.
        learning_rate: of parts that have none of their own.
        own: rates of parts.
    """
    parts = {trained_part(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {part: learning_rate if (rate := getattr(own, part)) is None else rate for part in sorted(parts)}


def parameter_groups(model: nn.Module, peaks: Mapping[str, float], weight_decay: float) -> list[dict[str, Any]]:
    """Groups of trained weights: of each part those with weight decay, and those without.

    They depend on the model alone, and not on the rates, so that a resumed run finds its own again.

    Args:
        model: the captioner.
        peaks: as :func:`peak_rates` gives them.
        weight_decay: of what :func:`evlvideo.models.trainable.is_decayed` names.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[trained_part(name), is_decayed(name, parameter.dim())].append(parameter)
    return [
        {"params": parameters, "lr": peaks[part], "weight_decay": weight_decay if decayed else 0.0}
        for (part, decayed), parameters in sorted(groups.items())
    ]


def rates_of_step(
    peaks: Mapping[str, float], first: float, learning_rate: float, own: LearningRatesConfig
) -> dict[str, float]:
    """Learning rates of a step for the log: `learning_rate`, and `learning_rate_PART` where a part has its own.

    Args:
        peaks: as :func:`peak_rates` gives them.
        first: the rate of the optimizer's first group, in that step.
        learning_rate: peak of parts that have none of their own.
        own: peaks of parts.
    """
    share = first / next(iter(peaks.values()))  # the same of every peak
    named = {f"learning_rate_{part}": share * peak for part, peak in peaks.items() if getattr(own, part) is not None}
    return {"learning_rate": share * learning_rate, **named}
