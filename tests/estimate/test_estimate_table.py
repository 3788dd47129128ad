import io

import pytest
from rich.console import Console
from tiny_architecture import costs_of, workload

from evlvideo.estimate import ByPart, Estimate, Memory, estimate_table


def drawn(costs: Estimate, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(estimate_table(costs))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def example() -> Estimate:
    numbers = ByPart(
        vision_tower=986_000_000, connector=88_500_000, contextualizer=28_100_000, language_model=2_651_600_000
    )
    costs = ByPart(
        vision_tower=1_041_400_000_000,
        connector=12_700_000_000,
        contextualizer=29_200_000_000,
        language_model=630_800_000_000,
    )
    return Estimate(
        workload=workload(batch_size=4, precision="bf16"),
        soft_tokens=29,
        parameters=numbers,
        trained=numbers,
        saved=numbers,
        training_batch=costs,
        captioning_clip=costs,
        memory=Memory(weights=2**33, gradients=2**29, optimizer=2**30, activations=2**31),
    )


def test_it_says_what_was_asked() -> None:
    assert "2 frames, 29 soft tokens, 2 x 7 text tokens in training; 3 beams x 6 new tokens" in drawn(example())


def test_memory_is_in_gib_and_added_up() -> None:
    assert [line.split() for line in drawn(example()).splitlines() if line.startswith("all")][1] == ["all", "11.50"]


def test_it_says_what_memory_leaves_out() -> None:
    assert "without the CUDA context" in drawn(example())


@pytest.mark.parametrize("width", [80, 100])
def test_no_number_is_cut_or_folded(width: int) -> None:
    text = drawn(example(), width)
    assert "…" not in text
    assert "2,651.6" in text
    assert "1,041.4" in text


def test_small_numbers_are_not_shown_as_nothing() -> None:
    (row,) = [line for line in drawn(costs_of("image")).splitlines() if line.startswith("connector")]
    assert " 0.0" not in row
