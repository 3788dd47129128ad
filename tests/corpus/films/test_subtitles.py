"""Subtitles, read back by FFmpeg's own parsers, and by Chromium."""

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import av
import pytest
from browser import chromium, is_installed
from hypothesis import given
from hypothesis import strategies as st

from evlvideo.corpus.films.joining import Cue
from evlvideo.corpus.films.subtitles import LINE_WIDTH, SUBTITLES, to_srt, to_vtt

Write = Callable[[Iterable[Cue]], str]
EACH = pytest.mark.parametrize("suffix", SUBTITLES)
FAMILY = "👨‍👩‍👧‍👦"
ODD = [
    Cue(0, 1.5, "a <b>bold</b> & brave --> man, 1 < 2"),
    Cue(1.5, 2, "one\n\ntwo\r\n3\n00:00:01.000 --> 00:00:02.000\tend\0"),
    Cue(2, 3.0004, f"رجل يركب دراجة {FAMILY}"),
    Cue(3.0004, 360_001.25, "一个男人在骑自行车" * 6),
    Cue(360_001.25, 360_002, "NOTE this, STYLE that {\\an8}"),
]


def read(text: str, suffix: str, folder: Path) -> list[tuple[int, int, str]]:
    """Milliseconds and the text of each cue, as FFmpeg reads them."""
    path = folder / f"film.{suffix}"
    path.write_text(text, encoding="utf-8", newline="")
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(file.streams.subtitles[0]) if packet.size]
    return [(packet.pts, packet.pts + packet.duration, bytes(packet).decode()) for packet in packets]


def plain(text: str) -> str:
    for escaped, character in {"&lt;": "<", "&gt;": ">", "&amp;": "&", "\u2060": ""}.items():
        text = text.replace(escaped, character)
    return text


@EACH
def test_ffmpeg_reads_times_and_texts(suffix: str, tmp_path: Path) -> None:
    cues = [Cue(0, 9.5, "a dog runs"), Cue(9.5, 61.25, "a cat sleeps"), Cue(3_700, 3_710.04, "the end")]
    assert read(SUBTITLES[suffix](cues), suffix, tmp_path) == [
        (0, 9_500, "a dog runs"),
        (9_500, 61_250, "a cat sleeps"),
        (3_700_000, 3_710_040, "the end"),
    ]


@EACH
def test_no_text_breaks_its_file(suffix: str, tmp_path: Path) -> None:
    found = read(SUBTITLES[suffix](ODD), suffix, tmp_path)
    times = [(0, 1_500), (1_500, 2_000), (2_000, 3_000), (3_000, 360_001_250), (360_001_250, 360_002_000)]
    assert [cue[:2] for cue in found] == times
    texts = [re.sub(r"\s+|→", "", plain(cue[2])).replace("-->", "") for cue in found]
    assert texts == [re.sub(r"[\s\0]+|-->", "", cue.text) for cue in ODD]


def test_srt_shows_tags_as_text() -> None:
    assert "<\u2060b>bold<\u2060/b> & brave → man, 1 < 2" in to_srt(ODD)


def test_vtt_escapes_what_would_be_markup() -> None:
    assert "a &lt;b&gt;bold&lt;/b&gt; &amp; brave --&gt; man" in to_vtt(ODD)


@pytest.mark.parametrize(("write", "sign"), [(to_srt, ","), (to_vtt, ".")])
def test_hours_go_on_beyond_two_digits(write: Write, sign: str) -> None:
    assert f"100:00:01{sign}250 --> 100:00:02{sign}000" in write(ODD)


def test_a_file_without_cues_is_valid() -> None:
    assert to_vtt([]) == "WEBVTT\n\n"
    assert to_srt([]) == ""


def test_files_have_the_form_that_their_standards_show() -> None:
    cues = [Cue(0, 1, "a dog"), Cue(1, 2.5, "a cat")]
    assert (
        to_vtt(cues) == "WEBVTT\n\n1\n00:00:00.000 --> 00:00:01.000\na dog\n\n2\n00:00:01.000 --> 00:00:02.500\na cat\n"
    )
    assert to_srt(cues) == "1\n00:00:00,000 --> 00:00:01,000\na dog\n\n2\n00:00:01,000 --> 00:00:02,500\na cat\n"


@EACH
def test_long_captions_are_broken_between_words(suffix: str) -> None:
    caption = "a man in a red shirt rides a brown horse along a wide river while people on the bridge watch"
    lines = SUBTITLES[suffix]([Cue(0, 9, caption)]).strip().split("\n")
    lines = lines[next(place for place, line in enumerate(lines) if "-->" in line) + 1 :]
    assert " ".join(lines) == caption
    assert len(lines) == 3
    assert max(map(len, lines)) <= LINE_WIDTH


def test_chinese_takes_two_columns_a_character_and_an_emoji_stays_whole() -> None:
    lines = to_srt(ODD[2:4]).split("\n")
    assert max(map(len, lines[6:9])) == LINE_WIDTH // 2
    assert FAMILY in lines[2]
    broken = to_srt([Cue(0, 1, FAMILY * 30)]).split("\n")[2:-1]
    assert len(broken) > 1 and all(line.count(FAMILY) * len(FAMILY) == len(line) for line in broken)


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 0.003), st.just("a dog"))))
def test_rounded_cues_neither_overlap_nor_last_no_time(given: list[tuple[float, float, str]]) -> None:
    text = to_srt([Cue(start, start + length, words) for start, length, words in sorted(given)])
    times = [tuple(map(milliseconds, line.split(" --> "))) for line in text.split("\n") if "-->" in line]
    assert all(start < end for start, end in times)
    assert all(before[1] <= after[0] for before, after in pairwise(times))


def milliseconds(clock: str) -> int:
    hours, minutes, seconds = clock.replace(",", "").split(":")
    return int(hours) * 3_600_000 + int(minutes) * 60_000 + int(seconds)


@pytest.mark.skipif(not is_installed(), reason="chromium and chromedriver are not installed")
def test_chromium_reads_all_cues_and_shows_texts_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        "<!doctype html><meta charset=utf-8><video><track default src='data:text/vtt;charset=utf-8,"
        + "".join(f"%{byte:02X}" for byte in to_vtt(ODD).encode())
        + "'></video>"
    )
    with chromium(tmp_path / "profile") as browser:
        browser.open(tmp_path / "page.html")
        browser.run("document.querySelector('track').track.mode = 'showing'")
        browser.wait("document.querySelector('track').readyState === 2")
        cues = "[...document.querySelector('track').track.cues]"
        found = browser.run(f"return {cues}.map(c => [c.startTime, c.endTime, c.getCueAsHTML().textContent])")
    assert [tuple(cue[:2]) for cue in found] == [(0, 1.5), (1.5, 2), (2, 3), (3, 360_001.25), (360_001.25, 360_002)]
    assert [re.sub(r"\s", "", cue[2]) for cue in found] == [re.sub(r"[\s\0]", "", cue.text) for cue in ODD]
