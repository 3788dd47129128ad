"""Writes what checkpoints made of a file as HTML for people and as JSON for programs."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from evlvideo.app.explain import Explanation, Outcome
from evlvideo.comparison.page.clip_media import PageImage, encode_jpeg
from evlvideo.data.video.backends.image import IMAGE_SUFFIXES

_FRAME_SIDE = 224
"""Longer side in pixels of a frame on the page."""


def to_html(file: Path, outcomes: list[Outcome], *, question: str = "") -> str:
    """Write a part of a page. Names, captions and messages are escaped, and images are embedded.

    Args:
        file: what was uploaded; the page plays it from the server's own folder.
        outcomes: one for each checkpoint.
        question: what was asked. Empty for captions.
    """
    problems = {outcome.problem for outcome in outcomes}
    return _template("result.html").render(
        name=file.name,
        address=f"gradio_api/file={quote(str(file))}",
        is_image=file.suffix.lower() in IMAGE_SUFFIXES,
        # What is wrong with the file is wrong for all.
        problem=next(iter(problems)) if len(problems) == 1 else "",
        outcomes=outcomes,
        question=question,
    )


def to_heading(title: str, names: Sequence[str]) -> str:
    """Write the top of the page, with the names of the checkpoints."""
    return _template("heading.html").render(title=title, names=names)


def to_notice(text: str) -> str:
    """Write a sentence in the place of a result."""
    return _template("notice.html").render(text=text)


def to_json(file: Path, outcomes: list[Outcome], *, question: str = "") -> dict[str, Any]:
    """Write what programs read: texts, probabilities and times, without images."""
    asked = {"question": question} if question else {}
    return {"file": file.name, **asked, "checkpoints": [_record(outcome) for outcome in outcomes]}


def _record(outcome: Outcome) -> Mapping[str, Any]:
    found = outcome.found
    if found is None:
        return {"checkpoint": outcome.name, "error": outcome.problem}
    return {
        "checkpoint": outcome.name,
        "captions": [
            {
                "text": caption.text,
                "log_probability": caption.log_probability,
                "tokens": [
                    {"text": token.text, "probability": token.probability, "ends": token.ends}
                    for token in caption.tokens
                ],
            }
            for caption in found.captions
        ],
        "frame_seconds": found.seconds.tolist(),
        "frame_attention": None if found.attention is None else list(found.attention.shares),
        "merged_token_of_patch": None if found.merging is None else _listed(found.merging.groups),
    }


def _listed(groups: np.ndarray | None) -> Any:
    return None if groups is None else groups.tolist()


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=FunctionLoader(lambda name: resources.files(__package__).joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "images": _images}
    return environment.get_template(name)


def _images(found: Explanation) -> list[tuple[PageImage, float]]:
    """Encode frames, with their times in seconds; an image once."""
    shown = found.frames[: 1 if found.file.frames == 1 else None]
    seconds = found.seconds[: len(shown)].tolist()
    return [(encode_jpeg(frame, _FRAME_SIDE), time) for frame, time in zip(shown, seconds, strict=True)]


def _percent(share: float) -> str:
    """Write a share in percent, with two digits or whole, and without a zero for what is merely small."""
    percent = 100 * share
    if percent >= 10:
        return f"{percent:.0f} %"
    return f"{percent:.2g} %" if percent >= 1e-4 else "< 0.0001 %"
