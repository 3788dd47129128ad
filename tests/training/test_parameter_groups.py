import json
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from torch import nn
from toy_run import Toy, train_toy

from evlvideo.config.loading import config_of
from evlvideo.config.training import LearningRatesConfig, TrainingConfig
from evlvideo.errors import UserError
from evlvideo.training.parameter_groups import parameter_groups, peak_rates, rates_of_step, staircase_share


class Model(nn.Module):
    """Names as a captioner has them; what takes no gradient is in no group."""

    def __init__(self) -> None:
        super().__init__()
        self.connector = nn.Linear(2, 3)
        self.language_projection = nn.Linear(3, 4)
        self.language_model = nn.Linear(4, 5).requires_grad_(False)


def test_groups_are_the_same_whatever_the_rates() -> None:
    model = Model()
    rates = (LearningRatesConfig(), LearningRatesConfig(connector=1.0, lora=2.0))
    first, second = (parameter_groups(model, peak_rates(model, 1e-3, own), 0.1) for own in rates)
    assert [[id(weight) for weight in group["params"]] for group in first] == [
        [id(weight) for weight in group["params"]] for group in second
    ]
    assert [group["weight_decay"] for group in first] == [0.0, 0.1, 0.0, 0.1]
    assert [group["lr"] for group in second] == [1.0, 1.0, 1e-3, 1e-3]


def test_peaks_are_of_parts_that_are_there() -> None:
    assert peak_rates(Model(), 1e-3, LearningRatesConfig(connector=1.0, lora=2.0)) == {
        "connector": 1.0,
        "projections": 1e-3,
    }


def test_rates_of_a_step_are_at_one_share_of_their_peaks() -> None:
    own = LearningRatesConfig(connector=1e-2)
    rates = rates_of_step(peak_rates(Model(), 1e-3, own), first=5e-3, learning_rate=1e-3, own=own)
    assert rates == pytest.approx({"learning_rate": 5e-4, "learning_rate_connector": 5e-3})


def test_every_part_has_its_key() -> None:
    assert {field.name for field in fields(LearningRatesConfig)} == {
        "connector",
        "projections",
        "contextualizers",
        "lora",
        "vision_tower",
        "language_model",
    }


class TestStaircase:
    TRAINING = TrainingConfig(
        max_steps=250_000,
        learning_rate=1e-4,
        min_learning_rate=1e-5,
        warmup_steps=2000,
        warmup_learning_rate=1e-6,
        schedule="staircase",
        schedule_steps=5000,
    )

    @pytest.mark.parametrize(
        ("step", "rate"),
        [
            (0, 1e-6),
            (1000, 1e-6 + (1e-4 - 1e-6) / 2),
            (2000, 1e-4),
            (4999, 1e-4),
            (5000, 9e-5 * 0.5 * (1 + math.cos(math.pi / 50)) + 1e-5),
            (9999, 9e-5 * 0.5 * (1 + math.cos(math.pi / 50)) + 1e-5),
            (125_000, 5.5e-5),
            (249_999, 9e-5 * 0.5 * (1 + math.cos(math.pi * 49 / 50)) + 1e-5),
        ],
    )
    def test_rates_are_those_of_the_published_scheduler(self, step: int, rate: float) -> None:
        """`linear_warmup_cosine_lr` of LAVIS: its first inner epoch warms up, and the others read the cosine once."""
        assert 1e-4 * staircase_share(step, self.TRAINING) == pytest.approx(rate)

    def test_without_warm_up_the_first_stair_is_the_peak(self) -> None:
        training = replace(self.TRAINING, warmup_steps=0, warmup_learning_rate=1e-4)
        assert {staircase_share(step, training) for step in (0, 1, 4999)} == {1.0}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.schedule=staircase"], r"training.schedule_steps must be set, such as 5000"),
        (["training.schedule_steps=10"], r"training.schedule_steps is 10, but only training.schedule=staircase has"),
        (
            ["training.schedule=staircase", "training.schedule_steps=10", "training.warmup_steps=11"],
            r"training.warmup_steps is 11, more than training.schedule_steps, 10",
        ),
    ],
)
def test_stairs_that_cannot_be_meant_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config_of(overrides)


def test_a_run_takes_the_stairs(toy: Toy, tmp_path: Path) -> None:
    stairs = {"schedule": "staircase", "schedule_steps": 2, "warmup_steps": 1}
    train_toy(toy.config(tmp_path / "run", training=stairs))
    entries = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    logged = [entry["learning_rate"] for entry in entries if "learning_rate" in entry]
    second, third = (1e-3 + 9e-3 * (1 + math.cos(math.pi * part / 3)) / 2 for part in (1, 2))
    assert logged == pytest.approx([1e-4, 1e-2, second, second, third, third])
