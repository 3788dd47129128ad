import pytest
import torch
from sync_counter import SyncCounter

from evlvideo.errors import UserError
from evlvideo.training.health import finite
from evlvideo.training.health.finite import FiniteLosses


def test_noting_a_loss_waits_for_nothing_and_looking_waits_once() -> None:
    losses = FiniteLosses()
    with SyncCounter() as counter:
        for step in range(50):
            losses.note(torch.tensor(1.0), step, ["a"])
    assert counter.count == 0
    with SyncCounter() as counter:
        losses.look()
        losses.look()
    assert counter.count == 1


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_the_first_batch_whose_loss_is_not_finite_is_named(value: float) -> None:
    losses = FiniteLosses()
    losses.note(torch.tensor(1.0), 1, ["a", "b"])
    losses.note(torch.tensor(value), 2, ["c", "d"])
    losses.note(torch.tensor(torch.nan), 3, ["e"])
    with pytest.raises(UserError, match=rf"The loss is {value} at step 2, in the batch of the clips c, d\. Lower"):
        losses.look()


def test_a_loss_is_kept_as_it_was_when_it_was_noted() -> None:
    losses, loss = FiniteLosses(), torch.tensor(1.0)
    losses.note(loss, 1, ["a"])
    loss += torch.inf
    losses.look()


def test_there_is_a_look_before_many_losses_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite, "_MOST_LOSSES", 3)
    losses = FiniteLosses()
    for step in (1, 2):
        losses.note(torch.tensor(torch.nan), step, ["a"])
    with pytest.raises(UserError, match="at step 1"):
        losses.note(torch.tensor(1.0), 3, ["a"])
