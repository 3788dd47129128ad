"""Caption a split with a run's checkpoint, score it, and write down everything the scores depend on."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from evlvideo.assembly.architecture import changed_by_run
from evlvideo.assembly.clips import read_clips
from evlvideo.assembly.datasets import evaluation_dataset
from evlvideo.assembly.models import open_model, trained_parameters
from evlvideo.config.run import RunConfig
from evlvideo.data.loading.collate import visual_inputs
from evlvideo.errors import UserError
from evlvideo.evaluation.split_scores import decoding_facts, score_split, write_evaluation
from evlvideo.files import read_json
from evlvideo.inference.captioning import generate_captions
from evlvideo.metrics.meteor import MeteorProcess
from evlvideo.metrics.names import METRICS
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.processes import join_processes, on_main_process
from evlvideo.results.records import EvaluationResult
from evlvideo.results.run_directory import SUMMARY_NAME, evaluation_directory, run_config


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
    out: Path | None = None,
) -> EvaluationResult:
    """Caption and score a split.

    Several processes, as `torchrun` starts them, share the clips; one of them scores and writes while the others wait.

    Args:
        run: directory of a finished run, or a checkpoint where `config` and `out` are given.
        split: split of the run's data set.
        config: data and decoding to use in the place of the run's own; with `out`, also what to change in the model.
        shuffle_frames: caption clips whose frames are out of order.
        metrics: which of :data:`evlvideo.metrics.names.ALL_METRICS`.
        meteor: a running one, for several evaluations in turn; else one is started for this.
        out: the directory that the result is of, where that is not the run.

    Returns:
        the result, in every process, which is also written to `OUT/evaluation/DATASET-SPLIT/`, beside the predictions.
        Clips that could not be decoded are named in it, and the scores are those of the others.

    Raises:
        UserError: no checkpoint, no such split, missing videos, or a changed model without `out`; nothing is written
            then.
    """
    state = join_processes()
    directory = checkpoint_directory(str(run))
    config = config or run_config(run)
    if out is None:
        _check_same_model(directory, config)
        out = run
    clips = read_clips(config.data, split)
    model, processor = open_model(run, config)
    dataset: Dataset[dict[str, Any]] = evaluation_dataset(config.data, model, processor, clips, split)
    if shuffle_frames:
        dataset = ShuffledFrames(dataset, config.seed)
    # METEOR reads its tables while the model captions.
    with MeteorProcess() if meteor is None and state.is_main_process else nullcontext(meteor) as running:
        started = time.perf_counter()
        captions = generate_captions(model, processor, dataset, config.generation, num_workers=config.data.num_workers)
        captioning_seconds = time.perf_counter() - started

        def score() -> EvaluationResult:
            assert running is not None
            result = score_split(
                captions,
                clips,
                config,
                split,
                metrics=metrics,
                meteor=running,
                name=out.name,
                checkpoint=str(run),
                decoding={**decoding_facts(config), **({"shuffled_frames": True} if shuffle_frames else {})},
                trained_parameters=trained_parameters(model),
                training_seconds=_summary(run).get("training_seconds"),
                captioning_seconds=captioning_seconds,
                captioning_clips=len(captions),
            )
            write_evaluation(
                evaluation_directory(out, config.data.dataset, split, shuffle_frames=shuffle_frames), captions, result
            )
            return result

        return on_main_process(score)


def _check_same_model(checkpoint: Path, config: RunConfig) -> None:
    """Another model's evaluation must not take the place of the run's own."""
    saved = EvlVideoConfig.from_pretrained(checkpoint)
    # Options that are named are a part of those that a checkpoint has.
    asked = changed_by_run(saved, config)
    changed = [f"model.{name}" for name in asdict(config.model) if getattr(asked, name) != getattr(saved, name)]
    if changed:
        raise UserError(
            f"{', '.join(changed)} would make another model of {checkpoint}, in whose place its result would stand. "
            "`evlvideo sweep --evaluate-only` evaluates a checkpoint with other values, in directories of their own."
        )


def _summary(run: Path) -> dict[str, Any]:
    path = run / SUMMARY_NAME
    return read_json(path) if path.is_file() else {}
