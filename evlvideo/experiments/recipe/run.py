"""Trains a recipe, stage by stage; each is a run with its own directory, checkpoints, log and evaluation."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from accelerate.utils import release_memory
from rich.console import Console

from evlvideo.assembly.clips import read_clips
from evlvideo.assembly.models import check_start
from evlvideo.assembly.stages import ClipsRead, check_parts, read_once, steps_of_epochs, trains_on_captions
from evlvideo.config.data import QUESTIONS
from evlvideo.config.recipes.recipe import Recipe, Stage
from evlvideo.config.run import REPRESENTATION, RunConfig
from evlvideo.errors import UserError, first_ten
from evlvideo.evaluation.answer_questions import QuestionSet, answer_questions
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.experiments.recipe.record import first_to_train, read_record, write_record
from evlvideo.experiments.resumable import finished_evaluation, log, train_unfinished
from evlvideo.files import read_json
from evlvideo.metrics.answers.measures import title_of
from evlvideo.mini.rendered import root_of
from evlvideo.processes import is_main, join_processes, on_main_process
from evlvideo.results.run_directory import ANSWERS_NAME, RESULT_NAME, SUMMARY_NAME, check_writable, sole_use
from evlvideo.training.run import train
from evlvideo.training.stopping import COLLAPSED

logger = logging.getLogger(__name__)


def train_recipe(
    recipe: Recipe, *, resume: bool = False, start: str | None = None, console: Console | None = None
) -> Path:
    """Train the stages of a recipe in turn, and evaluate each on its validation split.

    All stages are checked before the first one is trained.

    Args:
        recipe: the stages.
        resume: keep finished stages, and go on with the one that was stopped.
        start: name of the stage to start again from; it and those after it are replaced.
        console: where progress is drawn.

    Returns:
        the directory of the last stage's run.

    Raises:
        UserError: a stage cannot be trained, the recipe has changed since, or something would be overwritten; nothing
            has been written.
        Interrupted: a signal stopped it.
    """
    join_processes()
    check_writable(recipe.directory)
    first = first_to_train(recipe, resume=resume, start=start)
    for stage in recipe.stages[: first if start is not None else 0]:
        if not _is_finished(stage):
            raise UserError(
                f"{stage.name} is not finished, so the recipe cannot start again after it; go on with --resume."
            )
    check_start(recipe.stages[0].config)
    check_parts(recipe)
    read: ClipsRead = {}
    configs = [_checked(stage, read, again=index >= first) for index, stage in enumerate(recipe.stages)]
    with ExitStack() as held:
        on_main_process(lambda: held.enter_context(_taken(recipe, first)))
        for number, (stage, config) in enumerate(zip(recipe.stages, configs, strict=True), start=1):
            _finish(stage, config, f"stage {stage.name} ({number} of {len(configs)})", console)
    return recipe.stages[-1].directory


def _checked(stage: Stage, read: ClipsRead, *, again: bool) -> RunConfig:
    """Read a stage's clips, as far as it is to be trained and none before has the same, and count its steps."""
    config = stage.config
    if _is_finished(stage) and not again:
        return config
    is_known = repr(config.data) in read
    try:
        sources = read_once(config.data, read)
        if not is_known:
            read_clips(config.data, config.data.validation_split)
        if stage.epochs is None:
            return config
        return stage.of_steps(steps_of_epochs(config, sources, stage.epochs, per_caption=trains_on_captions(config)))
    except UserError as error:
        raise UserError(f"Nothing was trained; stage {stage.name}: {error}") from error


def _is_finished(stage: Stage) -> bool:
    """Whether a stage is trained to its end; the next one does not begin from one that collapsed."""
    return (stage.directory / SUMMARY_NAME).is_file() and not _collapsed(stage)


def _collapsed(stage: Stage) -> bool:
    """Whether `training.stop_on_collapse` ended a stage."""
    path = stage.directory / SUMMARY_NAME
    return path.is_file() and read_json(path).get("ended_by") == COLLAPSED


@contextmanager
def _taken(recipe: Recipe, first: int) -> Iterator[None]:
    """Take a recipe's directory for this process, without the stages that are trained again."""
    with sole_use(recipe.directory):
        replaced = _replaced(recipe, first)
        if replaced:
            logger.warning("Starting again from %s: %s replaced", recipe.stages[first].name, first_ten(replaced))
        for directory in replaced:
            shutil.rmtree(directory)
        write_record(recipe)
        yield


def _replaced(recipe: Recipe, first: int) -> list[Path]:
    """List the directories of the stages from `first` on, also of those that the recipe had before."""
    before = list(read_record(recipe.directory) or {})
    names = [f"{index + 1:02d}-{name}" for index, name in enumerate(before) if index >= first]
    found = [recipe.directory / name for name in names] + [stage.directory for stage in recipe.stages[first:]]
    return [directory for directory in dict.fromkeys(found) if directory.is_dir()]


def _finish(stage: Stage, config: RunConfig, title: str, console: Console | None) -> None:
    """Train and evaluate a stage, or what is left of it."""
    release_memory()  # of the stage before
    if _collapsed(stage):
        train(config, resume=True, console=console)  # is told again, unless stop_on_collapse was taken back
    train_unfinished(config, title, "recipe", console, advice="give the same command with --resume to go on")
    if config.stage == REPRESENTATION:
        return  # its model does not caption
    if config.data.kind == QUESTIONS:
        _answer(stage, config, title)
        return
    split = config.data.validation_split
    if finished_evaluation(config, split, title) is None:
        result = evaluate(stage.directory, split=split)
        if is_main():
            log("%s: %s CIDEr %.1f", title, split, 100 * result.scores["cider"])


def _answer(stage: Stage, config: RunConfig, title: str) -> None:
    """Answer the validation questions of a stage, unless an earlier call has."""
    data = config.data
    split = data.validation_split
    if (stage.directory / ANSWERS_NAME / f"{data.dataset}-{split}" / RESULT_NAME).is_file():
        log("%s: answered already", title)
        return
    root = root_of(data.dataset, Path(data.root) if data.root else None)
    media_root = Path(data.video_root) if data.video_root else None
    asked = QuestionSet(data.dataset, root, split, media_root, check_counts=data.check_counts)
    _, result = answer_questions(str(stage.directory), asked)
    scores = {} if result is None else {title_of(name): 100 * score.value for name, score in result.scores.items()}
    log("%s: %s %s", title, split, ", ".join(f"{name} {score:.1f}" for name, score in scores.items()))
