"""The counter of syncs, which tests of both trainers use."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sync_counter import SyncCounter
from torch import Tensor


@pytest.mark.parametrize(
    "read",
    [
        Tensor.item,
        Tensor.tolist,
        bool,
        float,
        int,
        Tensor.nonzero,
        lambda tensor: tensor[tensor > 0],
        lambda tensor: torch.equal(tensor, tensor),
    ],
)
def test_each_way_to_read_a_value_is_one_sync(read: Callable[[Tensor], Any]) -> None:
    tensor = torch.ones(1)
    with SyncCounter() as counter:
        read(tensor)
    assert counter.count == 1
    (site,) = counter.sites
    assert site.startswith("test_sync_counter.py:")


def test_computing_is_no_sync() -> None:
    weight = torch.randn(3, 3, requires_grad=True)
    with SyncCounter() as counter:
        (torch.where(weight > 0, weight, 0) @ weight).softmax(dim=-1).sum().backward()
        weight.detach().clone().add_(1)
    assert counter.count == 0


def test_what_a_backward_pass_reads_counts() -> None:
    weight = torch.ones((), requires_grad=True)
    weight.register_hook(lambda gradient: gradient * gradient.item())
    with SyncCounter() as counter:
        (weight * 2).backward()
    assert counter.count == 1
