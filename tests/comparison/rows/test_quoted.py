import pytest

from evlvideo.comparison.rows.quoted import quoted_rows
from evlvideo.data.annotation.questions.facts import QUESTION_DATASETS


def test_rows_of_videos_are_those_of_the_poster() -> None:
    rows = {row.name: row for row in quoted_rows("msrvtt", "test")}
    assert rows["EVLGen-video"].values == {"cider": 0.698, "bleu_4": 0.483, "meteor": 0.326, "rouge_l": 0.658}
    assert rows["EVLGen-video"].source == "EVLGen (Jian et al., ACL 2024, arXiv 2310.03291), poster, MSR-VTT test"


@pytest.mark.parametrize(
    ("dataset", "split", "opt", "vicuna"),
    [("nocaps", "validate", 1.174, 1.19), ("flickr30k", "test", 0.82, 0.818)],
)
def test_images_are_captioned_with_opt_and_with_vicuna(dataset: str, split: str, opt: float, vicuna: float) -> None:
    rows = {row.name: row.values["cider"] for row in quoted_rows(dataset, split)}
    assert list(rows) == ["BLIP-2, OPT-2.7b", "EVLGen, OPT-2.7b", "BLIP-2, Vicuna-7b", "EVLGen, Vicuna-7b"]
    assert (rows["EVLGen, OPT-2.7b"], rows["EVLGen, Vicuna-7b"]) == (opt, vicuna)


@pytest.mark.parametrize(
    ("dataset", "split", "values"),
    [
        ("coco", "validate", {"cider": 1.391}),
        ("vqav2", "validate", {"vqa_accuracy_lavis": 0.484}),
        ("gqa", "test_dev", {"gqa_accuracy": 0.309}),
        ("okvqa", "test", {"vqa_accuracy_lavis_lemmas": 0.272}),
    ],
)
def test_images_and_questions_have_one_score_each(dataset: str, split: str, values: dict[str, float]) -> None:
    rows = {row.name: row.values for row in quoted_rows(dataset, split)}
    assert rows["EVLGen, OPT-2.7b, 250k steps"] == values


def test_questions_are_quoted_for_the_splits_that_papers_report() -> None:
    quoted = [name for name, facts in QUESTION_DATASETS.items() if quoted_rows(name, facts.reported_split)]
    assert quoted == ["vqav2", "okvqa", "gqa"]


def test_what_is_unknown_of_the_small_variant_is_said() -> None:
    (small,) = (row.name for row in quoted_rows("coco", "validate") if "55M" in row.name)
    assert "its layers are not stated" in small


def test_nothing_was_published_elsewhere() -> None:
    assert quoted_rows("nocaps", "test") == quoted_rows("coco", "test") == quoted_rows("mini", "test") == []
