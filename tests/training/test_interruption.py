import signal
from pathlib import Path
from threading import Thread

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from evlvideo.training import interruption
from evlvideo.training.interruption import StopOnSignal


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), report_to=[])


def end_step(stop: StopOnSignal, arguments: TrainingArguments) -> TrainerControl:
    return stop.on_step_end(arguments, TrainerState(), TrainerControl())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_at_the_end_of_the_step(number: signal.Signals, arguments: TrainingArguments) -> None:
    stop = StopOnSignal()
    with stop.listening():
        signal.raise_signal(number)
    control = end_step(stop, arguments)
    assert stop.stopped and control.should_save and control.should_training_stop


def test_without_a_signal_nothing_is_asked_for(arguments: TrainingArguments) -> None:
    stop = StopOnSignal()
    with stop.listening():
        control = end_step(stop, arguments)
    assert not (stop.stopped or control.should_save or control.should_training_stop)


def test_a_signal_that_a_launcher_passes_on_is_the_same() -> None:
    stop = StopOnSignal()
    with stop.listening():
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    assert stop.stopped


def test_a_later_signal_acts_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "SAME_SIGNAL_SECONDS", -1.0)
    # In the background of a shell, a process starts with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    stop = StopOnSignal()
    with stop.listening():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopOnSignal().listening():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_handlers_are_put_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError), StopOnSignal().listening():
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) == before


def test_in_a_thread_signals_act_as_always() -> None:
    before, inside = signal.getsignal(signal.SIGINT), []

    def listen() -> None:
        with StopOnSignal().listening():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = Thread(target=listen)
    thread.start()
    thread.join()
    assert inside == [before]
