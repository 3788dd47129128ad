"""Join the processes of one command, or stop them if each would do the whole work alone.

`torchrun --nproc_per_node 2 -m evlvideo …` starts several; so does `accelerate launch` on GPUs, and on CPUs with its
`--multi_gpu`, which means several processes.
"""

import hashlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from evlvideo.errors import Interrupted, UserError

if TYPE_CHECKING:
    from accelerate import PartialState

Result = TypeVar("Result")

LONGEST_WAIT = timedelta(hours=2)
"""Time limit of waiting for the other processes, whose shares of a split do not take the same time."""

_JOINED_BY = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Number of processes, as set by launchers whose processes can be joined."""
_STARTED_BY = (*_JOINED_BY, "SLURM_STEP_NUM_TASKS")
_LOCAL_RANKS = (
    "LOCAL_RANK",
    "MPI_LOCALRANKID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "SLURM_LOCALID",
)
STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
)
"""Signals by which people, terminals and clusters ask a process to end; clusters send some a while before they kill."""

_POLL_SECONDS = 0.2
_meetings = count()


def join_processes() -> "PartialState":
    """Join the processes of this command. Commands that several processes can share call it first.

    Returns:
        accelerate's state, with the number of processes and the index of this one.

    Raises:
        UserError: a launcher started several that cannot be joined, so that each would do all of the work.
    """
    import torch
    from accelerate import PartialState

    started = max(_number(name) for name in _JOINED_BY)
    if started > 1 and not torch.accelerator.is_available():
        # On a CPU, accelerate and transformers need this before they join processes.
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
                f"of the work. Start them with {_command(_number(name))}; set ACCELERATE_USE_CPU=true if they should "
                f"not use a GPU; or unset {name} if this process is meant to be alone."
            )
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and os.environ.get("MASTER_ADDR") == "127.0.0.1"
    if launched and not any(name in os.environ for name in _JOINED_BY):
        raise UserError(
            "`accelerate launch` was asked for several processes and has started one, as it does without GPUs. Add "
            f"--multi_gpu, which starts several on CPUs too; or start them with {_command('N')}; or give "
            "--num_processes 1."
        )


def on_main_process(work: Callable[[], Result]) -> Result:
    """Run `work` in the main process while the others wait, for as long as it takes.

    Returns:
        the result of `work`, in every process.

    Raises:
        UserError: raised by `work`; in every process.
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
    # Collectives have a time limit, and METEOR may take longer.
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
    """Return whether this is the main process, which speaks for all, without importing torch."""
    if "accelerate" not in sys.modules:
        return True
    from accelerate import PartialState

    return not PartialState._shared_state or bool(PartialState().is_main_process)


def is_first_to_say(message: str) -> bool:
    """Return whether no other process has said the same. Before processes are joined, one a machine says it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_initialized():
        return not any(_number(name) for name in _LOCAL_RANKS)
    said = hashlib.sha256(message.encode()).hexdigest()
    try:
        return int(_store().add(f"evlvideo/said/{said}", 1)) == 1
    except RuntimeError:  # the process that keeps the store has ended
        return True


def signals_to_catch() -> list[signal.Signals]:
    """List SIGINT, SIGTERM, and the other :data:`STOP_SIGNALS` unless ignored, as under `nohup`, or handled already."""
    always = (signal.SIGINT, signal.SIGTERM)
    return [number for number in STOP_SIGNALS if number in always or signal.getsignal(number) is signal.SIG_DFL]


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Turn signals by which clusters end a job into an error while the block runs. Only the main thread can.

    Raises:
        Interrupted: one of :func:`signals_to_catch` came, other than SIGINT, which is a KeyboardInterrupt.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted("Stopped by a signal.")

    with _handling({number: interrupt for number in signals_to_catch() if number != signal.SIGINT}):
        yield


@contextmanager
def without_signals() -> Iterator[None]:
    """Ignore :data:`STOP_SIGNALS` while the block writes what would otherwise be lost. Only the main thread can."""
    with _handling(dict.fromkeys(STOP_SIGNALS, signal.SIG_IGN)):
        yield


@contextmanager
def keeping_handler(number: signal.Signals) -> Iterator[None]:
    """Put a signal's handler back after the block, if a library has set its own."""
    before = signal.getsignal(number)
    try:
        yield
    finally:
        if signal.getsignal(number) is not before:
            signal.signal(number, before)


def check_working_directory() -> None:
    """Check that this process is somewhere.

    Raises:
        UserError: its working directory has been removed.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(
            f"The working directory cannot be read: {error.strerror}. It may have been removed; change to another one."
        ) from error


def end_at_once(status: int) -> NoReturn:
    """End this process with a status, without waiting for anything.

    Threads, child processes, or the other processes of a run may wait for something that this one will never do, and
    the interpreter would wait for them.
    """
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


@contextmanager
def _handling(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    try:
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    except ValueError:  # not the main thread
        previous = {}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _store() -> Any:
    """Return the store of joined processes, which has no time limit. Torch has no public name for it."""
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()


def _number(name: str) -> int:
    """Return an environment variable as a number, or 0."""
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else 0


def _command(processes: int | str) -> str:
    return (
        f"`torchrun --standalone --nproc_per_node {processes} -m evlvideo …`, or, on GPUs, `accelerate launch "
        f"--num_processes {processes} -m evlvideo …`"
    )


def usable_cores() -> int:
    """Count the cores that this process may use, if the system tells; else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
