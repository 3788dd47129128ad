"""Captions on the references of other clips: which clips, what is scored, and when captions are made again."""

import os
from pathlib import Path

import pytest
from toy_run import Toy

from evlvideo.assembly.clips import references_of
from evlvideo.comparison.rows.runs import read_runs
from evlvideo.errors import UserError
from evlvideo.evaluation import other_clips as module
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.evaluation.other_clips import drop_line, evaluate_other_clips, other_clips
from evlvideo.files import read_json, write_json
from evlvideo.metrics.scoring import score_captions
from evlvideo.results.prediction_files import read_predictions
from evlvideo.results.records import EvaluationResult

pytestmark = pytest.mark.usefixtures("no_java")


def named(count: int) -> dict[str, list[str]]:
    return {f"clip{number}": [f"caption {number}"] for number in range(count)}


@pytest.mark.parametrize("count", [2, 3, 10, 61])
@pytest.mark.parametrize("seed", [0, 42])
def test_every_clip_gets_another_and_each_is_given_once(count: int, seed: int) -> None:
    references = named(count)
    chosen = other_clips(references, seed)
    assert list(chosen) == list(references)
    assert sorted(chosen.values()) == sorted(references)
    assert all(clip_id != other for clip_id, other in chosen.items())


@pytest.mark.parametrize("seed", range(20))
def test_the_other_clip_has_other_references(seed: int) -> None:
    # Groups of 5, 3, 1 and 1 clips; the largest is half of all.
    references = {f"clip{number}": [kind, f"a {kind}"] for number, kind in enumerate("aaaaabbbcd")}
    chosen = other_clips(references, seed)
    assert all(references[clip_id] != references[other] for clip_id, other in chosen.items())
    assert sorted(chosen.values()) == sorted(references)


def test_the_seed_chooses() -> None:
    references = named(20)
    assert other_clips(references, 1) == other_clips(references, 1) != other_clips(references, 2)


def test_the_order_of_references_does_not_make_them_other_ones() -> None:
    references = {"one": ["a", "b"], "two": ["b", "a"], "three": ["c"], "four": ["d"]}
    chosen = other_clips(references, 0)
    assert {chosen["one"], chosen["two"]} == {"three", "four"}


def test_one_clip_has_no_other() -> None:
    with pytest.raises(UserError, match="There is 1 clip; captions of other clips need at least 2"):
        other_clips(named(1), 0)


def test_clips_that_are_mostly_of_one_kind_have_too_few_others() -> None:
    with pytest.raises(UserError, match="3 of 5 clips have the same references"):
        other_clips({**named(2), **{f"same{number}": ["a"] for number in range(3)}}, 0)


@pytest.fixture
def run(toy: Toy, tmp_path: Path) -> Path:
    return toy.finished_run(tmp_path / "system")


def predictions(run: Path, name: str) -> dict[str, str]:
    return read_predictions(run / "evaluation" / name / "predictions.json")


def test_captions_are_those_of_the_plain_evaluation_on_other_clips(toy: Toy, run: Path) -> None:
    plain, moved = evaluate_other_clips(run)
    references = references_of(toy.clips("test"))
    own, others = predictions(run, "mini-test"), predictions(run, "mini-test-other-clips")
    chosen = other_clips(references, toy.config(run).seed)
    assert others == {clip_id: own[chosen[clip_id]] for clip_id in references}
    assert moved.scores == score_captions(others, references).corpus
    assert moved.references == plain.references
    assert EvaluationResult.load(run / "evaluation" / "mini-test" / "result.json") == plain
    assert EvaluationResult.load(run / "evaluation" / "mini-test-other-clips" / "result.json") == moved


def test_the_result_says_that_its_captions_are_of_other_clips(run: Path) -> None:
    plain, moved = evaluate_other_clips(run)
    assert moved.decoding == {**plain.decoding, "other_clips": True}
    assert (moved.name, moved.checkpoint, moved.seed) == (plain.name, plain.checkpoint, plain.seed)
    assert moved.trained_parameters == plain.trained_parameters
    assert moved.captioning_seconds is None


def test_a_comparison_finds_it_as_a_split_of_its_own(run: Path) -> None:
    plain, moved = evaluate_other_clips(run)
    assert read_runs([run], "test-other-clips")[0].result == moved
    assert read_runs([run], "test")[0].result == plain


def refuse_to_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **named: object) -> EvaluationResult:
        raise AssertionError("captioned again")

    monkeypatch.setattr(module, "evaluate", fail)


def test_a_plain_evaluation_is_not_made_twice(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = evaluate(run)
    refuse_to_caption(monkeypatch)
    assert evaluate_other_clips(run)[0] == plain


def test_other_decoding_is_captioned_again(toy: Toy, run: Path) -> None:
    evaluate(run)
    plain, moved = evaluate_other_clips(run, config=toy.config(run, generation={"num_beams": 1}))
    assert plain.decoding["num_beams"] == moved.decoding["num_beams"] == 1


def test_weights_newer_than_the_result_are_captioned_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(run)
    path = run / "evaluation" / "mini-test" / "result.json"
    written = path.stat().st_mtime
    os.utime(run / "model.safetensors", (written + 10, written + 10))
    refuse_to_caption(monkeypatch)
    with pytest.raises(AssertionError, match="captioned again"):
        evaluate_other_clips(run)


def test_other_references_are_captioned_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(run)
    path = run / "evaluation" / "mini-test" / "result.json"
    result = read_json(path)
    result["references"]["sha256"] = "0" * 64
    write_json(path, result)
    refuse_to_caption(monkeypatch)
    with pytest.raises(AssertionError, match="captioned again"):
        evaluate_other_clips(run)


def test_another_model_is_refused(toy: Toy, run: Path) -> None:
    evaluate(run)
    with pytest.raises(UserError, match=r"model.fusion would make another model"):
        evaluate_other_clips(run, config=toy.config(run, model={"fusion": "concat"}))


def test_clips_without_a_caption_are_left_out(toy: Toy, run: Path) -> None:
    evaluate(run)
    path, bad = run / "evaluation" / "mini-test" / "predictions.json", toy.clips("test")[1].clip_id
    write_json(path, [entry for entry in read_json(path) if entry["image_id"] != bad])
    _, moved = evaluate_other_clips(run)
    assert moved.missing_clips == [bad]
    assert bad not in predictions(run, "mini-test-other-clips")


def test_the_drop_is_said_and_judged() -> None:
    def result(cider: float) -> EvaluationResult:
        return EvaluationResult("run", "mini", "test", None, "python", {"cider": cider}, {}, 1, 1)  # type: ignore[arg-type]

    assert drop_line(result(0.9), result(0.1)) == (
        "CIDEr is 90.0 on the captions' own clips and 10.0 on other clips, 80.0 lower."
    )
    assert drop_line(result(0.035), result(0.034)).endswith("0.1 lower. The captions hardly depend on the clip.")
    assert drop_line(result(0.0), result(0.0)).endswith("The captions hardly depend on the clip.")
