"""Measure in a process of its own, so that peaks of memory are those of one case."""

import multiprocessing
from collections.abc import Callable
from typing import Any


def in_process(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Call a function in a fork of this process, which has imported everything, and measured nothing yet.

    Args:
        function: returns plain values.
        arguments: its arguments.

    Raises:
        EOFError: the process ended without a result.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe()
    process = context.Process(target=lambda: sender.send(function(*arguments)))
    process.start()
    sender.close()  # so that the end of a process that fails is an error here
    found: dict[str, Any] = receiver.recv()
    process.join()
    return found
