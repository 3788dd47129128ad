"""The part of the page that shows questions and answers, in headless Chromium."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from answered_set import HALF, RIGHT, write_result, write_set
from browser import Browser, chromium, is_installed

from evlvideo.comparison.compare import compare

pytestmark = pytest.mark.skipif(not is_installed(), reason="chromium and chromedriver are not installed")

SLUG = "answers-vqav2-validate"
ODD = RIGHT | {1: "<img src=x onerror='window.hacked = 1'>", 3: "x" * 3_000}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three systems on six questions, each of two of three answer types."""
    root = write_set(tmp_path_factory.mktemp("answers") / "vqa")
    answers = {"right": RIGHT, "half": HALF, "odd-with-a-long-name_of-many-parts": ODD}
    results = [write_result(root, name, given) for name, given in answers.items()]
    return compare(results, out=root / "out", resamples=200).report


@pytest.fixture
def page(browser: Browser, report: Path) -> Browser:
    browser.open(report)
    return browser


def shown(page: Browser) -> list[str]:
    return page.run(
        "return [...document.querySelectorAll('article')].filter(a => a.offsetParent).map(a => a.dataset.clip).sort()"
    )


def count(page: Browser) -> str:
    return page.run("return document.querySelector('output').textContent")


def choose(page: Browser, control: str, value: str) -> None:
    page.choose(f"{SLUG}-{control}", value)


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(page: Browser, width: int) -> None:
    page.width(width)
    page.wait(f"innerWidth === {width}")
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.run("return document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('article *')].filter(e => e.getBoundingClientRect().right > innerWidth)"
    assert page.run(f"return {wide}.length") == 0


def test_it_asks_for_nothing_and_runs_no_text(page: Browser) -> None:
    page.run("document.querySelectorAll('article').forEach(a => a.scrollIntoView())")
    assert page.problems() == []
    assert page.run("return window.hacked === undefined && document.scripts.length === 1")
    assert page.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert [address for address in page.requests() if not address.startswith(("data:", "file:"))] == []


def test_it_filters_by_answer_type(page: Browser) -> None:
    choose(page, "group", "number")
    assert shown(page) == ["1", "4"]
    assert count(page) == "2 of 6 questions"


def test_it_filters_by_what_was_answered_right(page: Browser) -> None:
    choose(page, "verdict", "right")
    assert shown(page) == ["2"]
    choose(page, "judged", "1")
    assert shown(page) == ["1", "2"]
    choose(page, "verdict", "partly")
    assert shown(page) == ["3"]
    choose(page, "verdict", "wrong")
    assert shown(page) == ["4", "5", "6"]
    choose(page, "judged", "0")
    assert shown(page) == []
    assert page.run("return !document.querySelector('p.none').hidden")


def test_filters_add_up_and_are_reset(page: Browser) -> None:
    choose(page, "verdict", "wrong")
    choose(page, "judged", "1")
    choose(page, "group", "number")
    assert shown(page) == ["4"]
    page.run("document.querySelector('button[type=reset]').click()")
    page.wait("document.querySelector('output').textContent === '6 questions'")
    assert len(shown(page)) == 6


def test_it_finds_words_in_questions_answers_and_annotators(page: Browser) -> None:
    page.run(
        f"const c = document.getElementById('{SLUG}-words'); c.value = 'thing long';c.dispatchEvent(new Event('input'))"
    )
    page.wait("document.querySelector('output').textContent === '1 of 6 questions'")
    assert shown(page) == ["6"]


def test_what_differs_most_comes_first(page: Browser) -> None:
    choose(page, "order", "spread")
    first = page.run("return document.querySelector('article').dataset.clip")
    assert page.run(f"return document.querySelector('[data-clip=\"{first}\"]').dataset.spread") == "1.0"
