"""Scores the captions of a split and writes the result, for our own runs and for other systems."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evlvideo.assembly.clips import references_of
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip, evidence_subsets
from evlvideo.data.annotation.facts import deviations_of, facts_of
from evlvideo.errors import UserError
from evlvideo.evaluation.result import make_result
from evlvideo.inference.captioning import decoding_facts
from evlvideo.metrics.meteor import MeteorProcess
from evlvideo.metrics.names import METRICS
from evlvideo.metrics.scoring import score_captions
from evlvideo.results.prediction_files import write_predictions
from evlvideo.results.records import EvaluationResult, describe_references
from evlvideo.results.run_directory import PREDICTIONS_NAME, RESULT_NAME


def score_split(
    captions: Mapping[str, str],
    clips: Sequence[CaptionedClip],
    config: RunConfig,
    split: str,
    *,
    name: str,
    metrics: Sequence[str] = METRICS,
    meteor: MeteorProcess | None = None,
    subset_frequencies: str | None = None,
    **facts: Any,
) -> EvaluationResult:
    """Score the captions of a split.

    Args:
        captions: clip id → caption. The result names the clips without one, and its scores are those of the others.
        clips: all clips of the split.
        config: names the dataset, the tokenizer, and how the captions were decoded.
        split: name of the split.
        name: what tables call the system.
        metrics: some of :data:`evlvideo.metrics.names.ALL_METRICS`.
        meteor: a running METEOR, left open. If None, one is started and ended.
        subset_frequencies: one of :data:`evlvideo.metrics.names.SUBSET_SCORES`. Defaults to the dataset's.
        facts: further fields of the result, such as where the captions came from.
    """
    references = references_of(clips)
    captioned = {clip_id: texts for clip_id, texts in references.items() if clip_id in captions}
    subsets = evidence_subsets([clip for clip in clips if clip.clip_id in captions])
    subset_frequencies = subset_frequencies or facts_of(config.data.dataset).subset_frequencies
    scores = score_captions(
        captions,
        captioned,
        metrics,
        config.data.scoring_tokenizer,
        subsets=subsets,
        meteor=meteor,
        subset_frequencies=subset_frequencies,
    )
    return make_result(
        scores,
        name=name,
        dataset=config.data.dataset,
        split=split,
        references=describe_references(f"{config.data.dataset}:{split}", references),
        clip_ids=references,
        deviations=deviations_of(config.data.dataset, split, references),
        subsets=subsets,
        subset_frequencies=subset_frequencies,
        seed=config.seed,
        **{"decoding": decoding_facts(config), **facts},
    )


def score_and_write(
    directory: Path, captions: Mapping[str, str], score: Callable[[], EvaluationResult]
) -> EvaluationResult:
    """Write the predictions of a split into its directory, score them, and write the result beside them.

    Captions take hours and scores minutes: whatever fails from here on, the captions are kept.

    Args:
        directory: directory of the evaluation. A result that it holds is of other captions, and is removed.
        captions: clip id → caption.
        score: scores them.

    Raises:
        UserError: something cannot be written, or the captions cannot be scored; the message says where they are.
    """
    path = _write_captions(directory, captions)
    kept = f"The captions are in {path}; score them with `evlvideo score --predictions {path} --references …`."
    try:
        result = score()
        result.save(directory / RESULT_NAME)
    except UserError as error:
        raise UserError(f"{error} {kept}") from error
    except Exception as error:
        error.add_note(kept)
        raise
    return result


def _write_captions(directory: Path, captions: Mapping[str, str]) -> Path:
    path = directory / PREDICTIONS_NAME
    try:
        (directory / RESULT_NAME).unlink(missing_ok=True)
        write_predictions(path, captions)
    except (UserError, OSError) as error:
        kept = Path(tempfile.mkdtemp(prefix="evlvideo-captions-")) / PREDICTIONS_NAME
        write_predictions(kept, captions)
        raise UserError(f"{path} cannot be written ({error}). The captions are in {kept}.") from error
    return path
