"""Scoring of a file of captions against a file of references, and scores as people read them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evlvideo.errors import UserError
from evlvideo.metrics.names import ALL_METRICS, METRICS, TITLES, format_score
from evlvideo.metrics.scoring import score_captions
from evlvideo.results.prediction_files import read_predictions
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.records import EvaluationResult, describe_references

if TYPE_CHECKING:
    from rich.table import Table

_LISTED = 10


def score_files(
    predictions: Path,
    references: Path,
    name: str | None = None,
    metrics: Sequence[str] = METRICS,
    tokenizer: str | None = None,
    split: str | None = None,
) -> EvaluationResult:
    """Score anyone's captions.

    Args:
        predictions: a file that :func:`evlvideo.results.prediction_files.read_predictions` reads.
        references: a file that :func:`evlvideo.results.reference_files.load_references` reads.
        name: how tables call the system; the name of the predictions' file where nothing is given.
        metrics: which of :data:`evlvideo.metrics.names.ALL_METRICS`.
        tokenizer: `ptb` or `python`; `ptb` where Java runs, else `python`, where nothing is given.
        split: the split of the references' file to score on; all of its clips where nothing is named.

    Raises:
        UserError: a file cannot be read, or captions and references do not match.
    """
    from evlvideo.results.reference_files import load_references, splits_of

    captions = read_predictions(predictions)
    expected = load_references(references, split)
    if split is None and captions.keys() != expected.keys():
        _check_whole(captions, references, splits_of(references))
    scores = score_captions(captions, expected, metrics, tokenizer)
    return EvaluationResult(
        name=name or predictions.stem,
        dataset=references.name,
        split=split,
        references=describe_references(str(references), expected),
        tokenizer=scores.tokenizer,
        scores=scores.corpus,
        per_clip=scores.per_clip,
        clips_scored=len(scores.per_clip),
        clips_expected=len(expected),
        skipped=scores.skipped,
        versions=versions(),
        commit=git_commit(),
    )


def _check_whole(captions: Mapping[str, str], references: Path, splits: Mapping[str, str]) -> None:
    """Say which splits there are, where there are several and captions are not those of all of them."""
    sizes = Counter(splits.values())
    if len(sizes) < 2:
        return
    captioned = Counter(splits[clip_id] for clip_id in captions if clip_id in splits)
    listed = ", ".join(f"{split} ({captioned[split]} of {count} clips captioned)" for split, count in sizes.items())
    raise UserError(
        f"{references} holds several splits: {listed}; {len(captions) - captioned.total()} captions are of none. "
        "Name the split to score with --split."
    )


def score_lines(result: EvaluationResult) -> list[str]:
    """Return one line a metric, and one on what the scores were computed from."""
    lines = []
    for metric in ALL_METRICS:
        if metric in result.scores or metric in result.skipped:
            reason = f"  ({result.skipped[metric]})" if metric in result.skipped else ""
            lines.append(f"{TITLES[metric]:<8}{format_score(result.scores.get(metric)):>6}{reason}")
    lines.append(
        f"{result.clips_scored} of {result.clips_expected} clips, {result.references.captions} references, "
        f"tokenizer {result.tokenizer}"
    )
    if result.missing_clips:
        listed = ", ".join(result.missing_clips[:_LISTED]) + (", …" if len(result.missing_clips) > _LISTED else "")
        lines.append(f"PARTIAL: {len(result.missing_clips)} clips could not be decoded and are in no score: {listed}")
    return lines


def score_table(results: Sequence[EvaluationResult]) -> "Table":
    """Return one row a system, with a caption that says why a metric is missing."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("system", *(TITLES[metric] for metric in METRICS))
    for column in table.columns[1:]:
        column.justify = "right"
    for result in results:
        table.add_row(escape(result.name), *(format_score(result.scores.get(metric)) for metric in METRICS))
    reasons = {f"{TITLES[metric]}: {reason}" for result in results for metric, reason in result.skipped.items()}
    table.caption = escape("; ".join(sorted(reasons))) or None
    return table
