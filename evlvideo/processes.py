"""One command in several processes: joined, or stopped where each would do the whole work alone.

`torchrun --nproc_per_node 2 -m evlvideo …` starts several; so does `accelerate launch`, where there are GPUs.
"""

import hashlib
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from evlvideo.errors import UserError

if TYPE_CHECKING:
    from accelerate import PartialState

Result = TypeVar("Result")

LONGEST_WAIT = timedelta(hours=2)
"""How long a process waits for the others where they meet; captions of a split do not all take the same time."""

_JOINED_BY = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Numbers of processes, as set by launchers whose processes can be joined."""
_STARTED_BY = (*_JOINED_BY, "SLURM_STEP_NUM_TASKS")
_LOCAL_RANKS = (
    "LOCAL_RANK",
    "MPI_LOCALRANKID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "SLURM_LOCALID",
)
_POLL_SECONDS = 0.2
_meetings = count()


def join_processes() -> "PartialState":
    """Join the processes of this command; every command that several can share calls it before it does anything.

    Returns:
        accelerate's state, which says how many there are, and which of them this is.

    Raises:
        UserError: a launcher started several, and they cannot be joined, so that each would do all of the work.
    """
    import torch
    from accelerate import PartialState

    started = max(_number(name) for name in _JOINED_BY)
    if started > 1 and not torch.accelerator.is_available():
        # Where there is nothing but a CPU, accelerate asks for this before it joins anything, and so does transformers.
        os.environ["ACCELERATE_USE_CPU"] = "true"
    cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
    try:
        state = PartialState(cpu=cpu, **({"timeout": LONGEST_WAIT} if started > 1 else {}))
    except (ValueError, RuntimeError) as error:
        if started <= 1:
            raise
        raise UserError(
            f"{started} processes were started and cannot be joined: {error}. Start them with {_command(started)}, or "
            "set MASTER_ADDR and MASTER_PORT to an address of the first process's machine in all of them."
        ) from error
    _check_not_alone(state.num_processes)
    return state


def _check_not_alone(seen: int) -> None:
    for name in _STARTED_BY:
        if _number(name) > seen:
            raise UserError(
                f"{name} says that {_number(name)} processes were started, and this one sees {seen}: each would do all "
                f"of the work. Start them with {_command(_number(name))}; set ACCELERATE_USE_CPU=true where they are "
                f"not to use a GPU; or unset {name} where this process is meant to be alone."
            )
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and os.environ.get("MASTER_ADDR") == "127.0.0.1"
    if launched and not any(name in os.environ for name in _JOINED_BY):
        raise UserError(
            "`accelerate launch` was asked for several processes and has started one, as it does without GPUs. Start "
            f"them with {_command('N')}, or give --num_processes 1."
        )


def on_main_process(work: Callable[[], Result]) -> Result:
    """Let one process work while the others wait, for as long as it takes.

    Args:
        work: run by the main process alone.

    Returns:
        what it returned, in every process.

    Raises:
        UserError: what it raised, in every process.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    state = PartialState()
    if state.num_processes == 1:
        return work()
    store, done = _store(), f"evlvideo/done/{next(_meetings)}"
    outcome: list[Any] = [None, None]
    if state.is_main_process:
        try:
            outcome = [work(), None]
        except UserError as error:
            outcome = [None, error]
        store.set(done, "")
    # A collective has a time limit, which Java's METEOR need not keep to.
    while not store.check([done]):
        time.sleep(_POLL_SECONDS)
    result, failure = broadcast_object_list(outcome)
    if failure is not None:
        raise failure
    return result


def wait_for_all() -> None:
    """Wait until every process is here, for as long as it takes."""
    from accelerate import PartialState

    state = PartialState()
    if state.num_processes == 1:
        return
    store, here = _store(), f"evlvideo/here/{next(_meetings)}"
    store.add(here, 1)
    while store.add(here, 0) < state.num_processes:
        time.sleep(_POLL_SECONDS)


def is_main() -> bool:
    """Whether what concerns all processes is this one's to say; without importing torch where nothing else did."""
    if "accelerate" not in sys.modules:
        return True
    from accelerate import PartialState

    return not PartialState._shared_state or bool(PartialState().is_main_process)


def is_first_to_say(message: str) -> bool:
    """Whether no other process has said the same; of the processes that have not been joined, one a machine says it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_initialized():
        return not any(_number(name) for name in _LOCAL_RANKS)
    said = hashlib.sha256(message.encode()).hexdigest()
    try:
        return int(_store().add(f"evlvideo/said/{said}", 1)) == 1
    except RuntimeError:  # the process that keeps the store has ended
        return True


def _store() -> Any:
    """What joined processes read and write without the time limit of collectives. Torch has no public name for it."""
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()


def _number(name: str) -> int:
    """An environment variable as a number; 0 where it is none."""
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else 0


def _command(processes: int | str) -> str:
    return (
        f"`torchrun --standalone --nproc_per_node {processes} -m evlvideo …`, or, on GPUs, `accelerate launch "
        f"--num_processes {processes} -m evlvideo …`"
    )
