import signal
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from sync_counter import SyncCounter
from transformers import TrainerControl, TrainerState, TrainingArguments

from evlvideo.config.training import TrainingConfig
from evlvideo.processes import STOP_SIGNALS
from evlvideo.training import stopping
from evlvideo.training.stopping import (
    EarlyStopping,
    GracefulStop,
    reached_limit,
    seconds_of_log,
    validations_since_best,
)


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
    control = EarlyStopping(patience).on_evaluate(arguments, found, TrainerControl())
    assert (control.should_training_stop, control.should_save) == (stops, stops)


def validation(distinct: float) -> dict[str, Any]:
    return {"step": 2, "validation_cider": 0.1, "validation_clips": 4, "validation_distinct": distinct}


@pytest.mark.parametrize("distinct, asked, stops", [(0.25, True, True), (0.25, False, False), (0.75, True, False)])
def test_training_stops_on_a_collapse_where_that_is_asked_for(
    tmp_path: Path, distinct: float, asked: bool, stops: bool
) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[])
    found = state([validation(distinct)])
    control = EarlyStopping(0, stop_on_collapse=asked).on_evaluate(arguments, found, TrainerControl())
    assert (control.should_training_stop, control.should_save) == (stops, stops)
    ended = reached_limit(TrainingConfig(stop_on_collapse=asked), found)
    assert ended == ("training.stop_on_collapse" if stops else None)


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


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), report_to=[])


def end_step(stop: GracefulStop, arguments: TrainingArguments, step: int = 1) -> TrainerControl:
    return stop.on_step_end(arguments, TrainerState(global_step=step), TrainerControl())


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_saves_and_stops_at_the_end_of_the_step(number: signal.Signals, arguments: TrainingArguments) -> None:
    stop = GracefulStop()
    with stop.listening():
        signal.raise_signal(number)
    control = end_step(stop, arguments)
    assert stop.stopped and control.should_save and control.should_training_stop


def test_without_a_signal_nothing_is_asked_for(arguments: TrainingArguments) -> None:
    stop = GracefulStop()
    with stop.listening():
        control = end_step(stop, arguments)
    assert not (stop.stopped or control.should_save or control.should_training_stop)


def test_a_signal_that_a_launcher_passes_on_is_the_same(arguments: TrainingArguments) -> None:
    stop = GracefulStop()
    with stop.listening():
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    assert end_step(stop, arguments).should_training_stop


def test_a_signal_during_validation_stops_after_it(arguments: TrainingArguments) -> None:
    stop = GracefulStop()
    with stop.listening():
        assert not end_step(stop, arguments).should_training_stop
        signal.raise_signal(signal.SIGTERM)
        control = stop.on_evaluate(arguments, TrainerState(global_step=1), TrainerControl())
    assert stop.stopped and control.should_save and control.should_training_stop


def test_a_time_limit_validates_saves_and_stops(arguments: TrainingArguments) -> None:
    up = False
    stop = GracefulStop(lambda: up)
    assert not end_step(stop, arguments).should_training_stop
    up = True
    control = end_step(stop, arguments)
    assert control.should_evaluate and control.should_save and control.should_training_stop
    assert not stop.stopped


class Voters:
    """What processes tell each other, from the answers that the other one gives in each vote."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, arguments: TrainingArguments, others: list[list[float]]
    ) -> None:
        self.votes: list[list[float]] = []
        self._others = iter(others)
        monkeypatch.setattr(type(arguments), "world_size", 2)
        monkeypatch.setattr(torch.distributed, "all_reduce", self._all_reduce)
        monkeypatch.setattr(stopping.time, "monotonic", lambda: self.now)
        self.now = 0.0

    def _all_reduce(self, votes: torch.Tensor, op: object) -> None:
        self.votes.append(votes.tolist())
        votes.copy_(torch.maximum(votes, torch.tensor(next(self._others))))


def test_processes_vote_every_few_seconds_and_stop_in_the_same_step(
    arguments: TrainingArguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps take 1 second here and 2 in the other process, which is signalled before the third vote."""
    voters = Voters(monkeypatch, arguments, [[0, 0, 2.0], [0, 0, 2.0], [1, 0, 2.0]])
    stop = GracefulStop()
    stop.on_train_begin(arguments, TrainerState(), TrainerControl())
    voted = []
    for step in range(1, 10):
        voters.now += 1.0
        stopping = end_step(stop, arguments, step).should_training_stop
        if len(voters.votes) > len(voted):
            voted.append(step)
        if stopping:
            break
    assert voted == [1, 3, 5]  # two steps of 2 seconds are nearest to 5 seconds
    assert stop.stopped
    assert [vote[:2] for vote in voters.votes] == [[0, 0]] * 3


def test_the_first_processs_clock_counts(arguments: TrainingArguments, monkeypatch: pytest.MonkeyPatch) -> None:
    voters = Voters(monkeypatch, arguments, [[0, 0, 1.0], [0, 1, 1.0]])
    monkeypatch.setattr(type(arguments), "process_index", 1)
    stop = GracefulStop(lambda: True)
    assert not end_step(stop, arguments, 1).should_training_stop
    assert end_step(stop, arguments, 100).should_training_stop
    assert [vote[1] for vote in voters.votes] == [0, 0]


def test_a_vote_that_is_not_due_does_not_wait_for_others(
    arguments: TrainingArguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    voters = Voters(monkeypatch, arguments, [[0, 0, 1.0]])
    stop = GracefulStop()
    end_step(stop, arguments, 1)
    with SyncCounter() as counter:
        for step in range(2, 6):
            end_step(stop, arguments, step)
    assert (len(voters.votes), counter.count) == (1, 0)


def test_a_later_signal_acts_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "SAME_SIGNAL_SECONDS", -1.0)
    # In the background of a shell, a process starts with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    stop = GracefulStop()
    with stop.listening():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU])
def test_a_signal_that_clusters_repeat_asks_once(
    number: signal.Signals, arguments: TrainingArguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process beyond its limit of time gets SIGXCPU every second."""
    monkeypatch.setattr(stopping, "SAME_SIGNAL_SECONDS", -1.0)
    stop = GracefulStop()
    with stop.listening():
        for _ in range(3):
            signal.raise_signal(number)
    assert end_step(stop, arguments).should_training_stop


def test_a_signal_after_another_kind_waits_for_the_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters warn of the end of a job before they ask for it."""
    monkeypatch.setattr(stopping, "SAME_SIGNAL_SECONDS", -1.0)
    with GracefulStop().listening():
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)


def test_ignored_signals_stay_ignored() -> None:
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = GracefulStop()
    with stop.listening():
        signal.raise_signal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, before)
    assert not stop.signalled


def test_a_programs_own_handler_stays() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    stop = GracefulStop()
    with stop.listening():
        signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)
    assert got == [signal.SIGUSR1]
    assert not stop.signalled


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with GracefulStop().listening():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_handlers_are_put_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError), GracefulStop().listening():
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) == before


def test_in_a_thread_signals_act_as_always() -> None:
    before, inside = signal.getsignal(signal.SIGINT), []

    def listen() -> None:
        with GracefulStop().listening():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = Thread(target=listen)
    thread.start()
    thread.join()
    assert inside == [before]
