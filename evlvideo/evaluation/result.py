"""Makes the record of scores, the same for runs, other systems and human captions."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from evlvideo.metrics.scoring import Scores
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.records import EvaluationResult, References


def make_result(
    scores: Scores,
    *,
    name: str,
    dataset: str,
    split: str | None,
    references: References,
    clip_ids: Collection[str],
    deviations: Sequence[str] = (),
    subsets: Mapping[str, Collection[str]] | None = None,
    subset_frequencies: str = "split",
    **facts: Any,
) -> EvaluationResult:
    """Record scores, with the versions and the commit that computed them.

    Args:
        scores: scores of all clips, or of those that have a caption.
        name: what tables call the system.
        dataset: the dataset, or the file of the references.
        split: the split, if there is one.
        references: what the captions were scored against.
        clip_ids: all clips of the references, in order. Those without scores are recorded as missing.
        deviations: how the clips or captions differ in number from the published split.
        subsets: subset → its scored clips.
        subset_frequencies: how they were scored.
        facts: further fields of the result, such as where the captions came from.
    """
    return EvaluationResult(
        name=name,
        dataset=dataset,
        split=split,
        references=references,
        tokenizer=scores.tokenizer,
        scores=scores.corpus,
        per_clip=scores.per_clip,
        clips_scored=len(scores.per_clip),
        clips_expected=len(clip_ids),
        missing_clips=[clip_id for clip_id in clip_ids if clip_id not in scores.per_clip],
        deviations=list(deviations),
        remarks=scores.remarks,
        skipped=scores.skipped,
        evidence_scores=scores.subsets or None,
        evidence_clips={subset: len(members) for subset, members in (subsets or {}).items()} or None,
        subset_frequencies=subset_frequencies,
        versions=versions(),
        commit=git_commit(),
        **facts,
    )
