"""Captions from elsewhere in a table, beside runs and alone."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evlvideo.comparison.compare import compare
from evlvideo.comparison.rows.gather import gather_systems
from evlvideo.comparison.rows.references import references_of_file
from evlvideo.comparison.rows.row import Row
from evlvideo.comparison.rows.scoring import ScoringRequest, parse_prediction_files
from evlvideo.errors import UserError
from evlvideo.evaluation.score import score_files
from evlvideo.metrics import scoring as metrics
from evlvideo.results.records import describe_references
from evlvideo.results.reference_files import msrvtt_splits

MSRVTT = Path(__file__).parents[4] / "shared" / "data" / "msrvtt"
REFERENCES = {
    "video0": ["a man rides a horse", "a man is on a horse", "someone rides"],
    "video1": ["a dog runs in the park", "the dog is running", "a dog plays"],
    "video2": ["two women sing a song", "women are singing on a stage", "a song"],
    "video3": ["a car is on the road", "someone drives a red car", "a red car"],
    "video4": ["a cook cuts an onion", "a person is cooking", "someone cuts vegetables"],
    "video5": ["children play a game", "kids are playing with a ball", "a game of kids"],
}
GOOD = {clip_id: texts[1] for clip_id, texts in REFERENCES.items()}
POOR = {clip_id: "a man and a dog" for clip_id in REFERENCES}

pytestmark = pytest.mark.usefixtures("no_java")


@pytest.fixture
def references(tmp_path: Path) -> Path:
    return write(tmp_path / "truth.json", REFERENCES)


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def entries(table: Any) -> dict[str, Row]:
    return {row.row.name: row.row for row in table.rows}


def others(tmp_path: Path, references: Path | None, systems: Mapping[str, Any], **asked: Any) -> ScoringRequest:
    files = {name: write(tmp_path / f"{name}.json", captions) for name, captions in systems.items()}
    return ScoringRequest(files, references=references, **asked)


def test_captions_have_the_scores_that_score_gives_them(tmp_path: Path, references: Path) -> None:
    asked = others(tmp_path, references, {"good": GOOD, "poor": POOR})
    found = entries(compare([], out=tmp_path / "out", request=asked, resamples=50).table)
    for name, path in asked.predictions.items():
        alone = score_files(path, references)
        for metric in ("cider", "bleu_4", "rouge_l"):
            assert found[name].values[metric] == alone.scores[metric]
        assert found[name].reasons == alone.skipped
    assert [entry.regime for entry in found.values()] == ["scored", "scored"]


def test_references_and_captions_are_tokenized_in_one_pass(
    tmp_path: Path, references: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    tokenize_lines = metrics.tokenize_lines
    monkeypatch.setattr(
        metrics, "tokenize_lines", lambda texts, of: passes.append(len(texts)) or tokenize_lines(texts, of)
    )
    asked = others(tmp_path, references, {"good": GOOD, "poor": POOR}, human=True)
    gather_systems([], None, asked)
    assert passes == [3 * len(REFERENCES) + 3 * len(REFERENCES)]


def test_every_file_says_how_each_row_came_about(make_run: Any, tmp_path: Path, references: Path) -> None:
    run = matching_run(make_run)
    compare([run], out=tmp_path / "out", request=others(tmp_path, references, {"good": GOOD}), resamples=50)
    assert "| good (scored) |" in (tmp_path / "out/table.md").read_text()
    assert "| run (trained) |" in (tmp_path / "out/table.md").read_text()
    assert "\ngood,scored,6,6," in (tmp_path / "out/table.csv").read_text()
    assert "\ngood & scored & " in (tmp_path / "out/table.tex").read_text()
    rows = json.loads((tmp_path / "out/table.json").read_text())["rows"]
    assert [(row["system"], row["regime"]) for row in rows] == [("good", "scored"), ("run", "trained")]
    assert rows[0]["source"] == str(tmp_path / "good.json")
    assert '<span class="tag">scored</span>' in (tmp_path / "out/report.html").read_text()


def matching_run(make_run: Any, name: str = "run", **fields: Any) -> Path:
    """A run that was scored with the references above, with scores as they are."""
    values: dict[str, Any] = {
        "references": describe_references("elsewhere", REFERENCES),
        "tokenizer": "python",
        "captions": POOR,
        "scores": {"cider": 0.25},
        "per_clip": {clip_id: {"cider": 0.1 * place} for place, clip_id in enumerate(REFERENCES)},
    }
    run: Path = make_run(name, **(values | fields))
    return run


def test_rows_are_tested_against_the_first_run_where_nothing_is_named(
    make_run: Any, tmp_path: Path, references: Path
) -> None:
    runs = [matching_run(make_run, "one"), matching_run(make_run, "two")]
    asked = others(tmp_path, references, {"good": GOOD})
    table = compare(runs, out=tmp_path / "out", request=asked, resamples=400).table
    found = entries(table)
    assert found["one"].p_values == {}
    assert found["two"].p_values == {"cider": 1.0}
    assert found["two"].differences == {"cider": (0.0, 0.0, 0.0)}
    assert found["good"].p_values["cider"] < 0.2
    assert found["good"].differences["cider"][0] == pytest.approx(found["good"].values["cider"] - 0.25)
    assert any("worse than one:" in remark for remark in table.remarks)


def test_means_over_seeds_stand_beside_captions_from_elsewhere(make_run: Any, tmp_path: Path, references: Path) -> None:
    alone = compare([], out=tmp_path / "alone", request=others(tmp_path, references, {"poor": POOR}), resamples=50)
    scores = {key: value for key in ("cider", "bleu_4") if (value := alone.table.rows[0].row.values[key]) is not None}
    runs = [matching_run(make_run, f"run-{seed}", scores=scores, config=f"seed: {seed}\n") for seed in (1, 2)]
    asked = others(tmp_path, references, {"good": GOOD})
    found = entries(compare(runs, out=tmp_path / "out", request=asked, over_seeds=True, resamples=50).table)
    assert found["run"].by_seed.keys() == {1, 2}
    assert "bleu_4" in found["good"].p_values


def test_another_system_that_was_run_here_is_scored_and_no_row_to_test_against(make_run: Any, tmp_path: Path) -> None:
    other = matching_run(make_run, "other", decoding={"num_beams": 3})
    for name in ("training.json", "log.jsonl"):
        (other / name).unlink()
    table = compare([other, matching_run(make_run, "run")], out=tmp_path / "out", resamples=50).table
    assert [(row.row.name, row.regime) for row in table.rows] == [("other", "scored"), ("run", "trained")]
    assert table.rows[0].row.p_values == {"cider": 1.0}
    assert json.loads((tmp_path / "out/table.json").read_text())["decoding"]["num_beams"] == 5


def test_the_row_to_test_against_can_be_named(tmp_path: Path, references: Path) -> None:
    asked = others(tmp_path, references, {"good": GOOD, "poor": POOR})
    found = entries(compare([], out=tmp_path / "out", request=asked, against="poor", resamples=400).table)
    assert found["poor"].p_values == {}
    assert found["good"].differences["bleu_4"][0] > 0


def test_a_row_to_test_against_that_is_not_there_is_refused_before_scoring(
    tmp_path: Path, references: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evlvideo.comparison.rows.gather.score_predictions", None)
    asked = others(tmp_path, references, {"good": GOOD, "poor": POOR})
    with pytest.raises(UserError, match="'god' is no row; allowed: good, poor"):
        gather_systems([], None, asked, "god")


@pytest.mark.parametrize("name", ["short", "human"])
def test_a_row_that_pairs_with_none_is_not_tested_against(tmp_path: Path, references: Path, name: str) -> None:
    systems = {"good": GOOD, "short": dict(list(POOR.items())[:3])}
    asked = others(tmp_path, references, systems, human=True, allow_partial=True)
    with pytest.raises(UserError, match=f"'{name}' is scored on other clips or references than the others; .*: good"):
        gather_systems([], None, asked, name)


def test_people_stand_first_with_one_reference_less_and_are_never_the_best(tmp_path: Path, references: Path) -> None:
    asked = others(tmp_path, references, {"good": GOOD, "poor": POOR}, human=True)
    table = compare([], out=tmp_path / "out", request=asked, resamples=50).table
    assert [row.row.name for row in table.rows] == ["human", "good", "poor"]
    assert table.rows[0].tags == ("scored", "other references")
    assert table.rows[0].row.p_values == {}
    assert table.rows[0].row.intervals.keys() == {"cider", "bleu_4", "rouge_l"}
    assert not any(cell.best for cell in table.rows[0].cells)


def test_people_need_two_captions(tmp_path: Path) -> None:
    alone = write(tmp_path / "alone.json", {"video0": ["a man"]})
    with pytest.raises(UserError, match=r"1 of 1 clips of .*alone\.json have one caption, such as video0"):
        gather_systems([], None, ScoringRequest(references=alone, human=True))


def test_all_that_is_wrong_with_all_files_is_listed(tmp_path: Path, references: Path) -> None:
    short = dict(list(GOOD.items())[2:]) | {"video5": " \n", "video77": "a man"}
    twice = [{"image_id": clip_id, "caption": text} for clip_id, text in [*GOOD.items(), ("video3", "a car")]]
    with pytest.raises(UserError) as raised:
        gather_systems([], None, others(tmp_path, references, {"short": short, "fine": GOOD, "twice": twice}))
    message = str(raised.value)
    assert "2 clips have no caption: video0, video1\n" in message
    assert "1 caption is of no clip of the split: video77\n" in message
    assert "1 caption is empty: video5\n" in message
    assert "1 clip has more than one caption: video3 (2)\n" in message
    assert "--allow-partial" in message
    assert "fine" not in message


def test_what_is_there_is_scored_on_request_and_marked(tmp_path: Path, references: Path) -> None:
    short = dict(list(GOOD.items())[2:]) | {"video5": "", "video77": "a man"}
    asked = others(tmp_path, references, {"poor": POOR, "short": short}, allow_partial=True)
    table = compare([], out=tmp_path / "out", request=asked, resamples=50).table
    row = table.rows[1]
    assert row.tags == ("scored", "3 of 6 clips")
    assert row.row.p_values == {}
    assert row.row.intervals.keys() == {"cider", "bleu_4", "rouge_l"}
    assert not any(cell.best for cell in row.cells)
    assert any(remark.startswith("short (") and "video0, video1" in remark for remark in table.remarks)


def test_a_file_with_more_than_the_clips_is_whole_when_that_is_allowed(tmp_path: Path, references: Path) -> None:
    asked = others(tmp_path, references, {"more": GOOD | {"video77": "a man"}, "good": GOOD}, allow_partial=True)
    found = entries(compare([], out=tmp_path / "out", request=asked, resamples=50).table)
    assert not found["more"].partial
    assert found["more"].values == found["good"].values
    assert found["good"].p_values == dict.fromkeys(("cider", "bleu_4", "rouge_l"), 1.0)


def test_captions_of_no_clip_at_all_are_refused_even_so(tmp_path: Path, references: Path) -> None:
    asked = others(tmp_path, references, {"else": {"video77": "a man"}}, allow_partial=True)
    with pytest.raises(UserError, match="not one clip can be scored"):
        gather_systems([], None, asked)


def test_references_that_runs_were_not_scored_with_are_refused(make_run: Any, tmp_path: Path, references: Path) -> None:
    with pytest.raises(UserError, match=r"run was scored with other references \(msrvtt:test"):
        gather_systems([make_run("run")], None, others(tmp_path, references, {"good": GOOD}))


def test_the_split_of_the_runs_is_taken_from_a_file_of_several(make_run: Any, tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    lines = [
        {"id": name, "video": f"{name}.mp4", "captions": texts, "split": "test"} for name, texts in REFERENCES.items()
    ]
    lines.append({"id": "video9", "video": "video9.mp4", "captions": ["a cat"], "split": "train"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = gather_systems([matching_run(make_run)], None, others(tmp_path, path, {"good": GOOD}))
    assert [(of.result.dataset, of.result.split) for of in found.systems] == [("msrvtt", "test")] * 2


def test_runs_that_do_not_say_where_their_references_are_need_a_file(make_run: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name their file with --references"):
        gather_systems([matching_run(make_run)], None, others(tmp_path, None, {"good": GOOD}))


def test_captions_take_the_tokenizer_of_the_runs(make_run: Any, tmp_path: Path, references: Path) -> None:
    run = matching_run(make_run, tokenizer="ptb")
    with pytest.raises(UserError, match="'ptb' cannot run"):
        gather_systems([run], None, others(tmp_path, references, {"good": GOOD}))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "There are no runs to compare"),
        ({"human": True}, "name a file with --references, or a dataset"),
        ({"human": True, "root": Path("x"), "references": Path("y")}, "--root x is the directory of a dataset"),
        ({"human": True, "dataset": "mini", "references": Path("y")}, "not both"),
        ({"human": True, "dataset": "msrvtt"}, "'msrvtt' has no root"),
        ({"human": True, "dataset": "msr-vtt", "root": Path("x")}, "allowed: msrvtt"),
    ],
)
def test_what_is_asked_has_to_be_whole(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        gather_systems([], None, ScoringRequest(**asked))


def test_a_run_and_captions_of_one_name_are_refused(make_run: Any, tmp_path: Path, references: Path) -> None:
    with pytest.raises(UserError, match="good is the name of a run and of other captions"):
        gather_systems([matching_run(make_run, "good")], None, others(tmp_path, references, {"good": GOOD}))


def test_files_are_named_or_called_as_they_are() -> None:
    assert parse_prediction_files(["a=b/c=d.json", "x/y.json"]) == {"a": Path("b/c=d.json"), "y": Path("x/y.json")}


def test_a_name_that_is_no_text_can_be_written(tmp_path: Path, references: Path) -> None:
    asked = others(tmp_path, references, {"poor": POOR})
    path = tmp_path / "b\udcff.json"
    path.write_text(json.dumps(GOOD))
    asked = replace(asked, predictions=parse_prediction_files([f"a\udcff={path}"]) | dict(asked.predictions))
    compare([], out=tmp_path / "out", request=asked, resamples=50)
    assert json.loads((tmp_path / "out/table.json").read_text())["rows"][0]["source"].endswith("b?.json")


@pytest.mark.parametrize("given", [["=a.json"], ["a="], ["a=b", "a=c"], ["x/a.json", "y/a.csv"]])
def test_files_without_a_name_of_their_own_are_refused(given: list[str]) -> None:
    with pytest.raises(UserError, match="NAME=FILE"):
        parse_prediction_files(given)


def test_a_file_of_several_splits_needs_one_to_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "official.json", official({"a": "train", "b": "validate"}))
    with pytest.raises(UserError, match="several splits: train, validate"):
        references_of_file(path, None)
    assert list(references_of_file(path, "validate").captions) == ["b"]


def test_captions_of_another_split_of_the_file_are_called_that(tmp_path: Path) -> None:
    path = write(tmp_path / "official.json", official({"a": "train", "b": "validate"}))
    with pytest.raises(UserError, match="1 of the split 'train'; the table is on 'validate'"):
        gather_systems([], "validate", others(tmp_path, path, {"x": {"a": "a man"}}))


def official(splits: dict[str, str]) -> dict[str, Any]:
    return {
        "videos": [{"video_id": name, "split": split, "category": 1} for name, split in splits.items()],
        "sentences": [
            {"sen_id": 2 * place + k, "video_id": name, "caption": f"a man {k}"}
            for place, name in enumerate(splits)
            for k in range(2)
        ],
    }


def test_msrvtts_clips_are_numbered_by_split() -> None:
    splits = msrvtt_splits()
    found = [splits[f"video{number}"] for number in (0, 6512, 6513, 7009, 7010, 9999)]
    assert found == ["train", "train", "validate", "validate", "test", "test"]
    assert len(splits) == 10_000


@pytest.mark.skipif(not MSRVTT.is_dir(), reason="needs the official MSR-VTT annotation")
def test_the_official_file_is_known_as_msrvtt_and_its_other_splits_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(MSRVTT / "test_videodatainfo.json.zip") as archive:
        archive.extract("test_videodatainfo.json", tmp_path)
    path = tmp_path / "test_videodatainfo.json"
    found = references_of_file(path, None)
    assert (found.dataset, found.split, len(found.captions)) == ("msrvtt", "test", 2990)
    with pytest.raises(UserError, match="497 of the split 'validate'; the table is on 'test'"):
        validate = {clip_id: "a man" for clip_id, split in msrvtt_splits().items() if split == "validate"}
        gather_systems([], None, others(tmp_path, path, {"x": validate}))


def test_a_table_may_be_tokenized_by_characters_and_says_so(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.json", {"a": ["一个男人在弹吉他"], "b": ["狗在草地上跑"]})
    captions = {"a": "男人在弹吉他", "b": "狗在跑"}
    scores = {}
    for tokenizer in ("python", "characters"):
        asked = others(tmp_path, truth, {"mine": captions}, tokenizer=tokenizer)
        comparison = compare([], out=tmp_path / tokenizer, request=asked, resamples=50, quoted=True)
        (system,) = gather_systems([], None, asked).systems
        scores[tokenizer] = system.result.scores["cider"]
        assert system.result.remarks[0] in comparison.table.remarks
    assert scores["characters"] > scores["python"] == 0
