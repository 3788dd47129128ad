import signal
from pathlib import Path
from threading import Thread

import pytest
import torch
from sync_counter import SyncCounter
from transformers import TrainerControl, TrainerState, TrainingArguments

from evlvideo.training import interruption
from evlvideo.training.interruption import StopInOrder


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), report_to=[])


def end_step(stop: StopInOrder, arguments: TrainingArguments, step: int = 1) -> TrainerControl:
    return stop.on_step_end(arguments, TrainerState(global_step=step), TrainerControl())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_at_the_end_of_the_step(number: signal.Signals, arguments: TrainingArguments) -> None:
    stop = StopInOrder()
    with stop.listening():
        signal.raise_signal(number)
    control = end_step(stop, arguments)
    assert stop.stopped and control.should_save and control.should_training_stop


def test_without_a_signal_nothing_is_asked_for(arguments: TrainingArguments) -> None:
    stop = StopInOrder()
    with stop.listening():
        control = end_step(stop, arguments)
    assert not (stop.stopped or control.should_save or control.should_training_stop)


def test_a_signal_that_a_launcher_passes_on_is_the_same(arguments: TrainingArguments) -> None:
    stop = StopInOrder()
    with stop.listening():
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    assert end_step(stop, arguments).should_training_stop


def test_a_signal_during_validation_stops_after_it(arguments: TrainingArguments) -> None:
    stop = StopInOrder()
    with stop.listening():
        assert not end_step(stop, arguments).should_training_stop
        signal.raise_signal(signal.SIGTERM)
        control = stop.on_evaluate(arguments, TrainerState(global_step=1), TrainerControl())
    assert stop.stopped and control.should_save and control.should_training_stop


def test_a_time_limit_validates_saves_and_stops(arguments: TrainingArguments) -> None:
    up = False
    stop = StopInOrder(lambda: up)
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
        monkeypatch.setattr(interruption.time, "monotonic", lambda: self.now)
        self.now = 0.0

    def _all_reduce(self, votes: torch.Tensor, op: object) -> None:
        self.votes.append(votes.tolist())
        votes.copy_(torch.maximum(votes, torch.tensor(next(self._others))))


def test_processes_vote_every_few_seconds_and_stop_in_the_same_step(
    arguments: TrainingArguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps take 1 second here and 2 in the other process, which is signalled before the third vote."""
    voters = Voters(monkeypatch, arguments, [[0, 0, 2.0], [0, 0, 2.0], [1, 0, 2.0]])
    stop = StopInOrder()
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
    stop = StopInOrder(lambda: True)
    assert not end_step(stop, arguments, 1).should_training_stop
    assert end_step(stop, arguments, 100).should_training_stop
    assert [vote[1] for vote in voters.votes] == [0, 0]


def test_a_vote_that_is_not_due_does_not_wait_for_others(
    arguments: TrainingArguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    voters = Voters(monkeypatch, arguments, [[0, 0, 1.0]])
    stop = StopInOrder()
    end_step(stop, arguments, 1)
    with SyncCounter() as counter:
        for step in range(2, 6):
            end_step(stop, arguments, step)
    assert (len(voters.votes), counter.count) == (1, 0)


def test_a_later_signal_acts_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "SAME_SIGNAL_SECONDS", -1.0)
    # In the background of a shell, a process starts with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    stop = StopInOrder()
    with stop.listening():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopInOrder().listening():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_handlers_are_put_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError), StopInOrder().listening():
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) == before


def test_in_a_thread_signals_act_as_always() -> None:
    before, inside = signal.getsignal(signal.SIGINT), []

    def listen() -> None:
        with StopInOrder().listening():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = Thread(target=listen)
    thread.start()
    thread.join()
    assert inside == [before]
