"""Run steps of the package's trainers on clips of noise."""

import itertools
import tempfile
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evlvideo.config.data import DataConfig
from evlvideo.config.generation import GenerationConfig
from evlvideo.config.run import RunConfig
from evlvideo.config.scst import ScstConfig
from evlvideo.config.training import TrainingConfig
from evlvideo.data.loading.collate import CaptionCollator
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.training.arguments import training_arguments
from evlvideo.training.scst.rewards import CiderReward
from evlvideo.training.scst.trainer import SelfCriticalTrainer
from evlvideo.training.trainer import CaptionTrainer
from gpu_parts.generated import NoiseClips
from gpu_parts.measure import peak_memory, start_of_peak, summary, synchronize
from gpu_parts.sizes import Size, precision

_MANY = 10_000
"""Steps of a run and between its validations: more than are run."""
_CLIPS = 512


def make_trainer(
    size: Size,
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    *,
    stage: str,
    batch: int,
    **arguments: Any,
) -> CaptionTrainer:
    """Make the trainer of a run.

    Args:
        size: samples and lengths.
        model: the captioner.
        processor: the model's processor.
        stage: `caption` or `scst`.
        batch: clips per step.
        arguments: values of `training.arguments`, such as `gradient_checkpointing`.
    """
    config = RunConfig(
        stage=stage,
        output_dir=tempfile.gettempdir(),
        data=DataConfig(num_frames=size.frames, num_workers=0),
        training=TrainingConfig(max_steps=_MANY, eval_steps=_MANY, batch_size=batch, arguments=arguments),
        generation=GenerationConfig(min_new_tokens=1, max_new_tokens=size.new_tokens),
        scst=ScstConfig(num_samples=size.samples, max_new_tokens=size.new_tokens),
    )
    clips = NoiseClips(_CLIPS, size.frames, processor.image_size, per_caption=stage == "caption")
    common: dict[str, Any] = {
        "model": model,
        "args": training_arguments(config, precision()),
        "processor": processor,
        "train_dataset": clips,
        "eval_dataset": clips,
        "data_collator": CaptionCollator(processor),
        "generation": config.generation,
        "validation_references": {},
        "learning_rates": config.training.learning_rates,
    }
    if stage == "caption":
        return CaptionTrainer(**common)
    return SelfCriticalTrainer(reward=CiderReward(clips.references()), scst=config.scst, **common)


class Steps(TrainerCallback):
    """Calls a function after each step, and stops training when it returns true.

    Args:
        done: takes the number of steps so far; returns whether they are enough.
    """

    def __init__(self, done: Callable[[int], bool]) -> None:
        self._done = done

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        control.should_training_stop = self._done(state.global_step)


def measure_steps(size: Size, trainer: CaptionTrainer) -> dict[str, Any]:
    """Measure the seconds from the end of each step to the next, and the peak of memory."""
    ends = [time.perf_counter()]

    def note(step: int) -> bool:
        synchronize()
        ends.append(time.perf_counter())
        if step == size.warmup:
            start_of_peak()
        return step == size.warmup + size.repeats

    trainer.add_callback(Steps(note))
    trainer.train()
    seconds = [after - before for before, after in itertools.pairwise(ends)]
    return {**summary(seconds[size.warmup :]), "first_step_seconds": seconds[0], **peak_memory()}
