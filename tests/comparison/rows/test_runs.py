import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evlvideo.comparison.rows.runs import read_runs
from evlvideo.comparison.rows.system import check_scored_alike
from evlvideo.config.data import DataConfig
from evlvideo.errors import UserError
from evlvideo.results.records import EvaluationResult, References
from evlvideo.results.run_directory import placed_name


def test_runs_keep_the_order_given_and_are_named_by_their_directories(make_run):
    directories = [make_run("mean"), make_run("concat")]
    assert [run.name for run in read_runs(directories, "test")] == ["mean", "concat"]


def test_runs_of_one_name_are_told_apart_by_their_parents(make_run):
    directories = [make_run("seed-0/scst"), make_run("seed-1/scst"), make_run("seed-1/mean")]
    assert [run.name for run in read_runs(directories, "test")] == ["seed-0/scst", "seed-1/scst", "mean"]


def test_a_run_given_twice_is_refused(make_run):
    run = make_run("mean")
    with pytest.raises(UserError, match="given 2 times"):
        read_runs([run, run.parent / "mean"], "test")


def test_no_runs_are_refused():
    with pytest.raises(UserError, match="no runs to compare"):
        read_runs([], "test")


def test_what_is_not_a_directory_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a directory"):
        read_runs([tmp_path / "nowhere"], "test")


def test_every_run_without_an_evaluation_is_listed_with_its_command(make_run):
    runs = [make_run("done"), make_run("one", split="validate"), make_run("two", split="validate")]
    with pytest.raises(UserError) as raised:
        read_runs(runs, "test")
    assert "2 of 3 runs have no evaluation on the split 'test'" in str(raised.value)
    assert f"evlvideo evaluate {runs[1]} --split test" in str(raised.value)
    assert f"evlvideo evaluate {runs[2]} --split test" in str(raised.value)
    assert str(runs[0]) not in str(raised.value)


def test_of_several_data_sets_the_run_s_own_is_taken(make_run):
    make_run("mean", dataset="mini")
    run = make_run("mean", dataset="msrvtt")
    with pytest.raises(UserError, match="mini:test, msrvtt:test"):
        read_runs([run], "test")
    assert read_runs([run], "msrvtt:test")[0].result.dataset == "msrvtt"
    (run / "config.yaml").write_text("data: {dataset: mini}\n")
    assert read_runs([run], "test")[0].result.dataset == "mini"


def test_clips_of_another_place_are_named_by_it_in_every_run(make_run, tmp_path):
    own = make_run("a", config=f"data: {{dataset: jsonl, root: {tmp_path}/kitchen}}\n", dataset="jsonl")
    place = placed_name(DataConfig(dataset="jsonl", root=f"{tmp_path}/kitchen"))
    other = make_run("b", config=f"data: {{dataset: jsonl, root: {tmp_path}/garden}}\n", dataset="jsonl")
    result = EvaluationResult.load(other / "evaluation" / "jsonl-test" / "result.json")
    data = {"root": f"{tmp_path}/kitchen", "video_root": None, "check_counts": True}
    shutil.copytree(other / "evaluation" / "jsonl-test", other / "evaluation" / f"{place}-test")
    replace(result, seed=7, data=data).save(other / "evaluation" / f"{place}-test" / "result.json")
    assert [run.result.seed for run in read_runs([own, other], f"{place}:test")] == [42, 7]
    assert [run.data.root for run in read_runs([own, other], f"{place}:test")] == [f"{tmp_path}/kitchen"] * 2
    assert [run.result.seed for run in read_runs([own, other], "test")] == [42, 42]


def test_cost_comes_from_training_where_the_result_has_none(make_run):
    run = make_run("mean", trained_parameters=None, training_seconds=None)
    (run / "training.json").write_text('{"trained_parameters": 7, "training_seconds": 2.5}')
    read = read_runs([run], "test")[0]
    assert (read.trained_parameters, read.training_seconds) == (7, 2.5)


def test_a_run_without_training_facts_is_read(make_run):
    run = make_run("mean")
    for name in ("training.json", "log.jsonl"):
        Path(run / name).unlink()
    read = read_runs([run], "test")[0]
    assert (read.training, read.training_log, read.data) == ({}, {}, None)
    assert read.regime == "scored"


def test_training_facts_of_another_form_are_refused(make_run):
    run = make_run("mean")
    (run / "training.json").write_text("[]")
    with pytest.raises(UserError, match=r"training\.json holds a JSON list"):
        read_runs([run], "test")


@pytest.mark.parametrize(
    ("field", "value", "title"),
    [
        ("references", References("elsewhere", "bbbb", 120), "references' digest"),
        ("tokenizer", "python", "tokenization"),
        ("decoding", {"num_beams": 1}, "decoding"),
        ("clips_expected", 9, "clips of the split"),
    ],
)
def test_runs_scored_in_other_ways_are_refused(make_run, field, value, title):
    runs = read_runs([make_run("one"), make_run("two", **{field: value})], "test")
    with pytest.raises(UserError, match=rf"{title}: .*\(one\); .*\(two\)"):
        check_scored_alike(runs)


def test_runs_on_other_data_sets_are_refused_with_every_difference(make_run):
    runs = read_runs(
        [make_run("one"), make_run("two", dataset="mini", references=References("mini:test", "bbbb", 120))], "test"
    )
    with pytest.raises(UserError) as raised:
        check_scored_alike(runs)
    assert "dataset: msrvtt (one); mini (two)" in str(raised.value)
    assert "references' digest: aaaa (one); bbbb (two)" in str(raised.value)


def test_runs_scored_alike_may_be_compared(make_run):
    check_scored_alike(
        read_runs([make_run("one"), make_run("two", seed=1, references=References("a copy", "aaaa", 120))], "test")
    )


def test_how_captions_from_elsewhere_were_decoded_is_not_held_against_them(make_run):
    one, two = read_runs([make_run("one"), make_run("two", decoding={})], "test")
    check_scored_alike([one, replace(two, regime="scored")])
    with pytest.raises(UserError, match="decoding"):
        check_scored_alike([one, two])


def test_captions_from_elsewhere_need_the_references_of_the_others(make_run):
    one, two = read_runs([make_run("one"), make_run("two", references=References("x", "bbbb", 120))], "test")
    with pytest.raises(UserError, match="references' digest"):
        check_scored_alike([one, replace(two, regime="scored")])
    check_scored_alike([one, replace(two, regime="scored", is_human=True)])
