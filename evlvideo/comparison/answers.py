"""Puts answers to questions into tables and galleries, a pair for each set of questions."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from evlvideo.comparison.page.clip_media import ByteBudget, FrameReader
from evlvideo.comparison.page.questions import MEDIA_BYTES, AnswersPart, build_question_gallery
from evlvideo.comparison.page.report import split_title
from evlvideo.comparison.rows.answers import AnsweredSet
from evlvideo.comparison.rows.quoted import quoted_rows
from evlvideo.comparison.tables.answers import answer_table
from evlvideo.comparison.tables.significance import Resampling
from evlvideo.comparison.tables.table import Table
from evlvideo.metrics.answers.measures import NAMES


def build_answers(
    sets: Sequence[AnsweredSet],
    names: Sequence[str],
    plan: Resampling,
    *,
    quoted: bool,
    shown: int,
    read_frames: FrameReader,
) -> list[AnswersPart]:
    """Make the table and the gallery of each set of questions.

    Args:
        sets: the systems, by set.
        names: names of all that was given to compare; a remark names those without answers.
        plan: number of resamples and seed; each set has its own row to test against.
        quoted: whether to add published numbers.
        shown: questions in each gallery.
        read_frames: reads the frames of a clip, or an image.
    """
    parts = []
    for answered in sets:
        table = _table(answered, names, replace(plan, against=answered.against), quoted)
        # Each set has an equal share of the page.
        budget = ByteBudget(MEDIA_BYTES // len(sets))
        gallery = build_question_gallery(answered, shown, plan.seed, read_frames, budget)
        parts.append(AnswersPart(answered, table, gallery))
    return parts


def _table(answered: AnsweredSet, names: Sequence[str], plan: Resampling, quoted: bool) -> Table:
    result = answered.systems[0].result
    title = split_title(answered.dataset, answered.split)
    if result.deviations:
        title += f" (not the published one, {result.questions:,} questions)"
    quoted = quoted and not result.deviations
    published = quoted_rows(answered.dataset, answered.split) if quoted else []
    remarks = []
    if quoted and not published:
        remarks.append(f"There are no published numbers to quote for {answered.name}.")
    if silent := [name for name in names if name not in {system.name for system in answered.systems}]:
        remarks.append(f"Without answers: {', '.join(silent)}.")
    return answer_table(answered, title, plan, published, remarks)


def answers_record(answered: AnsweredSet, plan: Resampling) -> dict[str, Any]:
    """Return what the scores of a table depend on, for its JSON."""
    result = answered.systems[0].result
    return {
        "dataset": answered.dataset,
        "split": answered.split,
        "questions": result.questions,
        "references": asdict(result.references),
        "metrics": [name for name in NAMES if any(name in system.result.scores for system in answered.systems)],
        "answered_with": {
            system.name: {"prompt": system.result.prompt, "decoding": system.result.decoding}
            for system in answered.systems
        },
        "certainty": asdict(replace(plan, against=answered.against)),
    }


def answers_scored_on(answered: AnsweredSet) -> str:
    """Say what answers were scored on, for the caption of a table."""
    result = answered.systems[0].result
    return (
        f"Scored on {answered.name}, {result.questions:,} questions, with {result.references.captions:,} references "
        f"(digest {result.references.sha256[:12]})."
    )
