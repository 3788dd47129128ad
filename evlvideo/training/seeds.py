"""Derives a run's random streams from its one seed.

What all processes must agree on (new weights, the order of the data, what is random in an item) uses the seed itself.
What must differ between them, such as dropout, has one stream per process. Sampled captions, which must not depend on
how a step is shared out over processes, have one stream per position in the step.
"""

from collections.abc import Sequence

import numpy as np
from transformers import set_seed


def seed_process(seed: int, process: int) -> None:
    """Seed this process's generators (Python, NumPy, torch, CUDA) with its own stream; process 0 uses the seed itself.

    Call it once everything that must be equal is made. Checkpoints hold the state of every process's generators.

    Args:
        seed: seed of the run.
        process: index of the process, from 0.
    """
    set_seed(seed if process == 0 else _derived(seed, process))


def seed_of_step(seed: int, step: int) -> int:
    """Derive a seed of a run that goes on from a step without the random state that it had there."""
    return _derived(seed, step)


def sampling_seeds(seed: int, step: int, positions: Sequence[int]) -> list[int]:
    """Derive the seeds of the captions sampled for the clips of a step.

    A clip keeps its position, and so its captions, however processes and accumulated batches share the step out. A clip
    that occurs twice has two positions.

    Args:
        seed: seed of the run.
        step: index of the step, from 0.
        positions: positions of clips in the step.
    """
    return [_derived(seed, step, position) for position in positions]


def _derived(*entropy: int) -> int:
    # Mixed, not added: process 1 of a run must not equal process 0 of the run with the next seed.
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
