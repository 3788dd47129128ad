"""The page in headless Chromium, as people use it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium, is_installed

pytestmark = pytest.mark.skipif(not is_installed(), reason="chromium and chromedriver are not installed")

EVIL = "<b id=evil>${1+1}{{value}}&"
"""A name, as far as a file can have it."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as started:
        yield started


@pytest.fixture
def page(browser: Browser, served) -> Browser:
    browser.open(served.address)
    browser.wait("document.querySelector('#result .ev-notice')", 30)
    return browser


def press(page: Browser, label: str) -> None:
    page.run(f"[...document.querySelectorAll('button')].find(b => b.textContent.trim() == {label!r}).click()")


def caption(page: Browser, file: Path) -> None:
    page.upload(file)
    page.wait("document.querySelector('.file-preview')", 30)  # while it is uploaded, its name stands elsewhere
    press(page, "Caption")
    page.wait("document.querySelector('#result .ev')", 60)


def says(page: Browser) -> str:
    return page.run("return document.querySelector('#result').innerText")


def test_the_empty_page_says_what_to_do(page: Browser) -> None:
    assert "Choose a video or an image, and press Caption." in says(page)
    press(page, "Caption")
    page.wait("document.querySelector('#result').innerText.includes('Choose a video or an image first.')", 30)


def test_checkpoints_stand_side_by_side(page: Browser, toy) -> None:
    page.width(1280)
    caption(page, toy.clips("test")[0].video)
    names = page.run("return [...document.querySelectorAll('.ev-checkpoint h3')].map(h => h.innerText)")
    tops = page.run("return [...document.querySelectorAll('.ev-checkpoint')].map(c => c.getBoundingClientRect().top)")
    assert names == ["mean", "merged"] and tops[0] == tops[1]
    assert "Probability" in says(page) and "0.00 s" in says(page)
    images = "[...document.querySelectorAll('.ev-frames img')]"
    # Frames and their merged patches, of both.
    assert page.run(f"return {images}.length") == 2 * 2 * 3
    assert page.run(f"return {images}.every(i => i.complete && i.naturalWidth > 0)")


def test_the_uploaded_video_plays(page: Browser, toy) -> None:
    caption(page, toy.clips("test")[0].video)
    assert page.wait("document.querySelector('#result video').readyState >= 1", 30)


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(page: Browser, toy, width: int) -> None:
    page.width(width)
    caption(page, toy.clips("test")[0].video)
    assert page.run("return document.documentElement.scrollWidth - innerWidth") <= 0


def test_nothing_is_asked_of_other_machines(page: Browser, served, toy) -> None:
    page.requests()
    page.open(served.address)
    page.wait("document.querySelector('#result .ev-notice')", 30)
    caption(page, toy.clips("test")[0].video)
    addresses = page.requests()
    assert len(addresses) > 10
    assert [address for address in addresses if not address.startswith((served.address, "data:", "blob:"))] == []


def test_names_are_shown_as_they_are(page: Browser, toy, tmp_path: Path) -> None:
    """Neither as elements nor as templates, which Gradio fills in."""
    file = tmp_path / f"{EVIL}.mp4"
    file.write_bytes(toy.clips("test")[0].video.read_bytes())
    caption(page, file)
    assert page.run("return document.querySelector('#evil')") is None
    # Gradio leaves some characters out.
    assert page.run("return document.querySelector('#result h2').innerText") == "b id=evil1+1value&.mp4"


def test_what_is_asked_is_shown_as_it_is(page: Browser, toy) -> None:
    script = "const f = document.querySelectorAll('textarea, input[type=text]')[0]; f.value = %s;"
    page.run(script % json.dumps(EVIL) + "f.dispatchEvent(new Event('input', {bubbles: true}))")
    caption(page, toy.clips("test")[0].video)
    assert page.run("return document.querySelector('.ev-question').innerText") == EVIL
    assert page.run("return document.querySelector('#evil')") is None


def test_a_wrong_file_is_a_sentence(page: Browser, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("this is no video")
    caption(page, tmp_path / "notes.mp4")
    assert page.run("return document.querySelector('#result [role=alert]').innerText").startswith(
        "notes.mp4 cannot be decoded: "
    )
