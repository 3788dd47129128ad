"""Estimate the costs of a run from its config."""

import json
from dataclasses import dataclass
from functools import lru_cache

from evlvideo.assembly.architecture import run_architecture
from evlvideo.config.run import RunConfig
from evlvideo.estimate.costs import estimate, multiply_adds
from evlvideo.estimate.records import Estimate, MultiplyAdds, Workload
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import MAX_TEXT_TOKENS


def estimate_run(config: RunConfig) -> Estimate:
    """Estimate the steps and the captions of a run on one process, with texts of the maximum length.

    `auto` precision counts as bf16, its meaning on a GPU. For SCST, training is the teacher-forced pass over all
    samples of a clip, and captioning generates the samples and the greedy caption. Gradient checkpointing is not
    considered: with it, training takes less memory.

    Raises:
        UserError: the architecture cannot be read, or does not fit what the run asks.
    """
    return _estimate(run_architecture(config).to_json_string(), _workload(config))


@dataclass(frozen=True, slots=True)
class ClipCosts:
    """The costs of a run that tables show."""

    soft_tokens: int
    training: int
    """Multiply-adds of a clip in training."""
    captioning: int
    """Multiply-adds of captioning a clip."""


def clip_costs(config: RunConfig) -> ClipCosts:
    """Return the soft tokens and multiply-adds of a clip, as in :func:`estimate_run`, without measuring memory.

    Raises:
        UserError: as in :func:`estimate_run`.
    """
    workload = _workload(config)
    counted = _multiply_adds(run_architecture(config).to_json_string(), workload)
    training = (counted.training_batch // workload.batch_size).total
    return ClipCosts(counted.soft_tokens, training, counted.captioning_clip.total)


def _workload(config: RunConfig) -> Workload:
    training, generation, scst = config.training, config.generation, config.stage == "scst"
    beams = 1 if generation.do_sample else generation.num_beams
    return Workload(
        num_frames=config.data.num_frames,
        batch_size=training.batch_size,
        captions_per_clip=config.scst.num_samples if scst else config.data.captions_per_clip,
        text_tokens=config.scst.max_new_tokens + 1 if scst else config.text.max_tokens or MAX_TEXT_TOKENS,
        num_beams=config.scst.num_samples + 1 if scst else beams,
        new_tokens=config.scst.max_new_tokens if scst else generation.max_new_tokens,
        precision="bf16" if training.precision == "auto" else training.precision,
    )


# Runs of a sweep, of several seeds or of one table are alike, and running a model takes seconds.
@lru_cache(maxsize=64)
def _estimate(architecture: str, workload: Workload) -> Estimate:
    return estimate(EvlVideoConfig.from_dict(json.loads(architecture)), workload)


@lru_cache(maxsize=64)
def _multiply_adds(architecture: str, workload: Workload) -> MultiplyAdds:
    return multiply_adds(EvlVideoConfig.from_dict(json.loads(architecture)), workload)
