"""The page's part with results, and the same for programs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evlvideo.app.explain import CaptionView, Explanation, Outcome, TokenView
from evlvideo.app.result import to_heading, to_html, to_json, to_notice
from evlvideo.comparison.page.inspection import AttentionView, MergingView
from evlvideo.data.video.frames import VideoMetadata

EVIL = "<img src=x onerror=alert(1)>"


def metadata(frames: int) -> VideoMetadata:
    return VideoMetadata(frames, 12, 40, 30, "h264", 0, 2.0)


def explained(text: str = "a dog", frames: int = 24) -> Explanation:
    tokens = (TokenView(text, np.log(0.5), False), TokenView("\n", np.log(0.26), True))
    return Explanation(
        frames=np.zeros((2, 8, 8, 3), np.uint8),
        seconds=np.array([0.0, 1.25]),
        file=metadata(frames),
        captions=(CaptionView(text, tokens, (text,)),),
        pruning=None,
        merging=MergingView(17, 9, False, (), np.array([[[0, 1]], [[0, 0]]])),
        attention=AttentionView("merged", (0.75, 0.25), ((0.75, 0.25),), 0.5),
    )


def test_captions_come_with_their_probabilities_and_frames_with_their_times() -> None:
    html = to_html(Path("/uploads/clip.mp4"), [Outcome("run", explained())])
    for part in ("a dog", "Probability 13 %, 36 % a token", "50 %", ">end<", "1.25 s", "75 %", "17 → 9 tokens a frame"):
        assert part in html, part


def test_everything_from_outside_is_escaped() -> None:
    outcomes = [Outcome(EVIL, explained(EVIL)), Outcome("other", None, EVIL)]
    html = to_html(Path(f"/uploads/{EVIL}.mp4"), outcomes, question=EVIL)
    assert EVIL not in html and "<img src=x" not in html
    assert EVIL not in to_notice(EVIL) and EVIL not in to_heading("evlvideo", [EVIL])


def test_the_player_gets_an_address_without_quotes() -> None:
    html = to_html(Path('/uploads/a "b" ?#.mp4'), [Outcome("run", explained())])
    assert 'src="gradio_api/file=/uploads/a%20%22b%22%20%3F%23.mp4"' in html


def test_an_image_is_shown_once_and_without_a_time() -> None:
    html = to_html(Path("red.png"), [Outcome("run", explained(frames=1))])
    assert 'alt="Frame 1"' in html and 'alt="Frame 2"' not in html and "0.00 s" not in html
    assert "The uploaded image" in html and "<video" not in html


def test_what_is_wrong_with_the_file_is_said_once() -> None:
    broken = "notes.mp4 cannot be decoded."
    assert to_html(Path("notes.mp4"), [Outcome("a", None, broken), Outcome("b", None, broken)]).count(broken) == 1
    html = to_html(Path("clip.mp4"), [Outcome("a", None, broken), Outcome("b", explained())])
    assert broken in html and "a dog" in html


@pytest.mark.parametrize(
    "log_probability, shown", [(0.0, "100 %"), (-3.0, "5 %"), (-10.0, "0.0045 %"), (-40.0, "&lt; 0.0001 %")]
)
def test_a_small_probability_is_not_shown_as_none(log_probability: float, shown: str) -> None:
    caption = CaptionView("a", (TokenView("a", log_probability, False),), ())
    html = to_html(Path("a.mp4"), [Outcome("run", replace(explained(), captions=(caption,)))])
    assert f"Probability {shown}," in html


def test_programs_get_texts_tokens_and_times() -> None:
    record = to_json(
        Path("/uploads/clip.mp4"), [Outcome("run", explained()), Outcome("other", None, "It is too small.")]
    )
    assert record["file"] == "clip.mp4" and "question" not in record
    first, second = record["checkpoints"]
    assert first["captions"][0]["text"] == "a dog"
    assert first["captions"][0]["tokens"][1] == {"text": "\n", "probability": pytest.approx(0.26), "ends": True}
    assert (first["frame_seconds"], first["frame_attention"]) == ([0.0, 1.25], [0.75, 0.25])
    assert first["merged_token_of_patch"] == [[[0, 1]], [[0, 0]]]
    assert second == {"checkpoint": "other", "error": "It is too small."}
    assert to_json(Path("a.mp4"), [], question="what?")["question"] == "what?"
