"""Caption a split with a run's checkpoint, score it, and write down everything the scores depend on."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import Dataset

from evlvideo.assembly import evaluation_data, open_model, read_clips, references_of, trained_parameters
from evlvideo.config import RunConfig
from evlvideo.data.captioned import evidence_subsets
from evlvideo.data.collate import visual_inputs
from evlvideo.evaluation.meteor import MeteorProcess
from evlvideo.evaluation.metrics import METRICS, score_captions
from evlvideo.evaluation.predict import generate_captions
from evlvideo.evaluation.results import EvaluationResult, describe_references, git_commit, versions, write_predictions
from evlvideo.files import read_json
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.run_directory import PREDICTIONS_NAME, RESULT_NAME, SUMMARY_NAME, evaluation_directory, run_config


class ShuffledFrames(Dataset[dict[str, Any]]):
    """Clips with their frames in a random order, another for each clip, the same at every call.

    What a model says of them tells whether it looks at the order at all.

    Args:
        dataset: items with `pixel_values`, `(T, 3, height, width)`, or `features`, `(T, N, D)`.
        seed: of the order.
    """

    def __init__(self, dataset: Dataset[dict[str, Any]], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One clip, its frames out of order."""
        item = dict(self.dataset[index])
        for name, frames in visual_inputs(item).items():
            item[name] = frames[_another_order(len(frames), self.seed + index)]
        return item


def _another_order(count: int, seed: int) -> Tensor:
    """A random order that is not the old one, where there is another."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator)
    while count > 1 and torch.equal(order, torch.arange(count)):
        order = torch.randperm(count, generator=generator)
    return order


def evaluate(
    run: Path,
    *,
    split: str = "test",
    config: RunConfig | None = None,
    shuffle_frames: bool = False,
    metrics: Sequence[str] = METRICS,
    meteor: MeteorProcess | None = None,
) -> EvaluationResult:
    """Caption and score a split.

    Args:
        run: directory of a finished run.
        split: split of the run's data set.
        config: data and decoding to use in the place of the run's own.
        shuffle_frames: caption clips whose frames are out of order.
        metrics: which of :data:`evlvideo.evaluation.metrics.ALL_METRICS`.
        meteor: a running one, for several evaluations in turn; else one is started for this.

    Returns:
        the result, which is also written to `RUN/evaluation/DATASET-SPLIT/`, beside the predictions. Clips that could
        not be decoded are named in it, and the scores are those of the others.

    Raises:
        UserError: no checkpoint, no such split, or missing videos; nothing is written then.
    """
    checkpoint_directory(str(run))
    config = config or run_config(run)
    clips = read_clips(config.data, split)
    model, processor = open_model(run, config)
    dataset: Dataset[dict[str, Any]] = evaluation_data(config.data, model, processor, clips, split)
    if shuffle_frames:
        dataset = ShuffledFrames(dataset, config.seed)
    references = references_of(clips)
    with nullcontext(meteor) if meteor else MeteorProcess() as meteor:
        # METEOR reads its tables while the model captions.
        started = time.perf_counter()
        captions = generate_captions(model, processor, dataset, config.generation, num_workers=config.data.num_workers)
        captioning_seconds = time.perf_counter() - started
        captioned = {clip_id: texts for clip_id, texts in references.items() if clip_id in captions}
        subsets = evidence_subsets([clip for clip in clips if clip.clip_id in captions])
        scores = score_captions(captions, captioned, metrics, subsets=subsets, meteor=meteor)
    summary = _summary(run)
    result = EvaluationResult(
        name=run.name,
        dataset=config.data.dataset,
        split=split,
        references=describe_references(f"{config.data.dataset}:{split}", references),
        tokenizer=scores.tokenizer,
        decoding={**_decoding(config), **({"shuffled_frames": True} if shuffle_frames else {})},
        versions=versions(),
        commit=git_commit(),
        seed=config.seed,
        scores=scores.corpus,
        per_clip=scores.per_clip,
        clips_scored=len(scores.per_clip),
        clips_expected=len(clips),
        missing_clips=[clip.clip_id for clip in clips if clip.clip_id not in captions],
        skipped=scores.skipped,
        evidence_scores=scores.subsets or None,
        evidence_clips={name: len(members) for name, members in subsets.items()} or None,
        checkpoint=str(run),
        trained_parameters=trained_parameters(model),
        training_seconds=summary.get("training_seconds"),
        captioning_seconds=captioning_seconds,
        captioning_clips=len(captions),
    )
    directory = evaluation_directory(run, config.data.dataset, split, shuffle_frames=shuffle_frames)
    if PartialState().is_main_process:
        write_predictions(directory / PREDICTIONS_NAME, captions)
        result.save(directory / RESULT_NAME)
    return result


def _decoding(config: RunConfig) -> dict[str, Any]:
    """What captions depend on beside the model. The batch size is not among it."""
    of_search, of_drawing = {"num_beams", "length_penalty"}, {"do_sample", "top_p", "temperature"}
    without = {"batch_size"} | (of_search if config.generation.do_sample else of_drawing)
    generation = {name: value for name, value in asdict(config.generation).items() if name not in without}
    return {**generation, "num_frames": config.data.num_frames, "sampling": config.data.eval_sampling}


def _summary(run: Path) -> dict[str, Any]:
    path = run / SUMMARY_NAME
    return read_json(path) if path.is_file() else {}
