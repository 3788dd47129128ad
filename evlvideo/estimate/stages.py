"""Estimate the stages of a recipe, each with what the stages before have trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import Group, RenderableType
from rich.text import Text

from evlvideo.assembly.stages import (
    ClipsRead,
    read_once,
    stage_architectures,
    steps_of_epochs,
    trains_on_captions,
)
from evlvideo.assembly.trained import held_at_start, trained_by
from evlvideo.config.recipes.recipe import Recipe, Stage
from evlvideo.errors import UserError
from evlvideo.estimate.records import Estimate
from evlvideo.estimate.run_costs import estimate_stage
from evlvideo.estimate.table import binary, number_in, plain_table, power_of
from evlvideo.models.trainable import Trained


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """The costs of one stage, on one process."""

    stage: Stage
    costs: Estimate
    steps: int | None
    """Optimizer steps; None if the stage has epochs, and the clips to count them by are not there."""

    @property
    def trains(self) -> str:
        """Return the parts that are trained."""
        return ", ".join(part.replace("_", " ") for part in self.costs.trained_parts)

    @property
    def length(self) -> str:
        """Return its steps or epochs."""
        steps = [] if self.steps is None else [f"{self.steps:,} steps"]
        if self.stage.epochs is not None:
            steps.insert(0, f"{self.stage.epochs:g} epoch{'' if self.stage.epochs == 1 else 's'}")
        return ", ".join(steps)

    @property
    def step(self) -> int:
        """Return the multiply-adds of an optimizer step, with the sampling of captions."""
        batch, sampling = self.costs.training_batch.total, self.costs.sampling_clip
        sampled = 0 if sampling is None else sampling.total * self.costs.workload.batch_size
        return (batch + sampled) * self.stage.config.training.gradient_accumulation_steps

    @property
    def whole(self) -> int | None:
        """Return the multiply-adds of all steps; None if their number is not known."""
        return None if self.steps is None else self.step * self.steps


def estimate_stages(recipe: Recipe) -> list[StageEstimate]:
    """Estimate every stage of a recipe. Epochs are counted in steps if the clips are there.

    Raises:
        UserError: a stage's model or workload does not fit; the message begins with the stage.
    """
    held, before = held_at_start(recipe.stages[0].config), tuple[Trained, ...]()
    read: ClipsRead = {}
    found = []
    for stage, architecture in zip(recipe.stages, stage_architectures(recipe), strict=True):
        try:
            costs = estimate_stage(stage.config, architecture, held=held, before=before)
        except UserError as error:
            raise UserError(f"{stage.name}: {error}") from error
        found.append(StageEstimate(stage, costs, _steps(stage, read)))
        before = (*before, trained_by(stage.config))
    return found


def _steps(stage: Stage, read: ClipsRead) -> int | None:
    """Return the steps of a stage; None if its clips are not there."""
    config = stage.config
    if stage.epochs is None:
        return config.training.max_steps
    try:
        sources = read_once(config.data, read)
    except UserError:
        return None
    return steps_of_epochs(config, sources, stage.epochs, per_caption=trains_on_captions(config))


def stages_table(stages: Sequence[StageEstimate]) -> RenderableType:
    """Return a table with a row for each stage, and remarks below."""
    largest = max(found.whole or found.step for found in stages)
    shown = partial(number_in, power=power_of(largest))
    weights = partial(number_in, power=power_of(max(found.costs.trained.total for found in stages)))
    table = plain_table(["trained", "length", "clips a step", "a step", "all steps", "memory"])
    for found in stages:
        training, whole = found.stage.config.training, found.whole
        table.add_row(
            found.stage.name,
            weights(found.costs.trained.total),
            found.length,
            f"{training.batch_size * training.gradient_accumulation_steps:,}",
            shown(found.step),
            "" if whole is None else shown(whole),
            binary(found.costs.memory.total),
        )
    return Group(table, Text(), *(Text(line, style="dim") for line in _remarks(stages)))


def _remarks(stages: Sequence[StageEstimate]) -> Iterator[str]:
    asked = stages[0].costs.workload
    for found in stages:
        yield f"{found.stage.name} trains {found.trains}."
    yield "Steps are those of one process, in multiply-adds of matrix products and convolutions, forward and backward."
    yield (
        f"Memory is for training in {asked.precision}: weights (what a stage trains, or one before it has trained, in "
        "float32), gradients, AdamW's moments and activations, without the CUDA context and fragmentation."
    )
    other = [found.costs.other_memory for found in stages if found.costs.other_memory is not None]
    if other:
        most = max(memory.total for memory in other)
        yield f"Where training.precision=auto is {asked.other_precision}, it takes up to {binary(most)}."
