"""A question about an image or a video, with its answers."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a video, part of a video, or image. The file is described as in `CaptionedClip`."""

    question_id: str
    """Id in the annotation; whole numbers become strings, as ids of clips do."""
    clip_id: str
    """Id of the image or video; several questions share it."""
    text: str
    """The question as it stands in the file, neither cleaned nor put into a prompt."""
    video: Path
    """The file: a video, or an image, which is a video of one frame."""
    answers: tuple[str, ...] = ()
    """The answers of all annotators, in the order of the file; empty for a test set without answers."""
    answer_type: str | None = None
    """What the answer is: `yes/no`, `number`, `other` in VQA, `binary`, `open` in GQA, `closed`, `open` in PathVQA."""
    question_type: str | None = None
    """What is asked: VQA's known opening of the question, OK-VQA's category, GQA's structure, or the first word."""
    start_seconds: float | None = None
    """Start in the file. If None, the start of the file."""
    end_seconds: float | None = None
    """End in the file. If None, the end of the file."""
