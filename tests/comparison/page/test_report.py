import re
from dataclasses import replace

import numpy as np
import pytest

from evlvideo.comparison.compare import compare
from evlvideo.comparison.page import gallery
from evlvideo.comparison.page.clip_media import ClipFrames, PageImage
from evlvideo.comparison.page.gallery import build_gallery
from evlvideo.comparison.page.inspection import AttentionView, ClipViews, Inspection, MergingView, SystemView
from evlvideo.comparison.page.report import render_report
from evlvideo.comparison.rows.row import system_row
from evlvideo.comparison.rows.runs import read_runs
from evlvideo.comparison.tables.table import build_table
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.errors import UserError

CONFIG = "data: {dataset: msrvtt, root: nowhere}\n"
PICTURE = PageImage("data:image/png;base64,AAAA", 16, 16)


def page_of(runs, insights: Inspection | None = None, entries=None, read_frames=None) -> str:
    table = build_table("MSR-VTT", entries or [system_row(run) for run in runs])
    return render_report(table, runs, build_gallery(runs, 6, read_frames=read_frames or gone), insights or Inspection())


def gone(clip: CaptionedClip) -> ClipFrames:
    raise UserError("gone")


@pytest.fixture
def annotated(monkeypatch, tmp_path):
    """Give clips video0 … video99 in three categories, without files."""
    clips = [
        CaptionedClip(f"video{index}", tmp_path / f"video{index}.mp4", ("a ball rolls",) * 20, category=index % 3)
        for index in range(100)
    ]
    monkeypatch.setattr(gallery, "read_split", lambda *args, **kwargs: clips)


def test_preview_clips_and_images_are_all_that_the_page_s_policy_lets_in(make_run):
    policy = re.search(r'Policy" content="([^"]*)"', page_of(read_runs([make_run("mean")], "test")))
    assert policy is not None
    directives = dict(part.strip().split(" ", 1) for part in policy[1].replace("&#39;", "'").split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == directives["media-src"] == "data:"
    assert set(directives) == {
        "default-src",
        "img-src",
        "media-src",
        "style-src",
        "script-src",
        "base-uri",
        "form-action",
    }


def test_intervals_and_marks_of_significance_stand_beside_the_scores(make_run):
    runs = read_runs([make_run("mean"), make_run("concat")], "test")
    entry = replace(system_row(runs[1]), intervals={"cider": (0.4812, 0.5234)}, p_values={"cider": 0.004})
    page = page_of(runs, entries=[system_row(runs[0]), entry])
    assert page.count('<small class="interval">48.1–52.3</small>') == 1
    assert page.count("<sup>‡</sup>") == 1


def test_one_system_wins_against_nobody(make_run):
    page = page_of(read_runs([make_run("mean")], "test"))
    assert 'id="wins"' not in page
    assert 'id="winner"' not in page


def test_clips_without_kinds_have_no_table_of_kinds(make_run):
    page = page_of(read_runs([make_run("mean"), make_run("concat")], "test"))
    assert 'id="kinds"' not in page
    assert 'id="wins"' in page


def test_kinds_are_shown_with_every_system(make_run, annotated):
    page = page_of(read_runs([make_run("mean", config=CONFIG), make_run("concat", per_clip={})], "test"))
    kinds = re.search(r'<table class="kinds.*?</table>', page, re.DOTALL)
    assert kinds is not None
    assert re.findall(r'<span class="name">(.*?)</span>', kinds[0]) == ["gaming", "music", "people"]
    assert kinds[0].count("<circle") == 3
    assert kinds[0].count("–") == 3


def test_names_break_between_their_words_and_stay_the_same_text(make_run):
    page = page_of(read_runs([make_run("in_tower & <b>_x")], "test"))
    assert '<span class="name">in_<wbr>tower &amp; &lt;b&gt;_<wbr>x</span>' in page


def test_the_inside_of_models_is_drawn(make_run):
    runs = read_runs([make_run("mean"), make_run("merged")], "test")
    merging = MergingView(257, 29, averaged=True, painted=(PICTURE,) * 2)
    attention = AttentionView("merged", (0.25, 0.75), ((0.0, 1.0), (0.5, 0.5)), gate=0.125)
    clip = ClipViews(
        "<video0>", (PICTURE,) * 2, (SystemView(0, "mean", merging, None), SystemView(1, "merged", None, attention))
    )
    page = page_of(runs, Inspection((clip,), ("what & <why>",)))
    inside = page[page.index('id="inside"') :]
    assert "257 → 29 tokens, of the mean of the frames" in inside
    assert "&lt;video0&gt;" in inside
    assert "what &amp; &lt;why&gt;" in inside
    assert "gate 0.12" in inside
    assert [f"{share} %" in inside for share in (25, 75)] == [True, True]
    assert re.findall(r'fill-opacity="([^"]*)"', inside) == ["0.00", "0.50", "1.00", "0.50"]


def test_long_captions_are_folded(make_run):
    captions = {f"video{index}": "word " * 100 * (1 + index) for index in range(6)}
    page = page_of(read_runs([make_run("mean", captions=captions)], "test"))
    assert page.count('<details class="long">') == 5
    assert "3,000 characters" in page


def test_a_clip_that_plays_faster_than_recorded_says_so(make_run, annotated):
    footage = ClipFrames([np.full((48, 64, 3), 3 * place, np.uint8) for place in range(64)], seconds=64.0)
    page = page_of(read_runs([make_run("mean", config=CONFIG)], "test"), read_frames=lambda clip: footage)
    assert page.count("plays at 5.0×") == 6
    assert page.count("5.0 times as fast as recorded") == 6
    assert page.count("autoplay") == 0


@pytest.mark.slow
def test_a_hundred_clips_that_play_stay_under_ten_megabytes(make_run, annotated, tmp_path):
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 255, (120, 160, 3), np.uint8) for _ in range(12)]
    captions = {f"video{index}": "a ball rolls left over a striped background" for index in range(100)}
    runs = [make_run(f"system-{index}", captions=captions, config=CONFIG) for index in range(8)]
    report = compare(
        runs, out=tmp_path / "out", gallery_clips=100, pictures=0, read_frames=lambda clip: ClipFrames(noise, 3.0)
    ).report
    page = report.read_text()
    assert page.count("<article") == 100
    assert page.count('alt="frame 1 of 4"') == 100
    assert report.stat().st_size < 10_000_000


def test_versions_that_all_share_are_named_once(make_run):
    same = page_of(read_runs([make_run("mean"), make_run("concat")], "test"))
    assert same.count("torch 2.15.0") == 1
    other = page_of(read_runs([make_run("one"), make_run("two", versions={"torch": "2.16.0"})], "test"))
    assert [other.count(f"torch {version}") for version in ("2.15.0", "2.16.0")] == [1, 1]
    assert '<th scope="col">versions</th>' in other


def test_what_systems_share_is_not_said_of_captions_from_elsewhere(make_run):
    runs = read_runs([make_run("mean"), make_run("concat")], "test")
    assert "with the same references, decoding and metrics" in page_of(runs)
    elsewhere = [runs[0], replace(runs[1], regime="scored", directory=None, training={}, source="captions.json")]
    page = page_of(elsewhere)
    assert "with the same references and metrics" in page
    assert "<td>captions.json</td>" in page
