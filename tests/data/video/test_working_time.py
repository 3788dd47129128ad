import pytest

from evlvideo.data.video import working_time
from evlvideo.data.video.working_time import WorkingTime


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(working_time.time, "monotonic", lambda: now[0])
    return now


def test_waits_add_up_to_the_limit(clock: list[float]) -> None:
    left, waited = WorkingTime(1.2), 0.0
    with pytest.raises(TimeoutError):
        while True:
            wait = left.next_wait()
            assert 0 < wait <= 0.5
            clock[0] += wait
            waited += wait
    assert waited == pytest.approx(1.2)


def test_a_suspension_counts_as_one_wait(clock: list[float]) -> None:
    left = WorkingTime(2.0)
    clock[0] += 3600
    assert left.next_wait() > 0
    assert left.left_seconds == pytest.approx(1.0)
    clock[0] += 0.9
    left.next_wait()
    clock[0] += 0.2
    with pytest.raises(TimeoutError):
        left.next_wait()
