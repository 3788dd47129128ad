"""The page in headless Chromium, driven through chromedriver's own protocol."""

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evlvideo.comparison import gallery
from evlvideo.comparison.compare import compare
from evlvideo.data.annotations import CaptionedClip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")), reason="Chromium is missing"),
]

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
ENTER = "\ue007"


class Browser:
    """One page in one browser."""

    def __init__(self, server: str, profile: Path) -> None:
        self.server = server
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self.session = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def command(self, path: str, **body: Any) -> Any:
        return self._send("POST", f"/session/{self.session}/{path}", body)

    def run(self, script: str) -> Any:
        return self.command("execute/sync", script=script, args=[])

    def phone_width(self) -> None:
        metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        self.command("goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=metrics)

    def problems(self) -> list[str]:
        return [entry["message"] for entry in self.command("se/log", type="browser")]

    def close(self) -> None:
        self._send("DELETE", f"/session/{self.session}")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = next(found[1] for line in server.stdout if (found := re.search(r"on port (\d+)\.", line)))
            browser = Browser(f"http://127.0.0.1:{port}", tmp_path / "profile")
            yield browser
            browser.close()
        finally:
            server.terminate()


@pytest.fixture
def page(browser: Browser, make_run, monkeypatch, tmp_path: Path) -> Browser:
    """Open the report of three systems and six clips of two kinds."""
    evidence = ("one_frame", "frame_order")
    clips = [
        CaptionedClip(f"video{index}", tmp_path / f"video{index}.mp4", ("<b>a ball</b>",), evidence=evidence[index % 2])
        for index in range(6)
    ]
    monkeypatch.setattr(gallery, "read_split", lambda *args, **kwargs: clips)
    log = [{"step": step, "loss": 1 / step, "validation_cider": step / 10} for step in range(1, 9)]
    runs = [
        make_run(name, scores={"cider": cider}, log=log, config="data: {dataset: msrvtt, root: nowhere}\n", **fields)
        for name, cider, fields in [("mean", 0.5, {}), ("concat", 0.7, {"per_clip": {}}), ("<i>", 0.3, {})]
    ]
    frames = [np.full((48, 64, 3), level, np.uint8) for level in (0, 80, 160, 240)]
    report = compare(runs, out=tmp_path / "report", frames_for=lambda clip: frames).report
    browser.command("url", url=report.as_uri())
    return browser


def systems(page: Browser) -> list[str]:
    return page.run("return [...document.querySelectorAll('.scores tbody .name')].map(e => e.textContent)")


def test_the_page_has_nothing_to_complain_about(page):
    assert page.problems() == []
    assert page.run("return [...document.images].every(i => i.complete && i.naturalWidth === 64)")
    assert page.run("return getComputedStyle(document.querySelector('.s0')).getPropertyValue('--c')").startswith("#")


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
    press = [{"type": "keyDown", "value": ENTER}, {"type": "keyUp", "value": ENTER}]
    page.command("actions", actions=[{"type": "key", "id": "keyboard", "actions": press}])
    assert systems(page) == ["<i>", "concat", "mean"]
    assert page.run("return document.querySelector('.scores th[aria-sort]').getAttribute('aria-sort')") == "ascending"


def test_it_filters_clips(page):
    page.run(
        "const group = document.getElementById('group'); group.value = 'frame order';"
        "group.dispatchEvent(new Event('change'))"
    )
    shown = page.run(
        "return [...document.querySelectorAll('article')].filter(a => a.offsetParent).map(a => a.id || "
        "a.dataset.clip).sort()"
    )
    assert shown == ["video1", "video3", "video5"]
    assert page.run("return document.getElementById('shown').textContent") == "3 of 6 clips"


def test_a_legend_entry_hides_its_lines(page):
    page.run("document.querySelector('.legend button').click()")
    hidden = page.run(
        "return [...document.querySelectorAll('.curve')].filter(c => getComputedStyle(c).display === 'none')"
        ".map(c => c.dataset.system)"
    )
    assert hidden == ["0", "0"]


def test_nothing_is_wider_than_a_phone(page):
    page.phone_width()
    assert page.run("return document.documentElement.scrollWidth") <= 390
    assert page.run("const s = document.querySelector('.scroller'); return s.scrollWidth > s.clientWidth")
