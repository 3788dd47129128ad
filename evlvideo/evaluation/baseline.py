"""Captions a split with a transformers model, and scores it like our own runs."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from rich.console import Console

from evlvideo.assembly.clips import read_clips, references_of
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.config.loading import config_of, load_config, save_config
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.video.sampling import SAMPLERS
from evlvideo.errors import UserError
from evlvideo.evaluation.split_scores import score_and_write, score_split
from evlvideo.inference.baselines.video import VideoDataset
from evlvideo.inference.baselines.video_text import VideoTextModel, VideoTextProcessor
from evlvideo.inference.captioning import decoding_facts
from evlvideo.inference.pipeline import batches_of, run_batches
from evlvideo.metrics.references_digest import references_digest
from evlvideo.processes import join_processes, on_main_process
from evlvideo.progress import Progress
from evlvideo.results.caption_log import CaptionLog
from evlvideo.results.records import EvaluationResult
from evlvideo.results.run_directory import CONFIG_NAME, SUMMARY_NAME, check_writable, evaluation_directory, other_data

logger = logging.getLogger(__name__)

PREFIX = "hf:"
"""Prefix of a model's hub name or folder."""
_KEYS = ("seed", "training.precision", "data.dataset", "data.root", "data.video_root", "data.check_counts",
         "data.scoring_tokenizer", "data.num_frames", "data.eval_sampling", "data.num_workers")  # fmt: skip
"""Config keys that apply to another system, beside those of `generation`."""


def baseline_config(
    system: str, overrides: Sequence[str], *, dataset: str | None, root: Path | None, out: Path
) -> RunConfig:
    """Make the config of another system, which is kept in its directory like that of a run.

    Args:
        system: `hf:` and a hub name or a folder.
        overrides: `key=value` changes of data, generation, seed and precision.
        dataset: name of the dataset. Defaults to that of `overrides`.
        root: directory of the dataset. Defaults to that of `overrides`.
        out: directory of the system.

    Raises:
        UserError: the system lacks the prefix, or a key or value is wrong or has no effect.
    """
    if not system.startswith(PREFIX) or system == PREFIX:
        raise UserError(
            f"The system is {system!r}; name a model of transformers as {PREFIX}NAME, a hub name or a folder. Captions "
            "of any other system are scored by `evlvideo score`."
        )
    without_effect = [
        key for key in (override.partition("=")[0] for override in overrides) if not _has_effect(key.strip())
    ]
    if without_effect:
        raise UserError(
            f"{', '.join(without_effect)} change nothing of another system; allowed: generation.…, {', '.join(_KEYS)}."
        )
    config = config_of(list(overrides))
    data = replace(config.data, dataset=dataset or config.data.dataset, root=str(root) if root else config.data.root)
    return replace(config, init=system, output_dir=str(out), data=data)


def _has_effect(key: str) -> bool:
    return key in _KEYS or key.startswith("generation.")


def caption_split(
    config: RunConfig,
    prompt: str,
    *,
    split: str = "test",
    resume: bool = False,
    any_frames: bool = False,
    trust_remote_code: bool = False,
    console: Console | None = None,
) -> EvaluationResult:
    """Caption and score a split.

    The processes that `torchrun` starts share the clips; the main one scores and writes while the others wait.

    Args:
        config: as :func:`baseline_config` makes it.
        prompt: the question to the model; see :class:`VideoTextProcessor`.
        split: split of the dataset.
        resume: whether to keep the captions of an earlier call and continue.
        any_frames: whether to allow another number of frames than the model's processor states.
        trust_remote_code: whether code that comes with the model may run.
        console: console of the progress bar.

    Returns:
        the result, in every process. It is also written to the directory that
        :func:`~evlvideo.results.run_directory.evaluation_directory` names, beside the predictions.

    Raises:
        UserError: the model, split or data are missing, the model takes another number of frames, the directory holds
            something else, or no clip can be decoded.
    """
    state = join_processes()
    out = Path(config.output_dir)
    clips = read_clips(config.data, split)
    precision = resolve_precision(config.training.precision)
    processor = VideoTextProcessor(config.init.removeprefix(PREFIX), prompt, trust_remote_code=trust_remote_code)
    processor.check_frames(config.data.num_frames, any_frames=any_frames)
    facts = _log_facts(config, prompt, split, clips, precision)
    log = CaptionLog(evaluation_directory(out, config.data, split), facts, process=state.process_index)
    _check_directory(out, config.init, log, resume)
    on_main_process(lambda: check_writable(log.directory, "name another --out"))
    model = VideoTextModel(processor, dtype=DTYPES[precision], device=state.device, trust_remote_code=trust_remote_code)
    state.wait_for_everyone()  # no process writes captions before all have read the earlier ones
    started = time.perf_counter()
    made = _caption(model, clips, config, log, console)
    seconds = time.perf_counter() - started
    found = {**log.captions, **made}
    captions = {clip.clip_id: found[clip.clip_id] for clip in clips if clip.clip_id in found}
    if not captions:
        raise UserError("No clip could be decoded, so there is nothing to score; see the log above.")
    _warn_of_empty(captions)
    # The time of the captions of this call; that of earlier ones is unknown.
    more: dict[str, Any] = {"captioning_seconds": seconds, "captioning_clips": len(made)} if made else {}
    more["data"] = other_data(out, config.data)
    score = partial(
        score_split, captions, clips, config, split, name=out.name, checkpoint=_source(model), prompt=prompt, **more
    )
    return on_main_process(lambda: _write(log.directory, captions, score, config))


def _log_facts(
    config: RunConfig, prompt: str, split: str, clips: Sequence[CaptionedClip], precision: str
) -> dict[str, Any]:
    """Collect what captions depend on. Captions that depend on something else are not resumed."""
    return {
        "model": config.init,
        "prompt": prompt,
        "data": f"{config.data.dataset}:{split}",
        "references": references_digest(references_of(clips)),
        "decoding": decoding_facts(config),
        "seed": config.seed,
        "precision": precision,
    }


def _write(
    directory: Path, captions: dict[str, str], score: Callable[[], EvaluationResult], config: RunConfig
) -> EvaluationResult:
    out, result = Path(config.output_dir), score_and_write(directory, captions, score)
    if not result.data:  # else the clips are not the system's own
        save_config(config, out / CONFIG_NAME)
    return result


def _check_directory(out: Path, system: str, log: CaptionLog, resume: bool) -> None:
    path = out / CONFIG_NAME
    if (out / SUMMARY_NAME).exists() or (path.is_file() and load_config(path).init != system):
        raise UserError(f"{out} already holds another run; name another directory with --out.")
    if log.captions and not resume:
        raise UserError(
            f"{log.directory} holds {len(log.captions)} captions already. Add --resume to keep them and go on, or name "
            "another --out, or remove it."
        )


def _caption(
    model: VideoTextModel,
    clips: Sequence[CaptionedClip],
    config: RunConfig,
    log: CaptionLog,
    console: Console | None,
) -> dict[str, str]:
    """Caption the clips without a caption, and return clip → new caption in every process.

    Incomplete batches are captioned again as a whole, so that a resumed call gives what an uninterrupted one would.
    """
    state = PartialState()
    batches = batches_of(len(clips), config.generation.batch_size)
    pending = [batch for batch in batches if any(clips[index].clip_id not in log.captions for index in batch)]
    mine = pending[state.process_index :: state.num_processes]

    def caption(items: list[dict[str, Any]]) -> list[str]:
        return model.caption([item["video"] for item in items], config.generation)

    dataset = VideoDataset(clips, num_frames=config.data.num_frames, sampler=SAMPLERS[config.data.eval_sampling])
    captioned = run_batches(dataset, mine, caption, collate=list, num_workers=config.data.num_workers)
    log.open()
    made: dict[str, str] = {}
    with Progress("captioning", sum(map(len, mine)), console=console) as progress:
        for batch in mine:
            # `next` captions the batch, so that sampled captions depend on the batch alone.
            torch.manual_seed(config.seed + batch.start)
            outcomes = next(captioned)
            for clip in outcomes:
                if clip.bad is not None:
                    logger.warning("%s: %s", clip.clip_id, clip.bad)
            of_batch = {clip.clip_id: clip.result for clip in outcomes if clip.result is not None}
            log.append(of_batch)
            made |= of_batch
            progress.advance(len(batch))
    return dict(gather_object(list(made.items())))


def _warn_of_empty(captions: dict[str, str]) -> None:
    empty = [clip_id for clip_id, caption in captions.items() if not caption]
    if empty:
        logger.warning("%d of %d captions are empty, and score 0: %s", len(empty), len(captions), ", ".join(empty[:10]))


def _source(model: VideoTextModel) -> str:
    """Name the model, with its commit if it comes from the hub."""
    commit = getattr(model.processor.config, "_commit_hash", None)
    return f"{PREFIX}{model.processor.name}" + (f"@{commit}" if commit else "")
