"""Let the threads of a computation sleep while they wait, so that other work gets their cores."""

import os

_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables that a user may set; every OpenMP reads the first, GNU's the second, LLVM's the third."""


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait, here and in child processes, unless the user chose otherwise.

    By default, they spin for milliseconds. If other work shares the cores, such as the workers that decode for the same
    training, spinning threads keep the thread that they wait for from its core. OpenMP reads the environment when torch
    loads it, so call this before.
    """
    if not any(name in os.environ for name in _POLICIES):
        os.environ["OMP_WAIT_POLICY"] = "passive"
