"""Caption a split with a run's checkpoint, score the captions, and record everything the scores depend on."""

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from torch.utils.data import Dataset

from evlvideo.assembly.clips import read_clips
from evlvideo.assembly.datasets import evaluation_dataset
from evlvideo.assembly.models import open_model
from evlvideo.config.data import QUESTIONS
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.facts import facts_of
from evlvideo.errors import UserError, first_ten
from evlvideo.evaluation.model_facts import check_same_model, model_facts
from evlvideo.evaluation.shuffled_frames import ShuffledFrames
from evlvideo.evaluation.split_scores import score_and_write, score_split
from evlvideo.files import read_json
from evlvideo.inference.captioning import decoding_facts, generate_captions
from evlvideo.inference.captions import count_special_tokens, name_special_tokens, texts_of
from evlvideo.metrics.meteor import MeteorProcess
from evlvideo.metrics.names import METRICS
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.processes import is_main, join_processes, on_main_process
from evlvideo.progress import timed
from evlvideo.results.prediction_files import write_predictions, write_submission
from evlvideo.results.records import EvaluationResult
from evlvideo.results.run_directory import (
    EVALUATION_LOG_NAME,
    PREDICTIONS_NAME,
    SUBMISSION_NAME,
    SUMMARY_NAME,
    check_writable,
    evaluation_directory,
    other_data,
    run_config,
)
from evlvideo.terminal import log_file

logger = logging.getLogger(__name__)


def evaluate(
    run: Path,
    *,
    split: str = "test",
    config: RunConfig | None = None,
    shuffle_frames: bool = False,
    metrics: Sequence[str] = METRICS,
    meteor: MeteorProcess | None = None,
    out: Path | None = None,
    console: Console | None = None,
    subset_frequencies: str | None = None,
) -> EvaluationResult:
    """Caption and score a split.

    The processes that `torchrun` starts share the clips; the main one scores and writes while the others wait.

    Args:
        run: directory of a finished run; or, with `config` and `out`, a checkpoint.
        split: split of the dataset.
        config: data and decoding. Defaults to the run's own. With `out`, it may also change the model.
        shuffle_frames: shuffle the frames of each clip.
        metrics: some of :data:`evlvideo.metrics.names.ALL_METRICS`.
        meteor: a running one, to share between evaluations. If None, one is started and ended.
        out: directory that the result belongs to. Defaults to `run`.
        console: where to draw a progress bar. If None, only lines are logged.
        subset_frequencies: one of :data:`evlvideo.metrics.names.SUBSET_SCORES`. Defaults to the dataset's.

    Returns:
        the result, in every process. It is also written to the directory that
        :func:`~evlvideo.results.run_directory.evaluation_directory` names, beside the predictions. It names the clips
        that could not be decoded, and its scores are those of the others.

    Raises:
        UserError: no checkpoint, no such split, a split without captions, missing videos, a changed model without
            `out`, or a directory that cannot be written to; nothing is written then. Or the captions cannot be scored;
            they are written.
    """
    prepared = _prepare(run, split, config, out, shuffle_frames)
    if split in facts_of(prepared.config.data.dataset).without_captions:
        raise UserError(
            f"{prepared.config.data.dataset}:{split} has no captions to score on; only its server has them."
        )
    # METEOR reads its tables while the model captions.
    running_meteor = MeteorProcess() if meteor is None and is_main() else nullcontext(meteor)
    with log_file(prepared.out / EVALUATION_LOG_NAME), running_meteor as running:
        texts, facts = _caption(prepared, console)
        score = partial(
            score_split,
            texts,
            prepared.clips,
            prepared.config,
            split,
            name=prepared.out.name,
            metrics=metrics,
            meteor=running,
            subset_frequencies=subset_frequencies,
            **facts,
        )

        def score_with_time() -> EvaluationResult:
            with timed(f"scores of {len(texts):,} captions", logger.info):
                return score()

        def finish() -> EvaluationResult:
            result = score_and_write(prepared.directory, texts, score_with_time)
            if facts_of(prepared.config.data.dataset).has_server and not result.missing_clips:
                write_submission(prepared.directory / SUBMISSION_NAME, texts)
            return result

        return on_main_process(finish)


def caption_for_server(
    run: Path, *, split: str, config: RunConfig | None = None, out: Path | None = None, console: Console | None = None
) -> Path:
    """Caption a split whose captions only a server has, and write the file that the server takes.

    Args:
        run: as in :func:`evaluate`.
        split: split of the dataset.
        config: as there.
        out: as there.
        console: as there.

    Returns:
        the file, in every process. The predictions are beside it.

    Raises:
        UserError: as there; or an image cannot be decoded, since the server takes only complete files. The predictions
            are written then.
    """
    prepared = _prepare(run, split, config, out, shuffle_frames=False)
    path = prepared.directory / SUBMISSION_NAME
    with log_file(prepared.out / EVALUATION_LOG_NAME):
        texts, _ = _caption(prepared, console)

        def write() -> None:
            write_predictions(prepared.directory / PREDICTIONS_NAME, texts)
            if missing := [clip_id for clip_id in prepared.clips.ids if clip_id not in texts]:
                raise UserError(
                    f"{len(missing)} of {len(prepared.clips)} images could not be decoded, and the server takes only "
                    f"complete files: {first_ten(missing)}. Get them again; see the log above."
                )
            write_submission(path, texts)

        on_main_process(write)
    return path


@dataclass(frozen=True)
class _Prepared:
    """What captions are made from and written to."""

    run: Path
    config: RunConfig
    out: Path
    directory: Path
    clips: ClipTable
    model: EvlVideoForCaptioning
    processor: EvlVideoProcessor
    dataset: Dataset[dict[str, Any]]
    shuffle_frames: bool


def _prepare(run: Path, split: str, config: RunConfig | None, out: Path | None, shuffle_frames: bool) -> _Prepared:
    join_processes()
    checkpoint = checkpoint_directory(str(run))
    config = config or run_config(run)
    if config.data.kind == QUESTIONS:
        raise UserError(
            f"{run} was validated on questions, which `evlvideo evaluate-answers {run} --dataset "
            f"{config.data.dataset}` answers; to caption, name a dataset of captions with --dataset."
        )
    if out is None:
        check_same_model(checkpoint, config)
        out = run
    clips = read_clips(config.data, split)
    directory = evaluation_directory(out, config.data, split, shuffle_frames=shuffle_frames)
    on_main_process(lambda: check_writable(directory, "copy the run to where it can be"))
    model, processor = open_model(run, config)
    dataset: Dataset[dict[str, Any]] = evaluation_dataset(config.data, model, processor, clips, split)
    if shuffle_frames:
        dataset = ShuffledFrames(dataset, config.seed)
    return _Prepared(run, config, out, directory, clips, model, processor, dataset, shuffle_frames)


def _caption(prepared: _Prepared, console: Console | None) -> tuple[dict[str, str], dict[str, Any]]:
    """Caption the clips; return the captions, and the fields of a result that say how they were made."""
    config, started = prepared.config, time.perf_counter()
    captions = generate_captions(
        prepared.model,
        prepared.processor,
        prepared.dataset,
        config.generation,
        num_workers=config.data.num_workers,
        console=console,
    )
    seconds = time.perf_counter() - started
    if is_main() and (found := name_special_tokens(list(captions.values()))):
        logger.warning("%s", found)
    return texts_of(captions), {
        "data": other_data(prepared.out, config.data),
        **_facts(prepared.run, config, prepared.model, prepared.shuffle_frames),
        "captioning_seconds": seconds,
        "captioning_clips": len(captions),
        "special_tokens": dict(count_special_tokens(captions.values())),
    }


def _facts(run: Path, config: RunConfig, model: EvlVideoForCaptioning, shuffle_frames: bool) -> dict[str, Any]:
    """Collect the fields of a result that say what made the captions."""
    shuffled = {"shuffled_frames": True} if shuffle_frames else {}
    return {
        "checkpoint": str(run),
        "decoding": decoding_facts(config) | shuffled,
        **model_facts(checkpoint_directory(str(run)), model.config),
        "trained_parameters": model.num_parameters(only_trainable=True),
        "training_seconds": _training_seconds(run),
    }


def _training_seconds(run: Path) -> float | None:
    path = run / SUMMARY_NAME
    seconds: float | None = read_json(path).get("training_seconds") if path.is_file() else None
    return seconds
