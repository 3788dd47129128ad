"""How well people do: one caption of each clip against the others."""

from collections.abc import Sequence
from pathlib import Path

from evlvideo.errors import UserError
from evlvideo.metrics.names import METRICS
from evlvideo.metrics.scoring import score_captions
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.records import EvaluationResult, describe_references


def human_row(
    dataset: str,
    split: str = "test",
    root: Path | None = None,
    *,
    metrics: Sequence[str] = METRICS,
    tokenizer: str | None = None,
) -> EvaluationResult:
    """Score the first caption of every clip, by `sen_id` where there is one, against the other captions of the clip.

    The references are one fewer than a system has, which costs some points: the line is a little low.

    Args:
        dataset: a key of :data:`evlvideo.data.annotation.facts.DATASETS`.
        split: one of its splits.
        root: directory of the data set; the media files need not be there. `mini` needs none.
        metrics: which of :data:`evlvideo.metrics.names.ALL_METRICS`.
        tokenizer: `ptb` or `python`; `ptb` where Java runs, else `python`, where nothing is given.

    Raises:
        UserError: the split cannot be read, or a clip has fewer than two captions.
    """
    from evlvideo.data.annotation.facts import facts_of
    from evlvideo.data.annotation.splits import dataset_root, read_split

    facts_of(dataset)
    if root is None and dataset != "mini":
        raise UserError(f"The data set {dataset!r} has no root; name the directory of its annotation with --root.")
    clips = read_split(dataset, split, dataset_root(dataset, root), check_files=False)
    alone = [clip.clip_id for clip in clips if len(clip.captions) < 2]
    if alone:
        raise UserError(
            f"{len(alone)} of {len(clips)} clips of {dataset}:{split} have one caption, such as {alone[0]}; the human "
            "line needs two or more for each."
        )
    references = {clip.clip_id: list(clip.captions[1:]) for clip in clips}
    scores = score_captions({clip.clip_id: clip.captions[0] for clip in clips}, references, metrics, tokenizer)
    return EvaluationResult(
        name="human",
        dataset=dataset,
        split=split,
        references=describe_references(f"{dataset}:{split} without the first caption of each clip", references),
        tokenizer=scores.tokenizer,
        scores=scores.corpus,
        per_clip=scores.per_clip,
        clips_scored=len(scores.per_clip),
        clips_expected=len(clips),
        skipped=scores.skipped,
        decoding={"system": "the first caption of each clip"},
        versions=versions(),
        commit=git_commit(),
    )
