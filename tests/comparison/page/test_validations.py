from itertools import pairwise

from evlvideo.comparison.page.gallery import build_gallery
from evlvideo.comparison.page.inspection import Inspection
from evlvideo.comparison.page.report import render_report
from evlvideo.comparison.page.validations import MOST_SHOWN, validations_of
from evlvideo.comparison.rows.row import system_row
from evlvideo.comparison.rows.runs import read_runs
from evlvideo.comparison.tables.table import build_table
from evlvideo.results.validation_records import Sample, ValidationRecord

HOSTILE = "<script>alert(1)</script>"


def record(step: int, *warnings: str, caption: str = "a cat") -> ValidationRecord:
    return ValidationRecord(step, (Sample("video0", caption, ("a cat runs", "cats")),), warnings)


def page_of(runs) -> str:
    table = build_table("MSR-VTT", [system_row(run) for run in runs])
    return render_report(table, runs, build_gallery(runs, 0), Inspection())


def test_few_validations_are_all_shown_and_many_evenly_from_first_to_last(make_run):
    few = [record(step) for step in (10, 20)]
    many = [record(step) for step in range(10, 510, 10)]
    runs = read_runs([make_run("few", validations=few), make_run("many", validations=many), make_run("none")], "test")
    first, second = validations_of(runs)
    assert (first.name, list(first.shown)) == ("few", few)
    steps = [shown.step for shown in second.shown]
    assert len(steps) == MOST_SHOWN and (steps[0], steps[-1]) == (10, 500)
    assert max(late - early for early, late in pairwise(steps)) <= 100
    assert second.system == 1


def test_warnings_of_one_name_are_joined(make_run):
    records = [
        ValidationRecord(0, (), ("prompts-alike: at the start",)),
        record(100, "captions-alike: 60 clips", "prompts-alike: 0.01 apart"),
        record(200, "prompts-alike: 0.0015 apart"),
    ]
    (found,) = validations_of(read_runs([make_run("mean", validations=records)], "test"))
    assert [(warning.steps, warning.text) for warning in found.warnings] == [
        ("steps 0 to 200", "prompts-alike: 0.0015 apart"),
        ("step 100", "captions-alike: 60 clips"),
    ]
    assert [shown.step for shown in found.shown] == [100, 200]


def test_the_page_shows_captions_references_and_warnings_as_text(make_run):
    records = [record(100, f"captions-alike: {HOSTILE}", caption=HOSTILE), record(200, caption=" ")]
    page = page_of(read_runs([make_run("mean", validations=records)], "test"))
    section = page[page.index('id="validations"') : page.index('id="origin"')]
    assert HOSTILE not in page
    assert section.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    assert "Step 100. captions-alike: " in section
    assert "a cat runs · cats" in section
    assert '<span class="text none">empty</span>' in section
    assert '<a href="#validations">While training</a>' in page


def test_runs_without_validations_have_no_section(make_run):
    page = page_of(read_runs([make_run("mean")], "test"))
    assert 'id="validations"' not in page
    assert "While training" not in page
