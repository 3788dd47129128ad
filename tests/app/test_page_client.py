"""The page through Gradio's own client, as programs use it."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

import httpx
from gradio_client import Client, handle_file

from evlvideo.app.choices import Choices
from evlvideo.app.serve import check_address, start_page
from evlvideo.errors import UserError


@pytest.fixture(scope="module")
def client(served) -> Client:
    return Client(served.address, verbose=False)


@pytest.fixture
def video(toy) -> Path:
    return toy.clips("test")[0].video


def caption(client: Client, file: Path | None, **choices: Any) -> tuple[str, Any]:
    html, record = client.predict(None if file is None else handle_file(str(file)), **choices, api_name="/caption")
    return html, record


def texts(record: dict[str, Any]) -> list[list[str]]:
    return [[caption["text"] for caption in found["captions"]] for found in record["checkpoints"]]


def test_every_checkpoint_captions_as_it_does_without_the_page(client: Client, served, video: Path) -> None:
    html, record = caption(client, video, captions=2, num_beams=2)
    expected = [checkpoint.explain(video, Choices(captions=2, num_beams=2)) for checkpoint in served.checkpoints]
    assert [found["checkpoint"] for found in record["checkpoints"]] == ["mean", "merged"]
    assert texts(record) == [[found.text for found in explanation.captions] for explanation in expected]
    assert video.name in html and str(served.uploads) not in json.dumps(record)


def test_a_question_is_answered(client: Client, served, video: Path) -> None:
    _, record = caption(client, video, question="What moves?", chosen=["merged"], num_beams=1)
    expected = served.checkpoints[1].explain(video, Choices(question="What moves?", num_beams=1))
    assert record["question"] == "What moves?"
    assert texts(record) == [[found.text for found in expected.captions]]


def test_a_wrong_file_is_a_sentence_on_the_page(client: Client, served, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("this is no video")
    html, record = caption(client, tmp_path / "notes.mp4")
    assert html.count("notes.mp4 cannot be decoded: ") == 1 and 'role="alert"' in html
    assert all("cannot be decoded" in found["error"] for found in record["checkpoints"])
    assert str(served.uploads) not in json.dumps(record)


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"chosen": []}, "Choose at least one checkpoint."),
        ({"captions": 3, "num_beams": 2}, "3 captions need as many beams, but there are 2"),
        ({"prompt": "a" * 1001}, "The number of characters of the prompt is 1001"),
    ],
)
def test_a_wrong_choice_is_a_sentence_on_the_page(
    client: Client, video: Path, choices: dict[str, Any], message: str
) -> None:
    html, record = caption(client, video, **choices)
    assert message in html and record is None


def test_without_a_file_the_page_asks_for_one(client: Client) -> None:
    assert "Choose a video or an image first." in caption(client, None)[0]


def test_a_file_above_the_limit_is_refused(served) -> None:
    answer = httpx.post(f"{served.address}gradio_api/upload", files={"files": ("large.mp4", b"0" * 1_100_000)})
    assert (answer.status_code, answer.text) == (413, "File size exceeded maximum allowed size of 1048576 bytes.")
    assert not list(served.uploads.rglob("large.mp4"))


def ask_by_hand(address: str, path: str) -> str:
    """Ask for captions of a path on the server, which the client would upload first."""
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "", "", ["mean"], 1, 1, 0, False, 1.0, 1.0, 42]
    event = httpx.post(f"{address}gradio_api/call/caption", json={"data": data}).json()["event_id"]
    return httpx.get(f"{address}gradio_api/call/caption/{event}").text


def test_files_of_the_machine_are_out_of_reach(served, video: Path) -> None:
    assert ask_by_hand(served.address, str(video)).startswith("event: error")
    assert httpx.get(f"{served.address}gradio_api/file={video}").status_code == 403


def test_an_address_is_not_downloaded(served) -> None:
    answer = ask_by_hand(served.address, "https://example.com/clip.mp4")
    assert answer.startswith("event: error") and "Give a file, not an address." in answer


def test_several_people_at_once_get_their_own_captions(served, toy) -> None:
    videos = [clip.video for clip in toy.clips("test")[:3]]

    def ask(video: Path) -> list[list[str]]:
        return texts(caption(Client(served.address, verbose=False), video, num_beams=2)[1])

    alone = [ask(video) for video in videos]
    with ThreadPoolExecutor(len(videos)) as people:
        assert list(people.map(ask, videos)) == alone


def test_the_page_names_nothing_outside_that_it_would_load(served) -> None:
    html = httpx.get(served.address).text
    sources = re.findall(r"""<(?:script|link|img|iframe)[^>]*?(?:src|href)=["']([^"']+)""", html)
    assert sources and [source for source in sources if re.match(r"(https?:)?//", source)] == []
    style = httpx.get(f"{served.address}theme.css").text
    assert re.findall(r"""url\(["']?(?!["']?data:)|@import""", style) == []


def test_statistics_are_off(served) -> None:
    import gradio

    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert not gradio.analytics.analytics_enabled()


def test_an_address_of_ipv6_is_served_too(served) -> None:
    try:
        check_address("::1", 0)
    except UserError:
        pytest.skip("this machine has no IPv6")
    page = start_page(served.checkpoints, str(served.uploads), host="::1", port=None, upload_megabytes=1)
    try:
        assert page.local_url.startswith("http://[::1]:") and httpx.get(page.local_url).status_code == 200
    finally:
        page.close(verbose=False)
