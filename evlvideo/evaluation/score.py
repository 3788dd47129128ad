"""Scores a file of captions against a file of references, and formats a result as lines."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from evlvideo.errors import UserError, first_ten
from evlvideo.evaluation.result import make_result
from evlvideo.metrics.names import ALL_METRICS, METRICS, SUBSET_SCORES, TITLES, format_score
from evlvideo.metrics.scoring import score_captions
from evlvideo.results.prediction_files import read_predictions
from evlvideo.results.records import NOT_PUBLISHED, EvaluationResult, describe_references
from evlvideo.results.reference_files import load_references, part_of_msrvtt, splits_of


def score_files(
    predictions: Path,
    references: Path,
    name: str | None = None,
    metrics: Sequence[str] = METRICS,
    tokenizer: str | None = None,
    split: str | None = None,
) -> EvaluationResult:
    """Score the captions of any system.

    Args:
        predictions: a file that :func:`evlvideo.results.prediction_files.read_predictions` reads.
        references: a file that :func:`evlvideo.results.reference_files.load_references` reads.
        name: what tables call the system. Defaults to the stem of the file of predictions.
        metrics: some of :data:`evlvideo.metrics.names.ALL_METRICS`.
        tokenizer: one of :data:`evlvideo.metrics.tokenizers.tokenize.TOKENIZERS`. Defaults to `ptb` if Java runs, else
            `python`.
        split: the split of the references to score on. Defaults to all clips.

    Raises:
        UserError: a file cannot be read, or captions and references do not match.
    """
    captions = read_predictions(predictions)
    expected = load_references(references, split)
    if split is None and captions.keys() != expected.keys():
        _check_whole(captions, references, splits_of(references))
    scores = score_captions(captions, expected, metrics, tokenizer)
    return make_result(
        scores,
        name=name or predictions.stem,
        dataset=references.name,
        split=split,
        references=describe_references(str(references), expected),
        clip_ids=expected,
        deviations=part_of_msrvtt(expected),
    )


def _check_whole(captions: Mapping[str, str], references: Path, splits: Mapping[str, str]) -> None:
    """Raise if the references hold several splits and the captions do not cover all of them."""
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
    """Return a line for each metric, and one for the clips, references and tokenizer."""
    lines = []
    for metric in ALL_METRICS:
        if metric in result.scores or metric in result.skipped:
            reason = f"  ({result.skipped[metric]})" if metric in result.skipped else ""
            lines.append(f"{TITLES[metric]:<8}{format_score(result.scores.get(metric)):>6}{reason}")
    lines += _subset_lines(result)
    lines.append(
        f"{result.clips_scored} of {result.clips_expected} clips, {result.references.captions} references, "
        f"tokenizer {result.tokenizer}"
    )
    lines += [f"NOTE: {remark}" for remark in result.remarks]
    if result.deviations:
        lines.append(f"NOT THE PUBLISHED SPLIT: {'. '.join(result.deviations)}. {NOT_PUBLISHED}")
    if result.missing_clips:
        listed = first_ten(result.missing_clips)
        lines.append(f"PARTIAL: {len(result.missing_clips)} clips could not be decoded and are in no score: {listed}")
    return lines


def _subset_lines(result: EvaluationResult) -> list[str]:
    """Return a line for each subset, and one that says where CIDEr's document frequencies come from."""
    lines, shown = [], ("bleu_4", "meteor", "rouge_l", "cider", "spice")
    for subset, scores in (result.evidence_scores or {}).items():
        listed = ", ".join(f"{TITLES[name]} {format_score(scores[name])}" for name in shown if name in scores)
        lines.append(f"{subset.replace('_', ' ')} ({(result.evidence_clips or {}).get(subset, 0):,} clips): {listed}")
    return [*lines, f"  {SUBSET_SCORES[result.subset_frequencies]}"] if lines else []
