"""Tasks of lmms-eval over captioning splits in local files, scored as `evlvideo evaluate` scores them.

The files in `tasks` name these functions. A task's JSON file names the dataset, the split and, unless it is rendered,
the root.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.splits import dataset_root, read_split
from evlvideo.metrics.names import TITLES
from evlvideo.metrics.scoring import score_captions

logger = logging.getLogger(__name__)

METRICS = ("bleu_4", "meteor", "rouge_l", "cider")


def read_documents(named: Any) -> Any:
    """Return a document for each clip of a split: `image_id`, `file` and `references`.

    Args:
        named: the table that the datasets library makes of a task's JSON file, of one row: `dataset`, `split` and, if
            wanted, `root` (from the working directory) and `check_counts`.

    Raises:
        UserError: the split cannot be read, or its files are missing.
    """
    row = named[0]
    root = dataset_root(row["dataset"], Path(row["root"]) if row.get("root") else None)
    clips = read_split(row["dataset"], row["split"], root, check_counts=row.get("check_counts", True))
    documents = [
        {"image_id": clip.clip_id, "file": str(clip.video.resolve()), "references": list(clip.captions)}
        for clip in clips
    ]
    return type(named).from_list(documents)


def files_of(document: Mapping[str, Any]) -> list[str]:
    """Return the one file of a document."""
    return [document["file"]]


def prompt_of(document: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, str]) -> str:
    """Return what models are asked, the same for each document."""
    return lmms_eval_specific_kwargs["prompt"]


def collect(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what each metric needs of a document; the metrics score all of them together."""
    captioned = {"image_id": document["image_id"], "caption": results[0], "references": document["references"]}
    return {TITLES[metric]: captioned for metric in METRICS}


def bleu_4(captioned: Sequence[Mapping[str, Any]]) -> float:
    """Return BLEU-4 of all captions, a fraction."""
    return _score("bleu_4", captioned)


def meteor(captioned: Sequence[Mapping[str, Any]]) -> float:
    """Return METEOR of all captions, a fraction; not a number where there is no Java."""
    return _score("meteor", captioned)


def rouge_l(captioned: Sequence[Mapping[str, Any]]) -> float:
    """Return ROUGE-L of all captions, a fraction."""
    return _score("rouge_l", captioned)


def cider(captioned: Sequence[Mapping[str, Any]]) -> float:
    """Return CIDEr of all captions, where 0.74 is what papers call 74."""
    return _score("cider", captioned)


def _score(metric: str, captioned: Sequence[Mapping[str, Any]]) -> float:
    predictions = {clip["image_id"]: clip["caption"] for clip in captioned}
    references = {clip["image_id"]: clip["references"] for clip in captioned}
    scores = score_captions(predictions, references, [metric])
    if reason := scores.skipped.get(metric):
        logger.warning("There is no %s: %s", TITLES[metric], reason)
    return scores.corpus.get(metric, float("nan"))
