"""Learning rates, weight decay, and what changes from step to step, each a function of the step alone."""

import math

import numpy as np
import torch
from torch import nn

from evlvideo.config.vlp import VlpLossesConfig, VlpTrainingConfig


def learning_rate_of(step: int, training: VlpTrainingConfig) -> float:
    """Compute the learning rate of a step, from 0.

    A linear warm-up, then a cosine from step to step (ALBEF's), or stairs that each leave `decay_rate` of the one
    before (BLIP's), not below `min_learning_rate`.
    """
    peak, least = training.learning_rate, training.min_learning_rate
    if step < training.warmup_steps:
        first = training.warmup_learning_rate
        return first + (peak - first) * step / training.warmup_steps
    if training.schedule == "exponential":
        assert training.schedule_steps is not None
        return max(least, peak * float(training.decay_rate ** (step // training.schedule_steps)))
    done = (step - training.warmup_steps) / max(1, training.max_steps - training.warmup_steps)
    return least + (peak - least) * (1 + math.cos(math.pi * min(1.0, done))) / 2


def alpha_of(step: int, losses: VlpLossesConfig) -> float:
    """Compute the teacher's share in the targets of a step, from 0, which rises linearly."""
    return losses.alpha * min(1.0, step / losses.alpha_steps) if losses.alpha_steps else losses.alpha


def generator_of(*numbers: int) -> torch.Generator:
    """Make the generator of a pass's masks and negatives.

    Args:
        numbers: the run's seed, the step, the pass in it, and the process: what a resumed run finds again.
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(seed)


def make_optimizer(model: nn.Module, training: VlpTrainingConfig) -> torch.optim.AdamW:
    """Make AdamW over the trained weights, of which all or only matrices decay."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    decayed = [weight for weight in trained if training.decayed == "all" or weight.dim() >= 2]
    others = [weight for weight in trained if training.decayed != "all" and weight.dim() < 2]
    groups = [
        {"params": weights, "weight_decay": decay}
        for weights, decay in ((decayed, training.weight_decay), (others, 0.0))
        if weights
    ]
    return torch.optim.AdamW(groups, lr=training.learning_rate)
