import random

import numpy as np
import torch

from evlvideo.training.seeds import sampling_seeds, seed_process


def _draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_the_first_process_has_the_stream_of_the_seed() -> None:
    seed_process(7, 0)
    assert float(torch.rand(())) == float(torch.rand((), generator=torch.Generator().manual_seed(7)))


def test_every_process_has_a_stream_of_its_own_which_is_no_other_runs() -> None:
    found = set()
    for seed in (7, 8):
        for process in range(4):
            seed_process(seed, process)
            found.add(_draws())
    assert len(found) == 8
    assert len({draws[2] for draws in found}) == 8


def test_a_process_draws_the_same_again() -> None:
    seed_process(7, 3)
    first = _draws()
    seed_process(7, 3)
    assert _draws() == first


def test_draws_depend_on_seed_step_and_place_alone() -> None:
    assert sampling_seeds(1, 5, [0, 1, 2, 3])[2:] == sampling_seeds(1, 5, [2, 3])
    found = [number for seed in (1, 2) for step in range(50) for number in sampling_seeds(seed, step, range(16))]
    assert len(set(found)) == len(found)
