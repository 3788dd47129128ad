"""The page in headless Chromium."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import DOWN, ENTER, SPACE, TAB, Browser, chromium, is_installed

from evlvideo.comparison.compare import compare
from evlvideo.comparison.page import gallery
from evlvideo.comparison.page.clip_media import ClipFrames
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.errors import UserError

pytestmark = pytest.mark.skipif(not is_installed(), reason="chromium and chromedriver are not installed")

CONFIG = "data: {dataset: msrvtt, root: nowhere}\n"
CLIPS = [f"video{index}" for index in range(6)]
SCORES = {
    "mean": (0.5, 0.1, 0.3, 0.4, 0.0, 0.2),
    "concat": (0.6, 0.1, 0.2, 0.5, 0.0, 0.1),
    "<i>": (0.1, 0.1, 0.4, 0.1, 0.0, 0.9),
}
"""CIDEr of the clips by system."""
CAPTIONS = ["a ball rolls left", "a dog", "a red ball", "two dogs", "a cat", "rain"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as started:
        yield started


def moving(clip: CaptionedClip) -> ClipFrames:
    """Two seconds in which a bar moves."""
    frames = [np.full((48, 64, 3), 40, np.uint8) for _ in range(24)]
    for place, frame in enumerate(frames):
        frame[:, 2 * place : 2 * place + 8] = 220
    return ClipFrames(frames, seconds=2.0)


def gone(clip: CaptionedClip) -> ClipFrames:
    raise UserError(f"{clip.video} is missing.")


@pytest.fixture
def page(browser: Browser, make_run, monkeypatch, tmp_path: Path) -> Browser:
    """Open the report of three systems and six clips of two kinds."""
    evidence = ("one_frame", "frame_order")
    clips = [
        CaptionedClip(
            name, tmp_path / f"{name}.mp4", ("<b>a thing</b>", f"reference {index}"), evidence=evidence[index % 2]
        )
        for index, name in enumerate(CLIPS)
    ]
    monkeypatch.setattr(gallery, "read_split", lambda *args, **kwargs: clips)
    log = [{"step": step, "loss": 1 / step, "validation_cider": step / 10} for step in range(1, 9)]
    runs = [
        make_run(
            name,
            scores={"cider": cider},
            log=log,
            config=CONFIG,
            captions=dict(zip(CLIPS, CAPTIONS, strict=True)),
            per_clip={clip: {"cider": score} for clip, score in zip(CLIPS, SCORES[name], strict=True)},
        )
        for name, cider in [("mean", 0.5), ("concat", 0.7), ("<i>", 0.3)]
    ]
    browser.open(compare(runs, out=tmp_path / "report", inspected_clips=0, read_frames=moving).report)
    return browser


def systems(page: Browser) -> list[str]:
    return page.run("return [...document.querySelectorAll('.scores tbody .name')].map(e => e.textContent)")


def shown(page: Browser) -> list[str]:
    return page.run(
        "return [...document.querySelectorAll('article')].filter(a => a.offsetParent).map(a => a.dataset.clip)"
    )


def count(page: Browser) -> str:
    return page.run("return document.getElementById('shown').textContent")


def test_the_page_logs_nothing_and_asks_for_nothing(page):
    page.run("document.querySelectorAll('article').forEach(a => a.scrollIntoView())")
    page.run("document.querySelector('video').play()")
    page.wait("document.querySelector('video').currentTime > 0")
    assert page.problems() == []
    asked = page.requests()
    assert any(address.startswith("file:") for address in asked)
    assert [address for address in asked if not address.startswith(("data:", "file:"))] == []
    assert {address for address in asked if address.startswith("file:")} == {page.run("return location.href")}
    assert page.run("return [...document.images].every(i => i.complete && i.naturalWidth === 64)")
    assert page.run("return getComputedStyle(document.querySelector('.s0')).getPropertyValue('--c')").startswith("#")


def test_the_page_s_policy_lets_it_ask_for_nothing(page):
    asked = page.command(
        "execute/async",
        script="const d = arguments[0]; fetch('http://127.0.0.1:9/').then(() => d('sent'), () => d('refused'))",
        args=[],
    )
    assert asked == "refused"
    assert any("Content Security Policy" in problem for problem in page.problems())


def test_it_sorts_by_mouse_and_back(page):
    click = "document.querySelectorAll('.scores th button')[1].click()"
    page.run(click)
    assert systems(page) == ["concat", "mean", "<i>"]
    page.run(click)
    assert systems(page) == ["<i>", "mean", "concat"]
    page.run(click)
    assert systems(page) == ["mean", "concat", "<i>"]


def test_it_sorts_by_keyboard(page):
    page.run("document.querySelector('.scores th button').focus()")
    page.press(ENTER)
    assert systems(page) == ["<i>", "concat", "mean"]
    assert page.run("return document.querySelector('.scores th[aria-sort]').getAttribute('aria-sort')") == "ascending"
    page.press(SPACE)
    assert systems(page) == ["mean", "concat", "<i>"]


def test_every_table_of_numbers_sorts_on_its_own(page):
    page.run("[...document.querySelectorAll('.kinds th button')].find(b => b.textContent === '<i>').click()")
    assert page.run("return [...document.querySelectorAll('.kinds tbody .name')].map(e => e.textContent)") == [
        "frame order",
        "one frame",
    ]
    page.run("[...document.querySelectorAll('.wins th button')].find(b => b.textContent === 'best of all').click()")
    assert page.run("return [...document.querySelectorAll('.wins tbody .name')].map(e => e.textContent)") == [
        "concat",
        "<i>",
        "mean",
    ]
    assert systems(page) == ["mean", "concat", "<i>"]


def test_kinds_have_their_scores_in_numbers_and_dots(page):
    cells = (
        "return [...document.querySelectorAll('.kinds tbody tr')].map(r => [...r.cells].map(c => c.innerText.trim()))"
    )
    assert page.run(cells) == [
        ["frame order", "3", "", "23.3", "23.3", "36.7"],
        ["one frame", "3", "", "26.7", "26.7", "16.7"],
    ]
    places = page.run("return [...document.querySelectorAll('.kinds circle')].map(c => c.getBoundingClientRect().x)")
    assert places[0] == places[1] < places[2]
    assert places[5] < places[0] < places[3]


def test_it_filters_by_kind(page):
    page.choose("group", "frame order")
    assert sorted(shown(page)) == ["video1", "video3", "video5"]
    assert count(page) == "3 of 6 clips"


def test_it_filters_by_who_wins(page):
    page.choose("winner", "1")
    assert sorted(shown(page)) == ["video0", "video3"]
    assert count(page) == "2 of 6 clips · in all, concat is above all others on 2 of 6 clips"
    page.choose("rival", "2")
    assert sorted(shown(page)) == ["video0", "video3"]
    assert count(page).endswith("concat is above <i> on 2 of 6 clips")
    page.choose("winner", "0")
    assert sorted(shown(page)) == ["video0", "video3"]
    page.choose("rival", "1")
    assert sorted(shown(page)) == ["video2", "video5"]
    assert count(page).endswith("mean is above concat on 2 of 6 clips")
    page.choose("winner", "tie")
    assert sorted(shown(page)) == ["video1", "video4"]
    assert page.run("return document.getElementById('rival').disabled")


def test_what_wins_by_most_comes_first_where_the_order_is_of_differences(page):
    page.choose("order", "spread")
    assert shown(page)[0] == "video5"
    page.choose("winner", "1")
    assert shown(page) in (["video0", "video3"], ["video3", "video0"])
    page.choose("rival", "2")
    assert shown(page) == ["video0", "video3"]
    page.choose("order", "clip")
    page.choose("winner", "")
    assert shown(page) == CLIPS


def test_it_finds_words_in_captions_and_references(page):
    page.choose("words", "BALL  red")
    page.wait("document.getElementById('shown').textContent === '1 of 6 clips'")
    assert shown(page) == ["video2"]
    page.choose("words", "reference 4")
    page.wait("document.querySelector('[data-clip=video4]').offsetParent")
    assert shown(page) == ["video4"]
    page.choose("words", "zebra")
    page.wait("!document.getElementById('none').hidden")
    assert count(page) == "0 of 6 clips"
    page.run("document.getElementById('reset').click()")
    page.wait("document.getElementById('shown').textContent === '6 clips'")
    assert len(shown(page)) == 6


def test_filters_add_up(page):
    page.choose("group", "one frame")
    page.choose("winner", "2")
    assert shown(page) == ["video2"]


def test_clips_play_when_asked_to_and_one_at_a_time(page):
    assert page.run(
        "return [...document.querySelectorAll('video')].every(v => v.paused && v.controls && v.muted && !v.autoplay)"
    )
    page.run("document.querySelectorAll('video')[0].play()")
    page.wait("document.querySelectorAll('video')[0].currentTime > 0.2")
    assert page.run("return document.querySelectorAll('video')[0].duration") == pytest.approx(2, abs=0.1)
    assert page.run("return document.querySelectorAll('video')[0].videoWidth") == 64
    page.run("document.querySelectorAll('video')[1].play()")
    page.wait("document.querySelectorAll('video')[0].paused && document.querySelectorAll('video')[1].currentTime > 0")


def test_nothing_moves_where_less_motion_is_wanted(page):
    page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    page.command("refresh")
    assert page.run("return [...document.querySelectorAll('video')].every(v => v.paused)")
    assert page.run("return document.getAnimations().length") == 0


def test_a_clip_that_is_filtered_away_stops(page):
    page.run("document.querySelector('[data-clip=video0] video').play()")
    page.wait("document.querySelector('[data-clip=video0] video').currentTime > 0")
    page.choose("group", "frame order")
    assert page.run("return document.querySelector('[data-clip=video0] video').paused")


def test_a_clip_plays_by_keyboard(page):
    page.run("document.querySelector('video').focus()")
    page.press(SPACE)
    page.wait("document.querySelector('video').currentTime > 0")


def test_filters_work_by_keyboard(page):
    page.run("document.getElementById('winner').focus()")
    page.press(DOWN, DOWN)
    page.wait("document.getElementById('shown').textContent.startsWith('2 of 6')")
    page.press(TAB, TAB, TAB, "d", "o", "g", ENTER)
    page.wait("document.getElementById('shown').textContent.startsWith('1 of 6')")
    assert shown(page) == ["video3"]
    page.press(TAB, ENTER)
    page.wait("document.getElementById('shown').textContent === '6 clips'")


REACHABLE = 'a[href], button, select:not(:disabled), input, video, summary, [tabindex="0"]'


def test_tab_reaches_everything_in_order_and_the_focus_is_seen(page):
    reached = []
    for _ in range(200):
        page.press(TAB)
        found = page.run(
            "const e = document.activeElement; if (e === document.body) return null;"
            "const style = getComputedStyle(e);"
            "const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;"
            "return [[...document.querySelectorAll('*')].indexOf(e), seen]"
        )
        if found is None or (reached and found[0] == reached[0][0]):
            break
        reached.append(found)
    places = [place for place, _ in reached]
    wanted = page.run(
        "const all = [...document.querySelectorAll('*')];"
        f"return [...document.querySelectorAll({REACHABLE!r})].map(e => all.indexOf(e))"
    )
    assert all(seen for _, seen in reached)
    assert sorted(set(wanted) - set(places)) == []
    first_visits = list(dict.fromkeys(places))
    assert first_visits == sorted(first_visits)


def test_references_open_by_keyboard(page):
    page.run("document.querySelector('article > details summary').focus()")
    page.press(ENTER)
    assert page.run("return document.querySelector('article > details').open")
    assert page.run("return document.querySelector('.references').innerText").startswith("<b>a thing</b>")


def test_a_legend_entry_hides_its_lines(page):
    page.run("document.querySelector('.legend button').click()")
    hidden = page.run(
        "return [...document.querySelectorAll('.curve')].filter(c => getComputedStyle(c).display === 'none')"
        ".map(c => c.dataset.system)"
    )
    assert hidden == ["0", "0"]


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(page, width):
    page.width(width)
    page.wait(f"innerWidth === {width}")  # a wider page would make a phone zoom out
    assert page.run("return document.documentElement.scrollWidth") <= width
    if width < 400:
        assert page.run("const s = document.querySelector('.scroller'); return s.scrollWidth > s.clientWidth")


HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "שלום עולם \u202e abc",
    "👩‍👩‍👧 🎸 emoji",
    "half \ud83d of one",
    "long " * 2000,
    "x" * 10_000,
    "",
    '" onmouseover="window.hacked = 1" & &lt;',
    "{{ 7 * 7 }} ${1} `",
]


def test_captions_and_names_are_text_whatever_they_are(browser, make_run, monkeypatch, tmp_path):
    names = [f'clip "{index}" \'&<b>' + "y" * 80 for index in range(len(HOSTILE))]
    captions = dict(zip(names, HOSTILE, strict=True))
    clips = [CaptionedClip(name, tmp_path / "gone.mp4", (text, text), category=7) for name, text in captions.items()]
    monkeypatch.setattr(gallery, "read_split", lambda *args, **kwargs: clips)
    scores = [{name: {"cider": index / (1 + system)} for index, name in enumerate(names)} for system in range(2)]
    runs = [
        make_run(
            f"<b>{'z' * 60}-{system}",
            config=CONFIG,
            per_clip=of_clip,
            clips_expected=10,
            clips_scored=10,
        )
        for system, of_clip in enumerate(scores)
    ]
    for run in runs:  # half a surrogate pair is refused in a file
        found = run / "evaluation/msrvtt-test/predictions.json"
        found.write_text(
            json.dumps([{"image_id": name, "caption": text.replace("\ud83d", "?")} for name, text in captions.items()])
        )
    browser.open(compare(runs, out=tmp_path / "report", inspected_clips=0).report)
    browser.width(360)
    browser.wait("innerWidth === 360")
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.problems() == []
    assert browser.run("return window.hacked === undefined && document.scripts.length === 1")
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert set(browser.run("return [...document.querySelectorAll('article')].map(a => a.dataset.clip)")) == set(names)
    texts = browser.run("return [...document.querySelectorAll('.references li')].map(l => l.textContent)")
    assert set(texts) == {gallery.shown_text(text.replace("\ud83d", "?")) for text in HOSTILE}
    rtl = browser.run(
        "return [...document.querySelectorAll('.text')].filter(t => getComputedStyle(t).direction === 'rtl').length"
    )
    assert rtl == 2


@pytest.mark.slow
@pytest.mark.parametrize("cards", [100, 2990])
def test_a_report_of_a_whole_test_split_opens_in_five_seconds(browser, make_run, monkeypatch, tmp_path, cards):
    generator = np.random.default_rng(0)
    names = [f"video{index}" for index in range(2990)]
    references = tuple(f"a person is doing something number {index} in a room" for index in range(20))
    clips = [
        CaptionedClip(name, tmp_path / "gone.mp4", references, category=index % 20) for index, name in enumerate(names)
    ]
    monkeypatch.setattr(gallery, "read_split", lambda *args, **kwargs: clips)
    captions = dict.fromkeys(names, "a man is playing a guitar on a stage")
    sizes = {"clips_expected": 2990, "clips_scored": 2990, "config": CONFIG, "captions": captions}
    runs = [
        make_run(
            f"system_{system}",
            per_clip={name: {"cider": float(score)} for name, score in zip(names, generator.random(2990), strict=True)},
            **sizes,
        )
        for system in range(5)
    ]
    read_frames = moving if cards == 100 else gone
    report = compare(
        runs, out=tmp_path / "report", gallery_clips=cards, inspected_clips=0, read_frames=read_frames
    ).report
    assert report.stat().st_size < (10_000_000 if cards == 100 else 20_000_000)
    started = time.perf_counter()
    browser.open(report)
    browser.command("execute/async", script="requestAnimationFrame(() => requestAnimationFrame(arguments[0]))", args=[])
    assert time.perf_counter() - started < 5
    assert browser.run("return document.querySelectorAll('article').length") == cards
    best = browser.run("return [...document.querySelectorAll('.wins tbody tr')].map(r => r.cells[1].dataset.value)")
    assert sum(map(int, best)) == 2990
