"""Makes the human row: the first caption of each clip, scored against the others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from evlvideo.data.annotation.facts import deviations_of
from evlvideo.data.annotation.splits import dataset_root, read_split
from evlvideo.errors import UserError
from evlvideo.evaluation.result import make_result
from evlvideo.metrics.names import METRICS
from evlvideo.metrics.scoring import score_captions
from evlvideo.results.records import EvaluationResult, References, describe_references

HUMAN = "human"
"""Name of the row."""
SOURCE = "the first caption of each clip"
"""Origin of its captions, as results and tables name it."""


class HumanCaptions(NamedTuple):
    """Captions and references of the human row. One reference fewer than a system has costs it some points."""

    captions: dict[str, str]
    """Clip → its first caption."""
    references: dict[str, list[str]]
    """Clip → its other captions."""
    described: References
    """Record of `references`."""


def human_captions(captions: Mapping[str, Sequence[str]], source: str) -> HumanCaptions:
    """Separate the first caption of every clip from the others.

    Args:
        captions: clip → its captions, in the order of the annotation.
        source: what results call `captions`, such as `msrvtt:test`.

    Raises:
        UserError: a clip has fewer than two captions.
    """
    alone = [clip_id for clip_id, texts in captions.items() if len(texts) < 2]
    if alone:
        raise UserError(
            f"{len(alone)} of {len(captions)} clips of {source} have one caption, such as {alone[0]}; the human row "
            "needs at least two for each. Leave out --human, or choose another split."
        )
    references = {clip_id: list(texts[1:]) for clip_id, texts in captions.items()}
    return HumanCaptions(
        captions={clip_id: texts[0] for clip_id, texts in captions.items()},
        references=references,
        described=describe_references(f"{source} without {SOURCE}", references),
    )


def human_row(
    dataset: str,
    split: str = "test",
    root: Path | None = None,
    *,
    metrics: Sequence[str] = METRICS,
    tokenizer: str | None = None,
    check_counts: bool = True,
) -> EvaluationResult:
    """Score the first caption of every clip, by `sen_id` if there is one, against the other captions of the clip.

    Args:
        dataset: a key of :data:`evlvideo.data.annotation.facts.DATASETS`.
        split: one of its splits.
        root: directory of the dataset. Its media files may be missing. Rendered datasets need none.
        metrics: some of :data:`evlvideo.metrics.names.ALL_METRICS`.
        tokenizer: one of :data:`evlvideo.metrics.tokenizers.tokenize.TOKENIZERS`. Defaults to `ptb` if Java runs, else
            `python`.
        check_counts: whether there must be as many clips and captions as the published dataset has.

    Raises:
        UserError: the split cannot be read, or a clip has fewer than two captions.
    """
    clips = read_split(dataset, split, dataset_root(dataset, root), check_files=False, check_counts=check_counts)
    captions = {clip.clip_id: clip.captions for clip in clips}
    human = human_captions(captions, f"{dataset}:{split}")
    scores = score_captions(human.captions, human.references, metrics, tokenizer)
    return make_result(
        scores,
        name=HUMAN,
        dataset=dataset,
        split=split,
        references=human.described,
        clip_ids=human.captions,
        deviations=deviations_of(dataset, split, captions),
        decoding={"system": SOURCE},
    )
