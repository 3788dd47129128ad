import io
from dataclasses import replace

import pytest
from rich.console import Console
from tiny_architecture import costs_of, workload

from evlvideo.estimate.records import ByPart, Estimate, Memory
from evlvideo.estimate.table import estimate_table


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
    said = " ".join(drawn(example()).split())
    assert "2 frames and 29 soft tokens; in training 2 captions of 7 tokens, in captioning 3 beams of 6 new" in said


def test_one_is_not_many() -> None:
    one = replace(example(), workload=workload(num_frames=1, batch_size=1))
    assert "has 1 frame and" in drawn(one)
    assert ", 1 clip\n" in drawn(one)


def test_memory_is_in_gib_and_added_up() -> None:
    assert [line.split() for line in drawn(example()).splitlines() if line.startswith("all")][-1] == ["all", "11.50"]


def test_it_says_what_memory_leaves_out() -> None:
    assert "without the CUDA context" in drawn(example())


@pytest.mark.parametrize("width", [60, 80])
def test_every_number_has_its_line_and_unit(width: int) -> None:
    rows = [line.split() for line in drawn(example(), width).splitlines() if line.startswith("language model")]
    assert rows[0][2:] == ["2,651.6", "M"] * 3
    assert rows[1][2:] == ["157.7", "G", "630.8", "G", "630.8", "G"]


def test_small_numbers_are_not_shown_as_nothing() -> None:
    rows = [line for line in drawn(costs_of("in_tower")).splitlines() if line.startswith("contextualizer")]
    assert len(rows) == 2
    assert not any(" 0.0" in row for row in rows)
