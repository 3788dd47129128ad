"""From the captions of a split to its result: one way for our own runs and for other systems."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evlvideo.assembly.clips import references_of
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip, evidence_subsets
from evlvideo.metrics.meteor import MeteorProcess
from evlvideo.metrics.names import METRICS
from evlvideo.metrics.scoring import score_captions
from evlvideo.results.prediction_files import write_predictions
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.records import EvaluationResult, describe_references
from evlvideo.results.run_directory import PREDICTIONS_NAME, RESULT_NAME


def score_split(
    captions: Mapping[str, str],
    clips: Sequence[CaptionedClip],
    config: RunConfig,
    split: str,
    *,
    metrics: Sequence[str] = METRICS,
    meteor: MeteorProcess,
    **facts: Any,
) -> EvaluationResult:
    """Score the captions of a split.

    Args:
        captions: clip id → caption. Clips that have none are named in the result, and the scores are those of the
            others.
        clips: all clips of the split.
        config: says which data set it is, and how the captions were decoded.
        split: its name.
        metrics: which of :data:`evlvideo.metrics.names.ALL_METRICS`.
        meteor: a running one.
        facts: further fields of the result: its `name`, and where the captions came from.
    """
    references = references_of(clips)
    captioned = {clip_id: texts for clip_id, texts in references.items() if clip_id in captions}
    subsets = evidence_subsets([clip for clip in clips if clip.clip_id in captions])
    scores = score_captions(captions, captioned, metrics, subsets=subsets, meteor=meteor)
    values: dict[str, Any] = {
        "dataset": config.data.dataset,
        "split": split,
        "references": describe_references(f"{config.data.dataset}:{split}", references),
        "tokenizer": scores.tokenizer,
        "decoding": decoding_facts(config),
        "versions": versions(),
        "commit": git_commit(),
        "seed": config.seed,
        "scores": scores.corpus,
        "per_clip": scores.per_clip,
        "clips_scored": len(scores.per_clip),
        "clips_expected": len(clips),
        "missing_clips": [clip.clip_id for clip in clips if clip.clip_id not in captions],
        "skipped": scores.skipped,
        "evidence_scores": scores.subsets or None,
        "evidence_clips": {name: len(members) for name, members in subsets.items()} or None,
    }
    return EvaluationResult(**(values | facts))


def decoding_facts(config: RunConfig) -> dict[str, Any]:
    """What captions depend on beside the model. The batch size is not among it."""
    of_search, of_drawing = {"num_beams", "length_penalty"}, {"do_sample", "top_p", "temperature"}
    without = {"batch_size"} | (of_search if config.generation.do_sample else of_drawing)
    generation = {name: value for name, value in asdict(config.generation).items() if name not in without}
    return {**generation, "num_frames": config.data.num_frames, "sampling": config.data.eval_sampling}


def write_evaluation(directory: Path, captions: Mapping[str, str], result: EvaluationResult) -> None:
    """Write the predictions and the result of a split into its directory."""
    write_predictions(directory / PREDICTIONS_NAME, captions)
    result.save(directory / RESULT_NAME)
