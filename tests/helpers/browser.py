"""A headless Chromium, driven through chromedriver's own protocol; no further package is needed."""

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
ENTER, TAB, SPACE, DOWN = "\ue007", "\ue004", " ", "\ue015"


def is_installed() -> bool:
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


class Browser:
    """One tab of one browser."""

    def __init__(self, server: str, profile: Path) -> None:
        self.server = server
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        logs = {"browser": "ALL", "performance": "ALL"}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs}
        self.session = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def command(self, path: str, **body: Any) -> Any:
        return self._send("POST", f"/session/{self.session}/{path}", body)

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self.command("goog/cdp/execute", cmd=command, params=parameters)

    def open(self, page: Path | str) -> None:
        """Open a file, or an address, as if nothing had been open before."""
        self.devtools("Emulation.clearDeviceMetricsOverride")
        self.devtools("Emulation.setEmulatedMedia", features=[])
        self.command("url", url="about:blank")
        self.problems(), self.requests()
        self.command("url", url=page if isinstance(page, str) else page.as_uri())

    def run(self, script: str) -> Any:
        return self.command("execute/sync", script=script, args=[])

    def wait(self, condition: str, seconds: float = 10) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(f"return {condition}")):
            assert time.monotonic() < end, f"{condition} did not come true within {seconds:g} s"
            time.sleep(0.05)
        return value

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.command("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def choose(self, control: str, value: str) -> None:
        """Set a control of the page, by its id, as a user would."""
        event = "input" if control == "words" else "change"
        self.run(
            f"const c = document.getElementById({control!r}); c.value = {json.dumps(value)};"
            f"c.dispatchEvent(new Event({event!r}))"
        )

    def upload(self, file: Path) -> None:
        """Choose a file in the page's first field for one."""
        (found,) = self.command("element", using="css selector", value="input[type=file]").values()
        self.command(f"element/{found}/value", text=str(file))

    def width(self, pixels: int) -> None:
        """Be a phone of this width."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=pixels, height=800, deviceScaleFactor=1, mobile=True)

    def problems(self) -> list[str]:
        """What was written to the console since the last call."""
        return [entry["message"] for entry in self.command("se/log", type="browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.command("se/log", type="performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def close(self) -> None:
        self._send("DELETE", f"/session/{self.session}")


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start a browser with an empty profile, and end it."""
    with subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = next(found[1] for line in server.stdout if (found := re.search(r"on port (\d+)\.", line)))
            browser = Browser(f"http://127.0.0.1:{port}", profile)
            try:
                yield browser
            finally:
                browser.close()
        finally:
            server.terminate()
