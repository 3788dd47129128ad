import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from evlvideo.comparison.compare import compare
from evlvideo.comparison.page import gallery
from evlvideo.comparison.page.clip_media import ClipFrames
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.errors import UserError

SCRIPT = "<script>alert(1)</script>"
CONFIG = "data: {dataset: msrvtt, root: nowhere}\n"


class Page(HTMLParser):
    """What a browser would find in a page: its tags with their attributes, and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def read_frames(clip: CaptionedClip) -> ClipFrames:
    generator = np.random.default_rng(0)
    return ClipFrames([generator.integers(0, 255, (96, 128, 3), np.uint8)] * 4)


@pytest.fixture
def hostile(monkeypatch, tmp_path):
    """Give annotations whose texts try to be markup."""
    clips = [
        CaptionedClip(f"video{index}", tmp_path / f"video{index}.mp4", (f'"><img src=x> {SCRIPT}',), category=0)
        for index in range(6)
    ]
    monkeypatch.setattr(gallery, "read_split", lambda *args, **kwargs: clips)


def test_the_files_are_written_beside_each_other_and_nothing_else(make_run, tmp_path):
    comparison = compare([make_run("mean"), make_run("concat")], out=tmp_path / "out")
    assert comparison.report == tmp_path / "out/report.html"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html",
        "table.csv",
        "table.json",
        "table.md",
        "table.tex",
    ]
    record = json.loads((tmp_path / "out/table.json").read_text())
    assert [row["system"] for row in record["rows"]] == ["mean", "concat"]
    assert (record["dataset"], record["split"], record["references"]["sha256"]) == ("msrvtt", "test", "aaaa")


def test_the_same_runs_give_the_same_page(make_run, tmp_path):
    runs = [make_run("mean"), make_run("concat")]
    pages = [compare(runs, out=tmp_path / name).report.read_bytes() for name in ("one", "two")]
    assert pages[0] == pages[1]


def test_text_is_never_markup(make_run, hostile, tmp_path):
    captions = {f"video{index}": SCRIPT for index in range(6)}
    runs = [make_run("<b>", captions=captions, config=CONFIG, tokenizer=SCRIPT, commit="</b>")]
    page = Page(compare(runs, out=tmp_path / "out", read_frames=read_frames).report.read_text())
    assert page.count("script") == 1
    assert page.count("b") == 0
    assert page.count("img") == 24
    assert SCRIPT in page.text
    assert "<b>" in page.text


def test_a_caption_that_utf8_cannot_write_is_refused(make_run, tmp_path):
    run = make_run("mean")
    predictions = run / "evaluation/msrvtt-test/predictions.json"
    predictions.write_text(json.dumps([{"image_id": "video0", "caption": "a \ud800 ball"}]))
    with pytest.raises(UserError, match=r"predictions\.json is not a JSON file: .* is half of a character: line 1"):
        compare([run], out=tmp_path / "out")


def test_the_page_asks_for_nothing_beside_itself(make_run, hostile, tmp_path):
    source = compare(
        [make_run("mean", config=CONFIG)], out=tmp_path / "out", read_frames=read_frames
    ).report.read_text()
    addresses = [
        value or ""
        for _, attributes in Page(source).tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "style")
    ]
    assert addresses
    assert all(address.startswith(("#", "data:image/jpeg;base64,")) for address in addresses)
    assert "@import" not in source
    assert "url(" not in source
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', source)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;; img-src data:;")
    assert "unsafe" not in policy[1]


def test_quoted_rows_are_shown_on_request_only(make_run, tmp_path):
    run = make_run("mean")
    assert len(compare([run], out=tmp_path / "plain").table.rows) == 1
    table = compare([run], out=tmp_path / "quoted", quoted=True).table
    assert [row.row.regime for row in table.rows] == ["quoted"] * 8 + ["trained"]
    assert '<span class="tag">quoted</span>' in (tmp_path / "quoted/report.html").read_text()


def test_quoted_rows_never_stand_beside_another_data_set(make_run, tmp_path):
    table = compare([make_run("mean", dataset="mini")], out=tmp_path / "out", quoted=True).table
    assert len(table.rows) == 1
    assert "There are no published numbers to quote for mini:test." in table.remarks


def test_other_versions_are_mentioned(make_run, tmp_path):
    runs = [make_run("one"), make_run("two", versions={"torch": "2.16.0"})]
    assert "Evaluated with different versions of torch." in compare(runs, out=tmp_path / "out").table.remarks


def test_runs_that_do_not_belong_together_write_nothing(make_run, tmp_path):
    with pytest.raises(UserError, match="not scored the same way"):
        compare([make_run("one"), make_run("two", tokenizer="python")], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_report_s_directory_is_refused(make_run, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="out is a file"):
        compare([make_run("mean")], out=tmp_path / "out")


def test_fewer_than_no_clips_are_refused(make_run, tmp_path):
    with pytest.raises(UserError, match="-1 clips"):
        compare([make_run("mean")], out=tmp_path / "out", gallery_clips=-1)


def test_a_report_without_clips_has_no_gallery(make_run, tmp_path):
    page = Page(compare([make_run("mean")], out=tmp_path / "out", gallery_clips=0).report.read_text())
    assert page.count("article") == 0


def test_a_hundred_clips_stay_under_ten_megabytes(make_run, monkeypatch, tmp_path):
    captions = {f"video{index}": "a ball rolls left over a striped background" for index in range(100)}
    clips = [
        CaptionedClip(name, tmp_path / f"{name}.mp4", ("a ball rolls over a striped background",) * 20, category=0)
        for name in captions
    ]
    monkeypatch.setattr(gallery, "read_split", lambda *args, **kwargs: clips)
    runs = [make_run(f"system-{index}", captions=captions, config=CONFIG) for index in range(8)]
    report = compare(runs, out=tmp_path / "out", gallery_clips=100, read_frames=read_frames).report
    assert Page(report.read_text()).count("article") == 100
    assert report.stat().st_size < 10_000_000
