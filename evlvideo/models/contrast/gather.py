"""Gathers rows over processes. Notation: `B` rows of this process, `W` processes, `C` channels."""

import torch
from torch import Tensor, distributed
from torch.distributed.nn import functional as differentiable


def together() -> bool:
    """Whether several processes run together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def own_rows(rows: int, device: torch.device | None = None) -> Tensor:
    """Where this process's rows are among those of all processes, `(B,)`.

    Args:
        rows: `B`, the same in all processes.
        device: of the result.
    """
    rank = distributed.get_rank() if together() else 0
    return torch.arange(rows, device=device) + rank * rows


def gathered(x: Tensor, *, constant: bool) -> Tensor:
    """Gather the rows of all processes, in the order of the processes. All must call this with as many rows.

    Args:
        x: `(B, …)`.
        constant: whether no gradient flows through the result.

    Returns:
        `(W·B, …)`.
    """
    if constant:
        x = x.detach()
    if not together():
        return x
    if constant:
        found = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
        distributed.all_gather(found, x.contiguous())
        return torch.cat(found)
    return torch.cat(differentiable.all_gather(x.contiguous()))
