import io
from dataclasses import replace

import pytest
from rich.console import Console
from tiny_architecture import workload

from evlvideo.estimate.records import ByPart, Estimate, Memory
from evlvideo.estimate.table import estimate_table


def drawn(costs: Estimate, width: int = 100, splits: dict[str, int | None] | None = None) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(estimate_table(costs, splits))
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
        cached_token_bytes=2**10,
        feature_bytes=600_000,
    )


def rows_of(
    costs: Estimate, part: str, width: int = 100, splits: dict[str, int | None] | None = None
) -> list[list[str]]:
    lines = drawn(costs, width, splits).splitlines()
    return [line.removeprefix(part).split() for line in lines if line.startswith(part)]


def test_it_says_what_was_asked() -> None:
    said = " ".join(drawn(example()).split())
    assert "2 frames and 29 soft tokens; in training 2 captions of 7 tokens, in captioning 3 beams of 6 new" in said


def test_one_is_not_many() -> None:
    one = replace(example(), workload=workload(num_frames=1, batch_size=1))
    assert "has 1 frame and" in drawn(one)
    assert ", 1 clip (GiB)\n" in drawn(one)


def test_memory_is_in_gib_and_added_up() -> None:
    assert rows_of(example(), "all")[-1] == ["11.50"]


def test_less_than_a_gib_is_in_mib() -> None:
    small = replace(example(), memory=Memory(weights=2**28, gradients=2**27, optimizer=2**28, activations=2**20))
    assert "4 clips (MiB)" in drawn(small)
    assert rows_of(small, "all")[-1] == ["641.00"]


def test_it_says_what_memory_leaves_out() -> None:
    assert "without the CUDA context" in drawn(example())


@pytest.mark.parametrize("width", [60, 80])
def test_all_numbers_of_a_table_are_in_the_unit_of_its_title(width: int) -> None:
    shown = drawn(example(), width)
    assert "Parameters (M)\n" in shown and "Multiply-adds (G)\n" in shown
    parameters, multiply_adds = rows_of(example(), "language model", width)
    assert parameters == ["2,651.6"] * 3
    assert multiply_adds == ["157.7", "630.8", "630.8"]


@pytest.mark.parametrize(
    ("largest", "unit", "shown"),
    [(99_999, "", "99,999"), (100_000, "k", "100.0"), (99_900_000, "k", "99,900.0"), (10**14, "T", "100.0")],
)
def test_a_unit_leaves_at_most_five_digits(largest: int, unit: str, shown: str) -> None:
    numbers = ByPart(vision_tower=largest, connector=0, contextualizer=0, language_model=0)
    costs = replace(example(), parameters=numbers, trained=numbers, saved=numbers)
    assert drawn(costs).startswith(f"Parameters ({unit})\n" if unit else "Parameters\n")
    assert rows_of(costs, "vision tower")[0] == [shown] * 3
    assert rows_of(costs, "connector")[0] == ["0"] * 3


@pytest.mark.parametrize(("smallest", "shown"), [(60_000, "0.1"), (12_000, "0.01"), (900, "0.001"), (10, "<0.001")])
def test_small_numbers_are_not_shown_as_nothing(smallest: int, shown: str) -> None:
    numbers = ByPart(vision_tower=986_000_000, connector=0, contextualizer=smallest, language_model=0)
    costs = replace(example(), trained=numbers)
    assert rows_of(costs, "contextualizer")[0] == ["28.1", shown, "28.1"]


def test_features_are_shown_by_split() -> None:
    costs = replace(example(), workload=replace(example().workload, cached_features=True))
    shown = drawn(costs, splits={"train": 6513, "validate": 497})
    assert "Features, bf16, extracted once" in shown and "multiply-adds (T)" in shown
    assert rows_of(costs, "train ", splits={"train": 6513, "validate": 497}) == [["6,513", "3.9", "6,782.6"]]
    assert "does not run" in shown


def test_features_of_splits_of_unknown_size_are_shown_for_some_clips() -> None:
    costs = replace(example(), workload=replace(example().workload, cached_features=True))
    assert rows_of(costs, "1,000 clips", splits={"train": None, "validate": None}) == [["1,000", "0.6", "1,041.4"]]


def test_features_are_not_shown_where_the_tower_runs() -> None:
    assert "extracted" not in drawn(example(), splits={"train": 6513})


def test_the_other_meaning_of_auto_is_a_remark() -> None:
    other = Memory(weights=2**34, gradients=0, optimizer=0, activations=0)
    costs = replace(example(), workload=workload(precision="bf16", other_precision="fp32"), other_memory=other)
    assert "where it is fp32, training takes 16.00 GiB" in " ".join(drawn(costs).split())


def test_keys_and_values_of_captions_are_a_remark() -> None:
    costs = replace(example(), workload=workload(num_beams=4, new_tokens=3, clips_captioned=2))
    # 2 × 4 captions of 29 soft tokens, BOS and all new tokens but the last
    assert f"keys and values take up to {8 * 32 / 1024:.2f} MiB" in " ".join(drawn(costs).split())


def test_the_contrastive_term_has_a_row_where_there_is_one() -> None:
    assert rows_of(example(), "contrast") == []
    term = replace(example().parameters, contrast=110_000_000)
    (row,) = rows_of(replace(example(), parameters=term), "contrast")
    assert row == ["110.0", "0", "0"]


def test_answering_has_a_column_where_a_question_is_asked() -> None:
    assert "answering" not in drawn(example())
    asked = workload(question_tokens=32, answer_beams=5, answer_tokens=10)
    fits = replace(example(), workload=asked, answering_question=example().captioning_clip)
    said = " ".join(drawn(fits, 120).split())
    assert "answering a question" in said
    assert "A question has 32 tokens in its prompt, its answer 5 beams of 10 new tokens." in said
    assert "which do not fit into the language model" in " ".join(drawn(replace(example(), workload=asked)).split())
