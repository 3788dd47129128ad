"""A clip and its captions, as every reader gives it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CaptionedClip:
    """A video or image file, or a part of a video file, and what people wrote about it."""

    clip_id: str
    """Name of the clip in the annotation, such as `video7010`."""
    video: Path
    """Its file: a video, or an image, which is a video of one frame."""
    captions: tuple[str, ...]
    """All captions, in the order of the annotation; in MSR-VTT's of their `sen_id`."""
    category: int | None = None
    """MSR-VTT's topic number, from 0 to 19, or what the annotation has in its place."""
    evidence: str | None = None
    """What the captions can be told from, in the mini data set: `one_frame`, `several_frames` or `frame_order`."""
    start_seconds: float | None = None
    """Where in the file the clip begins; at its beginning where nothing is named."""
    end_seconds: float | None = None
    """Where in the file the clip ends; at its end where nothing is named. Files that were cut already name neither."""


def evidence_subsets(clips: Iterable[CaptionedClip]) -> dict[str, list[str]]:
    """Clips by what their captions can be told from, where the annotation says it."""
    subsets: dict[str, list[str]] = defaultdict(list)
    for clip in clips:
        if clip.evidence is not None:
            subsets[clip.evidence].append(clip.clip_id)
    return dict(sorted(subsets.items()))
