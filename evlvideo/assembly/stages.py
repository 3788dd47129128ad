"""What the stages of a recipe are made of: their models, step by step, and how many steps an epoch has."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState

from evlvideo.assembly.architecture import changed_by_run, run_architecture
from evlvideo.assembly.clips import read_training_clips
from evlvideo.assembly.trained import trained_by
from evlvideo.config.data import DataConfig
from evlvideo.config.recipes.recipe import Recipe, Stage
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.loading.mixture import Mixture
from evlvideo.data.loading.shards.clips import ShardClips
from evlvideo.errors import UserError, raise_problems
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.towers import read_text_config
from evlvideo.models.trainable import trained_part


def stage_architectures(recipe: Recipe) -> list[EvlVideoConfig]:
    """Return each stage's architecture: that of the stage before, with the changes of its `model` section.

    Raises:
        UserError: the first stage has neither an architecture nor a checkpoint, or a value is wrong.
    """
    architecture = run_architecture(recipe.stages[0].config)
    if architecture.text_config is None:
        architecture.text_config = read_text_config(architecture.language_model)
    found = [architecture]
    for stage in recipe.stages[1:]:
        found.append(changed_by_run(found[-1], stage.config))
    return found


def check_parts(recipe: Recipe) -> None:
    """Check that every stage trains something, and that its model has the parts to which it gives a learning rate.

    Raises:
        UserError: a stage does not; all are listed.
    """
    stages = zip(recipe.stages, stage_architectures(recipe), strict=True)
    raise_problems(
        "Nothing was trained; the recipe",
        [f"{stage.name}: {problem}" for stage, architecture in stages for problem in _problems(stage, architecture)],
    )


def _problems(stage: Stage, architecture: EvlVideoConfig) -> Iterator[str]:
    with torch.device("meta"):
        model = EvlVideoForCaptioning(architecture)
    try:
        model.choose_trained(trained_by(stage.config))
    except UserError as error:
        yield str(error).removesuffix(".")
        return
    parts = sorted({trained_part(name) for name, _ in model.named_parameters()})
    missing = [part for part in _own_rates(stage) if part not in parts]
    for part in missing:
        yield f"training.learning_rates.{part} is {_own_rates(stage)[part]:g}, but the model has {', '.join(parts)}"
    if not missing and not any(weight.requires_grad for weight in model.parameters()):
        yield f"it trains nothing; give one of {', '.join(parts)} a rate above 0 in training.learning_rates"


def _own_rates(stage: Stage) -> dict[str, float]:
    """Return the learning rates above 0 that a stage itself gives to parts."""
    training: Any = stage.own.get("training") or {}
    given: Any = training.get("learning_rates") or {}
    rates = {part: getattr(stage.config.training.learning_rates, part) for part in given}
    return {part: rate for part, rate in rates.items() if rate}


@dataclass(frozen=True, slots=True)
class _Sized:
    """A source of a mixture whose items are only counted."""

    size: int

    def __len__(self) -> int:
        return self.size

    def item(self, index: int, walk: int) -> dict[str, Any]:
        raise NotImplementedError


ClipsRead = dict[str, dict[str, ClipTable | ShardClips]]
"""Settings of data → the clips to train on, by source."""


def read_once(data: DataConfig, read: ClipsRead) -> dict[str, ClipTable | ShardClips]:
    """Read the clips to train on, unless a stage before has the same settings and left them in `read`."""
    key = repr(data)
    if key not in read:
        read[key] = read_training_clips(data)
    return read[key]


def trains_on_captions(config: RunConfig) -> bool:
    """Whether training items are captions with their clip, rather than clips."""
    return config.stage != "scst" or config.scst.cross_entropy_weight > 0


def steps_of_epochs(
    config: RunConfig, sources: Mapping[str, ClipTable | ShardClips], epochs: float, *, per_caption: bool
) -> int:
    """Count the optimizer steps of some epochs; for the definition of one see :class:`Mixture`.

    Args:
        config: the run.
        sources: its clips, by source.
        epochs: above 0.
        per_caption: whether items are captions.
    """
    training = config.training
    items = training.batch_size * training.gradient_accumulation_steps * PartialState().num_processes
    ratios: Sequence[float] = [source.ratio for source in config.data.sources] or [1.0]
    mixture = Mixture(
        {name: _Sized(_items(clips, per_caption)) for name, clips in sources.items()},
        dict(zip(sources, ratios, strict=True)),
        seed=config.seed,
        items_per_step=items,
        one_source_a_step=config.data.batches == "one_source",
    )
    return max(1, round(epochs * len(mixture) / items))


def _items(clips: ClipTable | ShardClips, per_caption: bool) -> int:
    if per_caption and isinstance(clips, ClipTable):
        return int(clips.caption_counts().sum())
    return len(clips)
