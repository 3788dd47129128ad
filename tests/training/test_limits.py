from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from evlvideo.config.training import TrainingConfig
from evlvideo.training.limits import StopWithoutProgress, reached_limit, seconds_of_log, validations_since_best


def history(*ciders: float) -> list[dict[str, Any]]:
    """A log with a validation after each two steps."""
    entries: list[dict[str, Any]] = []
    for place, cider in enumerate(ciders, start=1):
        entries += [{"step": 2 * place, "loss": 1.0}, {"step": 2 * place, "validation_cider": cider}]
    return entries


def state(entries: list[dict[str, Any]], step: int = 1) -> TrainerState:
    found = TrainerState(global_step=step)
    found.log_history = entries
    return found


@pytest.mark.parametrize(
    "ciders, count",
    [((), 0), ((0.0,), 0), ((0.1, 0.2), 0), ((0.3, 0.2), 1), ((0.3, 0.3, 0.3), 2), ((0.1, 0.3, 0.2, 0.1), 2)],
)
def test_validations_since_the_best(ciders: tuple[float, ...], count: int) -> None:
    assert validations_since_best(history(*ciders)) == count


@pytest.mark.parametrize("patience, stops", [(0, False), (1, True), (2, True), (3, False)])
def test_training_stops_when_patience_is_over(tmp_path: Path, patience: int, stops: bool) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[])
    found = state(history(0.1, 0.3, 0.2, 0.1))
    control = StopWithoutProgress(patience).on_evaluate(arguments, found, TrainerControl())
    assert (control.should_training_stop, control.should_save) == (stops, stops)


def test_seconds_are_those_of_the_last_entry_that_has_them() -> None:
    assert seconds_of_log([]) == 0
    assert seconds_of_log([{"training_seconds": 1.0}, {"training_seconds": 2.0}, {"step": 3}]) == 2


def test_a_limit_is_reached_by_what_a_checkpoint_holds() -> None:
    training = TrainingConfig(max_steps=10, patience=2, max_hours=1.0)
    assert reached_limit(training, state([], step=9)) is None
    assert reached_limit(training, state([], step=10)) == "training.max_steps"
    assert reached_limit(training, state(history(0.3, 0.2, 0.1))) == "training.patience"
    assert reached_limit(training, state([{"training_seconds": 3599.0}])) is None
    assert reached_limit(training, state([{"training_seconds": 3600.0}])) == "training.max_hours"
