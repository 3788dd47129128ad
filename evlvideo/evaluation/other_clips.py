"""Scores captions against the references of other clips: what a model would get that does not look at its clip.

A caption depends on its own clip alone. So the caption of a clip that is shown another clip's frames is that clip's
caption, and the captions of a plain evaluation are moved to other clips. No model runs for it.
"""

import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from evlvideo.assembly.clips import read_clips, references_of
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.errors import UserError
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.evaluation.model_facts import check_same_model
from evlvideo.evaluation.split_scores import score_and_write, score_split
from evlvideo.inference.captioning import decoding_facts
from evlvideo.metrics.names import METRICS, format_score
from evlvideo.metrics.references_digest import references_digest
from evlvideo.models.checkpoint import checkpoint_directory, weights_file
from evlvideo.processes import join_processes, on_main_process
from evlvideo.results.prediction_files import read_predictions
from evlvideo.results.records import EvaluationResult
from evlvideo.results.run_directory import PREDICTIONS_NAME, RESULT_NAME, evaluation_directory, run_config

_BLIND = 0.8
"""Captions that keep this share of their CIDEr on other clips hardly depend on the clip."""


def evaluate_other_clips(
    run: Path,
    *,
    split: str = "test",
    config: RunConfig | None = None,
    metrics: Sequence[str] = METRICS,
    console: Console | None = None,
) -> tuple[EvaluationResult, EvaluationResult]:
    """Score a run's captions of a split against the references of other clips.

    The captions are those of the plain evaluation. It is made first, unless there is one by the same checkpoint with
    the same references and decoding. Processes share it.

    Args:
        run: directory of a finished run.
        split: split of the run's dataset.
        config: data and decoding. Defaults to the run's own. Its seed chooses the other clips.
        metrics: some of :data:`evlvideo.metrics.names.ALL_METRICS`.
        console: where to draw a progress bar. If None, only lines are logged.

    Returns:
        the plain result, and that of the moved captions, which is also written beside it, to a directory that ends in
        `-other-clips`; in every process.

    Raises:
        UserError: as :func:`evlvideo.evaluation.evaluate.evaluate`; or most clips have the same references, or there is
            one clip alone.
    """
    join_processes()
    config = config or run_config(run)
    check_same_model(checkpoint_directory(str(run)), config)
    clips = read_clips(config.data, split)
    references = references_of(clips)
    other_clips(references, config.seed)  # before any work is done
    found = on_main_process(lambda: _plain_result(run, config, references, split))
    plain = found or evaluate(run, split=split, config=config, metrics=metrics, console=console)
    return plain, on_main_process(lambda: _score_moved(run, plain, clips, config, metrics))


def other_clips(references: Mapping[str, Sequence[str]], seed: int) -> dict[str, str]:
    """Choose another clip for each, one with other references. Each is chosen once.

    Args:
        references: clip → its captions.
        seed: of the choice.

    Raises:
        UserError: there are fewer than two clips, or more than half of them have the same references.
    """
    if len(references) < 2:
        raise UserError(f"There is {len(references)} clip; captions of other clips need at least 2.")
    alike: dict[frozenset[str], list[str]] = {}
    for clip_id in random.Random(seed).sample(list(references), len(references)):
        alike.setdefault(frozenset(references[clip_id]), []).append(clip_id)
    most = max(map(len, alike.values()))
    if 2 * most > len(references):
        raise UserError(
            f"{most} of {len(references)} clips have the same references, so that not all of these clips can get a "
            "caption of another kind; use a split with more kinds of clips."
        )
    # Clips with the same references stand side by side. A shift by the largest group leads out of every group.
    order = [clip_id for group in alike.values() for clip_id in group]
    chosen = dict(zip(order, order[most:] + order[:most], strict=True))
    return {clip_id: chosen[clip_id] for clip_id in references}


def drop_line(plain: EvaluationResult, moved: EvaluationResult) -> str:
    """Say what captions lose on other clips, and whether that is little."""
    own, others = plain.scores["cider"], moved.scores["cider"]
    line = (
        f"CIDEr is {format_score(own)} on the captions' own clips and {format_score(others)} on other clips, "
        f"{format_score(abs(own - others))} {'lower' if others <= own else 'higher'}."
    )
    return f"{line} The captions hardly depend on the clip." if others >= _BLIND * own else line


def _plain_result(
    run: Path, config: RunConfig, references: Mapping[str, Sequence[str]], split: str
) -> EvaluationResult | None:
    """Return the plain result that the run has, unless it is of other weights, references or decoding."""
    path = evaluation_directory(run, config.data, split) / RESULT_NAME
    if not path.is_file() or path.stat().st_mtime < weights_file(run).stat().st_mtime:
        return None
    result = EvaluationResult.load(path)
    same = result.decoding == decoding_facts(config) and result.references.sha256 == references_digest(references)
    return result if same else None


def _score_moved(
    run: Path, plain: EvaluationResult, clips: Sequence[CaptionedClip], config: RunConfig, metrics: Sequence[str]
) -> EvaluationResult:
    """Score and write. Clips without a caption are left out, as in the plain result."""
    split = str(plain.split)
    captions = read_predictions(evaluation_directory(run, config.data, split) / PREDICTIONS_NAME)
    captioned = {clip_id: texts for clip_id, texts in references_of(clips).items() if clip_id in captions}
    moved = {clip_id: captions[other] for clip_id, other in other_clips(captioned, config.seed).items()}
    score = partial(
        score_split,
        moved,
        clips,
        config,
        split,
        name=plain.name,
        metrics=metrics,
        decoding=plain.decoding | {"other_clips": True},
        checkpoint=plain.checkpoint,
        trained_parameters=plain.trained_parameters,
        visual_mask=plain.visual_mask,
        training_seconds=plain.training_seconds,
        data=plain.data,
        special_tokens=plain.special_tokens,
    )
    return score_and_write(evaluation_directory(run, config.data, split, other_clips=True), moved, score)
