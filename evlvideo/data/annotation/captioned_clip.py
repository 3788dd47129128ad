"""A clip of a dataset with its captions."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CaptionedClip:
    """A video, part of a video, or image, and its captions."""

    clip_id: str
    """Id in the annotation, such as `video7010`."""
    video: Path
    """The file: a video, or an image, which is a video of one frame."""
    captions: tuple[str, ...]
    """All captions, in the order of the annotation; for MSR-VTT by `sen_id`."""
    category: int | None = None
    """MSR-VTT's topic number, from 0 to 19, or the annotation's own number."""
    evidence: str | None = None
    """The subset that it is scored in beside the whole split: in the mini dataset, what it takes to see what the
    captions say (`one_frame`, `several_frames`, `frame_order`); in NoCaps, its domain (`in-domain`, …)."""
    start_seconds: float | None = None
    """Start in the file. If None, the start of the file."""
    end_seconds: float | None = None
    """End in the file. If None, the end of the file."""
    question: str | None = None
    """A question about it, as it stands in its file, whose answers the captions are. None for captions."""
    generated_by: str | None = None
    """The model that made the captions, with a digest of its weights. None for people."""


def evidence_subsets(clips: Iterable[CaptionedClip]) -> dict[str, list[str]]:
    """Group clip ids by evidence, without clips that have none."""
    subsets: dict[str, list[str]] = defaultdict(list)
    for clip in clips:
        if clip.evidence is not None:
            subsets[clip.evidence].append(clip.clip_id)
    return dict(sorted(subsets.items()))
