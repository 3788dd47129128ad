"""Comparisons of answers to questions: their tables, files, refusals, and their part of the page."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answered_set import HALF, IDS, RIGHT, write_answers, write_result, write_set
from typer.testing import CliRunner

from evlvideo.cli.app import app
from evlvideo.comparison.compare import Comparison, compare
from evlvideo.comparison.rows.answers import AnswersRequest
from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.metrics.answers.scores import MeanScore
from evlvideo.results.answer_records import AnswerResult
from evlvideo.results.records import References

STEM = "answers-vqav2-validate"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_set(tmp_path / "vqa")


@pytest.fixture
def results(root: Path) -> list[Path]:
    return [write_result(root, "right", RIGHT), write_result(root, "half", HALF)]


def compared(paths: list[Path], out: Path, **options: Any) -> Comparison:
    return compare(paths, out=out, resamples=200, inspected_clips=0, **options)


def answered_run(make_run: Any, root: Path, name: str, seed: int, answers: dict[int, str], **fields: Any) -> Path:
    """A run with captions of MSR-VTT and answers of VQAv2."""
    run: Path = make_run(name)
    save_config(RunConfig(seed=seed, output_dir=str(run)), run / "config.yaml")
    result = AnswerResult.load(write_result(root, f"{name.replace('/', '-')}-of-run", answers))
    replace(result, name=name, seed=seed, **fields).save(run / "answers" / "vqav2-validate" / "result.json")
    return run


def answering_run(make_run: Any, root: Path, name: str, answers: dict[int, str], **fields: Any) -> Path:
    """A run without captions."""
    run = answered_run(make_run, root, name, 42, answers, **fields)
    (run / "evaluation" / "msrvtt-test" / "result.json").unlink()
    return run


def values(comparison: Comparison, key: str) -> list[float | None]:
    table = comparison.tables[-1]
    place = [column.key for column in table.columns].index(key)
    return [row.cells[place].value for row in table.rows]


def test_scores_types_and_flaws_have_columns(results: list[Path], tmp_path: Path) -> None:
    comparison = compared(results, tmp_path / "out")
    (table,) = comparison.tables
    titles = [(column.group, column.title) for column in table.columns]
    assert titles == [
        ("", "VQA accuracy (official)"),
        ("", "VQA accuracy (LAVIS)"),
        *(("VQA accuracy (official) by answer type", name) for name in ("number", "other", "yes/no")),
        *(("VQA accuracy (official) by question type", name) for name in ("is the", "what is")),
        *(("Share of answers", name) for name in ("empty", "longer than each reference")),
    ]
    # By hand: `a0` scores 1, `a1` of three annotators 0.9, and all else 0.
    assert values(comparison, "vqa_accuracy") == [1.0, pytest.approx(2.9 / 6)]
    assert values(comparison, "answer type: yes/no") == [1.0, pytest.approx(0.45)]
    assert values(comparison, "question type: what is") == [1.0, pytest.approx(1 / 3)]
    assert values(comparison, "share_empty") == [0.0, pytest.approx(1 / 6)]
    assert table.title == "VQAv2, validate split (not the published one, 6 questions)"
    assert any("compare with no published number" in remark for remark in table.remarks)


def test_overall_scores_have_intervals_and_tests(results: list[Path], tmp_path: Path) -> None:
    (table,) = compared(results, tmp_path / "out").tables
    right, half = (row.cells[0] for row in table.rows)
    assert (right.interval, right.p_value) == ((1.0, 1.0), None)
    assert half.interval is not None and 0 <= half.interval[0] < 2.9 / 6 < half.interval[1] <= 1
    assert half.p_value is not None
    assert any("bootstrap resamples of the questions" in remark for remark in table.remarks)
    assert any("better or worse than right" in remark for remark in table.remarks)


def test_the_files_are_named_by_the_questions(results: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    compared(results, out)
    names = [f"{STEM}.{ending}" for ending in ("csv", "json", "md", "tex")]
    assert sorted(path.name for path in out.iterdir()) == [*names, "report.html"]
    record = json.loads((out / f"{STEM}.json").read_text())
    assert record["metrics"] == ["vqa_accuracy", "vqa_accuracy_lavis"]
    assert [row["questions_scored"] for row in record["rows"]] == [6, 6]
    rows = list(csv.DictReader(io.StringIO((out / f"{STEM}.csv").read_text())))
    assert [row["vqa_accuracy"] for row in rows] == ["100.0", "48.3"]
    assert "over questions" in (out / f"{STEM}.tex").read_text()
    assert "VQA accuracy (LAVIS)" in (out / f"{STEM}.md").read_text()


def test_captions_and_answers_of_runs_stand_in_tables_of_their_own(make_run: Any, root: Path, tmp_path: Path) -> None:
    runs = [answered_run(make_run, root, name, 42, answers) for name, answers in (("a", RIGHT), ("b", HALF))]
    out = tmp_path / "out"
    captions, answers = compared(runs, out).tables
    assert captions.title == "MSR-VTT, test split"
    assert [row.row.name for row in answers.rows] == [row.row.name for row in captions.rows] == ["a", "b"]
    page = (out / "report.html").read_text()
    assert page.count('class="scores sortable"') == 2
    assert {"table.md", f"{STEM}.md"} <= {path.name for path in out.iterdir()}


def test_a_run_without_captions_is_left_out_of_their_table_and_named(make_run: Any, root: Path, tmp_path: Path) -> None:
    both = answered_run(make_run, root, "both", 42, RIGHT)
    alone, silent = answering_run(make_run, root, "alone", HALF), make_run("silent")
    captions, answers = compared([both, alone, silent], tmp_path / "out").tables
    assert [row.row.name for row in captions.rows] == ["both", "silent"]
    assert [row.row.name for row in answers.rows] == ["both", "alone"]
    assert "Without captions of msrvtt:test: alone." in captions.remarks
    assert "Without answers: silent." in answers.remarks


def test_a_split_that_is_named_is_asked_of_every_run(make_run: Any, root: Path, tmp_path: Path) -> None:
    runs = [answered_run(make_run, root, "both", 42, RIGHT), answering_run(make_run, root, "alone", HALF)]
    with pytest.raises(UserError, match="1 of 2 runs have no evaluation on the split 'test'"):
        compared(runs, tmp_path / "out", split="test")


def test_seeds_share_a_row(make_run: Any, root: Path, tmp_path: Path) -> None:
    runs = [
        *(answered_run(make_run, root, f"a-seed-{seed}", seed, RIGHT if seed == 1 else HALF) for seed in (1, 2)),
        write_result(root, "half", HALF),
    ]
    comparison = compared(runs, tmp_path / "out", over_seeds=True)
    table = comparison.tables[-1]
    assert [row.row.name for row in table.rows] == ["half", "a"]
    mean = (1 + 2.9 / 6) / 2
    assert values(comparison, "vqa_accuracy")[1] == pytest.approx(mean)
    assert values(comparison, "vqa_accuracy_lowest")[1] == pytest.approx(2.9 / 6)
    assert table.rows[1].row.intervals["vqa_accuracy"][0] <= mean <= table.rows[1].row.intervals["vqa_accuracy"][1]
    assert "answer type: other" not in table.rows[1].row.intervals
    assert list(table.rows[1].row.by_seed) == [1, 2]


def test_how_runs_were_asked_is_said(make_run: Any, root: Path, tmp_path: Path) -> None:
    ways = {"a": "Question: {} Short answer:", "b": "{}"}
    runs = [
        answering_run(make_run, root, name, RIGHT, prompt=prompt, decoding={"num_beams": 5, "prompt": prompt})
        for name, prompt in ways.items()
    ]
    (table,) = compared(runs, tmp_path / "out").tables
    assert "Answered with the prompt 'Question: {} Short answer:'; num beams 5 (a)." in table.remarks
    assert "Answered with the prompt '{}'; num beams 5 (b)." in table.remarks


def test_answers_of_others_are_scored_beside_runs(make_run: Any, root: Path, tmp_path: Path) -> None:
    run = answering_run(make_run, root, "run", RIGHT)
    request = AnswersRequest(files={"other": write_answers(tmp_path / "other.json", HALF)})
    comparison = compared([run], tmp_path / "out", answers=request)
    assert [(row.row.name, row.regime) for row in comparison.table.rows] == [("other", "scored"), ("run", "trained")]
    assert values(comparison, "vqa_accuracy") == [pytest.approx(2.9 / 6), 1.0]


def test_a_share_that_a_file_does_not_tell_has_its_reason(make_run: Any, root: Path, tmp_path: Path) -> None:
    shares = {"empty": 0.0, "over_long": 0.0, "cut_off": 0.5}
    runs = [answering_run(make_run, root, "run", RIGHT, shares=shares), write_result(root, "half", HALF)]
    comparison = compared(runs, tmp_path / "out")
    assert values(comparison, "share_cut_off") == [None, 0.5]
    assert "cut off: a file of answers does not tell." in comparison.table.footnotes


class TestRefusals:
    def test_of_another_set_of_questions(self, results: list[Path], root: Path, tmp_path: Path) -> None:
        result = replace(AnswerResult.load(results[1]), dataset="okvqa", split="test")
        result.save(root / "okvqa.json")
        with pytest.raises(UserError, match=r"answered different questions.*\n  - vqav2:validate: right\n  - okvqa"):
            compared([results[0], root / "okvqa.json"], tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_of_a_part_of_the_questions(self, results: list[Path], root: Path, tmp_path: Path) -> None:
        result = AnswerResult.load(results[1])
        references = References("vqav2:validate", "0123456789abcdef", 50)
        replace(result, questions=5, references=references).save(root / "part.json")
        with pytest.raises(UserError, match=r"not scored alike.*\n  - questions: 6 \(right\); 5 \(part\)\n  - ref"):
            compared([results[0], root / "part.json"], tmp_path / "out")

    def test_of_another_metric(self, results: list[Path], root: Path, tmp_path: Path) -> None:
        other = write_result(root, "exact", HALF, metric="exact")
        said = r"metric: VQA accuracy \(official\), VQA accuracy \(LAVIS\) \(right\); exact match \(exact\)"
        with pytest.raises(UserError, match=said):
            compared([results[0], other], tmp_path / "out")

    def test_of_a_row_to_test_against_that_is_not_there(self, results: list[Path], tmp_path: Path) -> None:
        with pytest.raises(UserError, match="--against 'none' is no row of vqav2:validate; allowed: right, half"):
            compared(results, tmp_path / "out", against="none")

    def test_of_questions_that_a_run_did_not_answer(self, make_run: Any, results: list[Path], tmp_path: Path) -> None:
        run = make_run("run")
        with pytest.raises(UserError, match=r"1 of 2 systems .*\n  evlvideo evaluate-answers .*run --dataset vqav2"):
            compared([results[0], run], tmp_path / "out", answers=AnswersRequest("vqav2"))

    def test_of_answers_without_questions(self, root: Path, tmp_path: Path) -> None:
        request = AnswersRequest(files={"other": write_answers(tmp_path / "other.json", HALF)})
        with pytest.raises(UserError, match=r"on no questions; name them with --questions DATASET:SPLIT"):
            compared([], tmp_path / "out", answers=request)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ('[{"question_id": 1, "answer": "yes"}]', "given with --answers NAME=FILE"),
            ('{"schema": "evlvideo-result-1"}', "its schema is 'evlvideo-result-1'"),
            ("{", "is not"),
        ],
    )
    def test_of_files_that_are_no_results_of_answers(self, tmp_path: Path, content: str, said: str) -> None:
        (tmp_path / "file.json").write_text(content)
        with pytest.raises(UserError, match=said):
            compared([tmp_path / "file.json"], tmp_path / "out")

    def test_of_a_file_that_is_not_there(self, results: list[Path], tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"none\.json is neither a directory nor a file"):
            compared([*results, tmp_path / "none.json"], tmp_path / "out")


def test_the_command_shows_each_table(root: Path, tmp_path: Path) -> None:
    files = {name: write_answers(tmp_path / f"{name}.json", answers) for name, answers in (("a", RIGHT), ("b", HALF))}
    arguments = [f"--answers={name}={file}" for name, file in files.items()]
    asked = ["--questions", "vqav2", "--questions-root", str(root), "--no-check-counts", "--out", str(tmp_path / "out")]
    outcome = CliRunner().invoke(app, ["compare", *arguments, *asked])
    assert outcome.exit_code == 0, outcome.output
    for said in ("VQA accuracy (official) by answer type", "Share of answers", f"{STEM}.md, .csv"):
        assert said in " ".join(outcome.output.split())


def test_published_accuracies_stand_beside_measured_ones(root: Path, tmp_path: Path) -> None:
    result = AnswerResult.load(write_result(root, "right", RIGHT))
    replace(result, deviations=[]).save(tmp_path / "right.json")
    comparison = compared([tmp_path / "right.json"], tmp_path / "out", quoted=True)
    rows = {row.row.name: row for row in comparison.table.rows}
    assert rows["EVLGen, OPT-2.7b, 250k steps"].row.values == {"vqa_accuracy_lavis": 0.484}
    assert rows["EVLGen, OPT-2.7b, 250k steps"].tags == ("quoted",)
    assert any("VQAv2 val, by LAVIS's evaluator" in remark for remark in comparison.table.remarks)
    assert values(comparison, "vqa_accuracy_lavis")[-1] == 1.0


def large_result(root: Path, name: str, seed: int, questions: int) -> Path:
    """A result of many questions, whose annotation is not at hand."""
    scores = np.random.default_rng(seed).choice([0.0, 0.3, 0.6, 0.9, 1.0], questions)
    ids = [str(number) for number in range(questions)]
    mean = MeanScore(float(scores.mean()), 0.0, 1.0, questions)
    result = AnswerResult(
        name=name,
        dataset="vqav2",
        split="validate",
        references=References("vqav2:validate", "0123456789abcdef", 10 * questions),
        questions=questions,
        scores={"vqa_accuracy": mean},
        answer_types={},
        question_types={},
        per_question={one: {"vqa_accuracy": float(score)} for one, score in zip(ids, scores, strict=True)},
        answers=dict.fromkeys(ids, "<script>yes</script>"),
        data={"root": str(root / "gone")},
    )
    result.save(root / f"{name}.json")
    return root / f"{name}.json"


@pytest.mark.slow
def test_the_page_of_all_of_vqa_stays_small(tmp_path: Path) -> None:
    results = [large_result(tmp_path, name, seed, 200_000) for seed, name in enumerate("ab")]
    comparison = compare(results, out=tmp_path / "out", inspected_clips=0)
    assert comparison.report.stat().st_size < 300_000
    low, high = comparison.table.rows[1].row.intervals["vqa_accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * 0.3777 / 200_000**0.5, rel=0.1)


class TestGallery:
    def test_a_card_has_the_question_the_annotators_and_every_answer(self, results: list[Path], tmp_path: Path) -> None:
        compared(results, tmp_path / "out")
        page = (tmp_path / "out/report.html").read_text()
        assert page.count('<article class="question"') == len(IDS)
        assert "What is 3?" in page
        assert "a0 <small>× 7</small>" in page and "a1 <small>× 3</small>" in page
        assert 'title="VQA accuracy (official) 90.0, VQA accuracy (LAVIS) 90.0">90.0<' in page
        assert page.count("image of question") == len(IDS)
        assert '<span class="text none">empty</span>' in page

    def test_texts_are_escaped(self, root: Path, tmp_path: Path) -> None:
        hostile = "<img src=x onerror=alert(1)>"
        result = write_result(root, "hostile", RIGHT | {2: hostile})
        compared([result], tmp_path / "out")
        page = (tmp_path / "out/report.html").read_text()
        assert hostile not in page and "&lt;img src=x" in page

    def test_without_the_annotation_there_are_answers_alone(self, results: list[Path], tmp_path: Path) -> None:
        gone = replace(AnswerResult.load(results[0]), data={"root": str(tmp_path / "gone")})
        gone.save(tmp_path / "gone.json")
        compared([tmp_path / "gone.json"], tmp_path / "out")
        page = (tmp_path / "out/report.html").read_text()
        assert "The questions cannot be read" in page and "question not at hand" in page

    def test_an_older_result_has_no_texts(self, results: list[Path], tmp_path: Path) -> None:
        replace(AnswerResult.load(results[0]), answers={}).save(tmp_path / "old.json")
        compared([tmp_path / "old.json"], tmp_path / "out")
        page = (tmp_path / "out/report.html").read_text()
        assert "Not the answers of old: an older version wrote the result; score it again." in page

    def test_none_are_shown_where_none_are_wanted(self, results: list[Path], tmp_path: Path) -> None:
        compared(results, tmp_path / "out", gallery_clips=0)
        assert "<article" not in (tmp_path / "out/report.html").read_text()
