"""Random streams of a run: which of its draws are equal on all processes, and which must not be.

A run has one seed. What all processes must agree on (new weights, the order of the data, what is random in an item) is
drawn from that seed itself. What each must draw for itself, such as dropout, has a stream of its own on every process;
and what must not even depend on how a step is shared out over processes has one of its own for every place in the step.
"""

from collections.abc import Sequence

import numpy as np
from transformers import set_seed


def seed_process(seed: int, process: int) -> None:
    """Give a process's generators (Python, NumPy, torch, CUDA) a stream of its own; that of process 0 is the seed's.

    Call it when all that must be equal has been drawn. Checkpoints hold the state of every process's generators.

    Args:
        seed: of the run.
        process: its number among those of the run, from 0.
    """
    set_seed(seed if process == 0 else _derived(seed, process))


def sampling_seeds(seed: int, step: int, places: Sequence[int]) -> list[int]:
    """Seeds of what is drawn for the clips of a step, by their place in it.

    A clip has the same place however many processes and accumulated batches share the step out, so that its captions
    are the same as well; a clip that is twice in a step has two places.

    Args:
        seed: of the run.
        step: from 0.
        places: of clips among those of the step.
    """
    return [_derived(seed, step, place) for place in places]


def _derived(*entropy: int) -> int:
    # Mixed rather than added up: process 1 of a run is not process 0 of the run with the next seed.
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
