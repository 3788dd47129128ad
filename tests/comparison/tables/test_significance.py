from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evlvideo.comparison.rows.row import Row, group_row, system_row
from evlvideo.comparison.rows.runs import read_runs
from evlvideo.comparison.rows.scoring import TokenizedCaptions
from evlvideo.comparison.rows.seeds import SeedGroup
from evlvideo.comparison.rows.system import System
from evlvideo.comparison.tables.significance import Resampling, add_significance
from evlvideo.metrics.scoring import score_tokenized
from evlvideo.metrics.tokenized_references import TokenizedReferences

REFERENCES = {
    "a": ["a man rides a horse", "a man is on a horse"],
    "b": ["a dog runs in the park", "the dog is running"],
    "c": ["two women sing a song", "women are singing on a stage"],
}
TOKENIZED = TokenizedReferences(REFERENCES, "python")
CAPTIONS = {"a": "a man is on a horse", "b": "a dog runs in the park", "c": "a song"}
PLAN = Resampling("one", resamples=200)


def run(make_run: Any, name: str = "one", captions: Mapping[str, str] = CAPTIONS, **fields: Any) -> System:
    """A run whose stored scores are those of its captions."""
    scores = score_tokenized(captions, TOKENIZED, ("bleu_4", "rouge_l"))
    values: dict[str, Any] = {
        "captions": dict(captions),
        "scores": scores.corpus,
        "per_clip": scores.per_clip,
        "clips_scored": len(captions),
        "clips_expected": 3,
    }
    directory: Path = make_run(name, **(values | fields))
    return read_runs([directory], "test")[0]


def certain(systems: list[System], words: TokenizedCaptions | None = None) -> tuple[dict[str, Row], list[str]]:
    words = words or TokenizedCaptions(TOKENIZED, {system.name: system.predictions for system in systems})
    made, remarks = add_significance(
        [system_row(system) for system in systems], [SeedGroup.of_one(system) for system in systems], words, PLAN
    )
    return {entry.name: entry for entry in made}, remarks


def test_intervals_are_around_the_scores(make_run: Any) -> None:
    entry = certain([run(make_run)])[0]["one"]
    assert entry.intervals.keys() == {"bleu_4", "rouge_l"}
    for metric, (low, high) in entry.intervals.items():
        value = entry.values[metric]
        assert value is not None
        assert low < value < high


def test_meteors_interval_is_shifted_to_its_score(make_run: Any) -> None:
    per_clip = {clip: {"meteor": score} for clip, score in zip("abc", (0.1, 0.2, 0.3), strict=True)}
    system = run(make_run, scores={"meteor": 0.25}, per_clip=per_clip)
    found, remarks = certain([system])
    low, high = found["one"].intervals["meteor"]
    assert (low + high) / 2 == pytest.approx(0.25, abs=0.02)
    assert any("shifted to the score" in remark for remark in remarks)


def test_a_score_that_its_clips_do_not_give_has_no_interval(make_run: Any) -> None:
    found, remarks = certain([run(make_run, scores={"rouge_l": 0.9})])
    assert found["one"].intervals == {}
    assert any(remark.startswith("No intervals for ROUGE-L") for remark in remarks)


def test_captions_that_changed_since_give_no_interval_of_bleu(make_run: Any) -> None:
    words = TokenizedCaptions(TOKENIZED, {"one": CAPTIONS | {"a": "a horse"}})
    assert certain([run(make_run)], words)[0]["one"].intervals.keys() == {"rouge_l"}


def test_captions_that_lack_a_scored_clip_give_no_interval_of_bleu(make_run: Any) -> None:
    words = TokenizedCaptions(TOKENIZED, {"one": {"a": CAPTIONS["a"]}})
    assert certain([run(make_run)], words)[0]["one"].intervals.keys() == {"rouge_l"}


def test_a_system_that_lists_clips_in_another_order_is_the_same(make_run: Any) -> None:
    backwards = dict(reversed(CAPTIONS.items()))
    found, _ = certain([run(make_run), run(make_run, "two", backwards)])
    assert found["two"].p_values == {"bleu_4": 1.0, "rouge_l": 1.0}
    assert found["two"].differences["bleu_4"] == (0.0, 0.0, 0.0)


def test_a_test_beside_another_one_is_corrected_for_it(make_run: Any) -> None:
    one, same = run(make_run), run(make_run, "same")
    other = run(make_run, "other", {"a": "a dog", "b": "a park", "c": "the"})
    alone = certain([one, other])[0]["other"].p_values["rouge_l"]
    assert 0 < alone < 0.5
    found, _ = certain([one, other, same])
    assert found["other"].p_values["rouge_l"] == pytest.approx(2 * alone)
    assert found["same"].p_values["rouge_l"] == 1.0


def test_a_row_of_a_part_of_the_clips_has_intervals_and_no_test(make_run: Any) -> None:
    found, _ = certain([run(make_run), run(make_run, "part", {"a": "a man", "b": "the dog is here"})])
    assert found["part"].intervals.keys() == {"bleu_4", "rouge_l"}
    assert found["part"].p_values == {}


def test_one_clip_alone_has_an_interval_of_no_width(make_run: Any) -> None:
    found, _ = certain([run(make_run, "part", {"a": "a man"})])
    low, high = found["part"].intervals["rouge_l"]
    assert low == high == pytest.approx(found["part"].values["rouge_l"])


def test_quoted_rows_stay_as_they_are(make_run: Any) -> None:
    # Of the same name, even.
    quoted = Row("one", "quoted", {"cider": 0.6})
    system = run(make_run)
    words = TokenizedCaptions(TOKENIZED, {"one": CAPTIONS})
    made, _ = add_significance([quoted, system_row(system)], [SeedGroup.of_one(system)], words, PLAN)
    assert made[0] is quoted
    assert made[1].intervals


def test_the_remarks_name_the_seed_the_draws_and_the_row(make_run: Any) -> None:
    _, remarks = certain([run(make_run), run(make_run, "two", CAPTIONS | {"a": "a horse"})])
    text = " ".join(remarks)
    assert "200 bootstrap resamples of the clips, seed 0" in text
    assert (
        "† p < 0.05, ‡ p < 0.01, better or worse than one: two-sided approximate randomisation, 200 exchanges" in text
    )
    assert "document frequencies kept" in text


def test_without_references_the_other_scores_have_intervals(make_run: Any) -> None:
    system = run(make_run)
    made, remarks = add_significance([system_row(system)], [SeedGroup.of_one(system)], None, PLAN)
    assert made[0].intervals.keys() == {"rouge_l"}
    assert any(remark.startswith("No intervals for BLEU-4") for remark in remarks)


def test_the_difference_s_interval_is_narrower_than_the_scores_of_alike_systems(make_run: Any) -> None:
    first, second = run(make_run), run(make_run, "two", CAPTIONS | {"a": "a man rides a dog"})
    found, _ = certain([first, second])
    _, low, high = found["two"].differences["rouge_l"]
    assert high - low < np.ptp(found["two"].intervals["rouge_l"])


def test_systems_of_other_clips_never_pair(make_run: Any) -> None:
    other = {clip: {"rouge_l": 0.5} for clip in "abd"}
    found, _ = certain([run(make_run), run(make_run, "two", scores={"rouge_l": 0.5}, per_clip=other)])
    assert found["two"].p_values == {}
    assert found["two"].intervals.keys() == {"rouge_l"}


def test_rows_of_other_numbers_of_seeds_are_tested_by_their_means(make_run: Any) -> None:
    captions = [CAPTIONS, CAPTIONS | {"a": "a horse"}, CAPTIONS | {"b": "a dog", "c": "two women sing"}]
    systems = [run(make_run, f"run-{index}", texts) for index, texts in enumerate(captions)]
    words = TokenizedCaptions(TOKENIZED, {system.name: system.predictions for system in systems})
    groups = [SeedGroup("one", tuple(systems[:2]), (1, 2)), SeedGroup.of_one(systems[2])]
    made, _ = add_significance([group_row(group) for group in groups], groups, words, PLAN)
    for metric in ("bleu_4", "rouge_l"):
        difference, low, high = made[1].differences[metric]
        assert difference == pytest.approx(made[1].values[metric] - made[0].values[metric])
        assert low <= difference <= high
        assert 0 < made[1].p_values[metric] <= 1
