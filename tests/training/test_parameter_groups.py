from dataclasses import fields

import pytest
from torch import nn

from evlvideo.config.training import LearningRatesConfig
from evlvideo.training.parameter_groups import parameter_groups, peak_rates, rates_of_step


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
    }
