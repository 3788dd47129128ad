"""What changes from step to step of pre-training."""

import pytest
import torch
from torch import nn

from evlvideo.config.vlp import VlpLossesConfig, VlpTrainingConfig
from evlvideo.training.vlp.optimization import alpha_of, generator_of, learning_rate_of, make_optimizer


def test_the_cosine_warms_up_and_ends_at_its_least() -> None:
    training = VlpTrainingConfig(
        max_steps=110, warmup_steps=10, warmup_learning_rate=0.0, learning_rate=1.0, min_learning_rate=0.1
    )
    assert [learning_rate_of(step, training) for step in (0, 5, 10, 60, 110)] == pytest.approx([0, 0.5, 1, 0.55, 0.1])


def test_stairs_fall_as_blips_epochs_do() -> None:
    training = VlpTrainingConfig(
        warmup_steps=0,
        learning_rate=1e-4,
        min_learning_rate=8e-5,
        schedule="exponential",
        schedule_steps=100,
        decay_rate=0.9,
    )
    assert [learning_rate_of(step, training) for step in (0, 99, 100, 299, 300)] == pytest.approx(
        [1e-4, 1e-4, 9e-5, 8.1e-5, 8e-5]
    )


def test_alpha_rises_from_nothing() -> None:
    losses = VlpLossesConfig(alpha=0.4, alpha_steps=4)
    assert [alpha_of(step, losses) for step in (0, 1, 4, 9)] == pytest.approx([0, 0.1, 0.4, 0.4])
    assert alpha_of(0, VlpLossesConfig(alpha=0.4, alpha_steps=0)) == 0.4


def test_generators_differ_between_steps_passes_and_processes() -> None:
    drawn = {torch.rand(1, generator=generator_of(*numbers)).item() for numbers in ((1, 2, 0, 0), (1, 2, 0, 1))}
    drawn |= {torch.rand(1, generator=generator_of(*numbers)).item() for numbers in ((1, 2, 1, 0), (1, 3, 0, 0))}
    assert len(drawn) == 4
    assert torch.rand(1, generator=generator_of(1, 2)) == torch.rand(1, generator=generator_of(1, 2))


@pytest.mark.parametrize(("decayed", "shapes"), [("all", [{1, 2}]), ("matrices", [{2}, {1}])])
def test_what_decays(decayed: str, shapes: list[set[int]]) -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), VlpTrainingConfig(decayed=decayed, weight_decay=0.05))
    assert [{weight.dim() for weight in group["params"]} for group in optimizer.param_groups] == shapes
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0][: len(shapes)]
