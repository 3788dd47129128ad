"""How threads of a computation wait for each other: asleep, so that a core goes to whoever has something to do."""

import os

_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user chooses; the first is read by every OpenMP, the second by GNU's, the third by LLVM's."""


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait, unless the user chose otherwise, here and in processes started later.

    By default they wait actively, for milliseconds. On cores that anything else uses, such as the workers that decode
    for the same training, the thread that all wait for is then kept from its core by those that wait for it. OpenMP
    reads the environment when torch loads it, so this goes before.
    """
    if not any(name in os.environ for name in _POLICIES):
        os.environ["OMP_WAIT_POLICY"] = "passive"
