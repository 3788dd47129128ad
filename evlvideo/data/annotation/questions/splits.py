"""Read the questions of datasets by name and split, and check their counts and files."""

from collections.abc import Sequence
from pathlib import Path

from evlvideo.data.annotation.question import Question


def read_questions(
    dataset: str,
    split: str,
    root: Path,
    media_root: Path | None = None,
    *,
    check_counts: bool = True,
    check_files: bool = True,
) -> Sequence[Question]:
    """Read the questions of a split, in the order of the annotation.

    Args:
        dataset: `vqav2`, `okvqa`, `gqa`, `pathvqa`, `msrvtt_qa`, `msvd_qa` or `question_jsonl`.
        split: one of its splits; `default_split` of the dataset's facts is the one that papers report.
        root: directory of the dataset.
        media_root: directory of the images or videos. Defaults to the dataset's folder under `root`.
        check_counts: whether there must be as many questions and answers as published.
        check_files: whether every file must exist.

    Raises:
        UserError: the dataset or split is unknown, an annotation file is missing or malformed, or of another split than
            the questions, a count is wrong, or files are missing.
    """
    raise NotImplementedError
