"""The optimizer of trained weights, which groups them by part with learning rate and weight decay; and a schedule."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.training_args import OptimizerNames

from evlvideo.config.training import LearningRatesConfig, TrainingConfig
from evlvideo.errors import UserError
from evlvideo.models.trainable import is_decayed, trained_part


def chosen_optimizer(args: TrainingArguments, model: nn.Module) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Return the class of the optimizer that transformers' arguments name, and its own arguments.

    Raises:
        UserError: it is not installed, or chooses the weights it trains by itself.
    """
    wrong = f"training.arguments.optim is {OptimizerNames(args.optim).value}"
    try:
        optimizer_class, arguments = Trainer.get_optimizer_cls_and_kwargs(args, cast(Any, model))
    except (ValueError, ImportError) as error:
        raise UserError(f"{wrong}: {error}") from error
    if not isinstance(optimizer_class, type) or arguments.keys() & {"params", "model", "optimizer_dict"}:
        raise UserError(
            f"{wrong}, which chooses the weights it trains by itself; use one that takes groups of weights with "
            "learning rates of their own, such as adamw_torch_fused, adafactor or sgd."
        )
    return optimizer_class, arguments


def peak_rates(model: nn.Module, learning_rate: float, own: LearningRatesConfig) -> dict[str, float]:
    """Look up the peak learning rate of each trained part, sorted by name.

    Args:
        model: the captioner.
        learning_rate: rate of parts without one of their own.
        own: rates by part.
    """
    parts = {trained_part(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {part: learning_rate if (rate := getattr(own, part)) is None else rate for part in sorted(parts)}


def parameter_groups(model: nn.Module, peaks: Mapping[str, float], weight_decay: float) -> list[dict[str, Any]]:
    """Group trained weights by part, with and without weight decay.

    The groups depend on the model alone, not on the rates, so a resumed run finds its own again.

    Args:
        model: the captioner.
        peaks: rates from :func:`peak_rates`.
        weight_decay: for the weights selected by :func:`evlvideo.models.trainable.is_decayed`.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[trained_part(name), is_decayed(name, parameter.dim())].append(parameter)
    return [
        {"params": parameters, "lr": peaks[part], "weight_decay": weight_decay if decayed else 0.0}
        for (part, decayed), parameters in sorted(groups.items())
    ]


def take_rates(optimizer: torch.optim.Optimizer, schedule: Any, peaks: list[float]) -> None:
    """Let a schedule go on with other peaks; a restored optimizer and schedule bring those of before.

    Args:
        optimizer: has a group for each peak.
        schedule: a `LambdaLR`, or accelerate's wrapper around one.
        peaks: learning rate of each group.
    """
    schedule = getattr(schedule, "scheduler", schedule)
    rates = [peak * share(schedule.last_epoch) for peak, share in zip(peaks, schedule.lr_lambdas, strict=True)]
    schedule.base_lrs, schedule._last_lr = list(peaks), rates
    for group, peak, rate in zip(optimizer.param_groups, peaks, rates, strict=True):
        group.update(initial_lr=peak, lr=rate)


def rates_of_step(
    peaks: Mapping[str, float], first: float, learning_rate: float, own: LearningRatesConfig
) -> dict[str, float]:
    """Compute a step's learning rates for the log: `learning_rate`, and `learning_rate_PART` for parts with their own.

    Args:
        peaks: rates from :func:`peak_rates`.
        first: rate of the optimizer's first group at that step.
        learning_rate: peak of parts without one of their own.
        own: peaks by part.
    """
    share = first / next(iter(peaks.values()))  # the same for every peak
    named = {f"learning_rate_{part}": share * peak for part, peak in peaks.items() if getattr(own, part) is not None}
    return {"learning_rate": share * learning_rate, **named}


def staircase_share(step: int, training: TrainingConfig) -> float:
    """Compute the learning rate of a step as a share of its peak, on stairs of `training.schedule_steps`.

    Source: LAVIS, whose epochs of iteration-based training are the stairs: the first warms up and holds the peak, and
    each later one has the value of the cosine at its first step.

    Args:
        step: counted from 0.
        training: peak, end, warm-up and stairs.
    """
    assert training.schedule_steps is not None
    stair = step // training.schedule_steps
    if stair == 0:
        start = training.warmup_learning_rate / training.learning_rate
        return min(1.0, start + (1 - start) * step / max(training.warmup_steps, 1))
    end = training.min_learning_rate / training.learning_rate
    return end + (1 - end) * (1 + math.cos(math.pi * stair * training.schedule_steps / training.max_steps)) / 2
