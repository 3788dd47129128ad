"""Make the classifier that a run starts from, open one that has been trained, and read its statements."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evlvideo.assembly.vlp import check_pruning, start_host
from evlvideo.config.loading import load_config_of
from evlvideo.config.vlp import ClassifierConfig
from evlvideo.data.annotation.statements.lists import read_statements, with_images
from evlvideo.data.annotation.statements.statement import TASKS, Statement
from evlvideo.data.loading.statements import StatementDataset
from evlvideo.data.loading.transforms import eval_transform, train_transform
from evlvideo.errors import UserError, first_ten
from evlvideo.mini.images.statements import build_mini_statements
from evlvideo.models.vlp.hosts.albef import Albef
from evlvideo.models.vlp.hosts.classifier import AlbefClassifier, classifier_of
from evlvideo.models.vlp.hosts.files import open_tokenizer
from evlvideo.processes import on_main_process
from evlvideo.results.run_directory import config_of_finished

logger = logging.getLogger(__name__)

SPLITS = ("train", "validate", "test")


@dataclass(frozen=True, slots=True)
class StatementSplit:
    """The statements of a split."""

    annotation: Path
    """Their list."""
    statements: list[Statement]
    """Those whose images are there."""
    left_out: int
    """Statements of which an image is missing."""
    missing_images: list[Path]


def read_split(config: ClassifierConfig, split: str) -> StatementSplit:
    """Read a split, without the statements of which an image is missing; the log says how many.

    Raises:
        UserError: the split is unknown, its list cannot be read, or all of its images are missing.
    """
    if split not in SPLITS:
        raise UserError(f"The split is {split!r}; allowed: {', '.join(SPLITS)}.")
    data = config.data
    if data.root is None:
        on_main_process(lambda: build_mini_statements(config.task))
    root = build_mini_statements(config.task) if data.root is None else Path(data.root)
    path, images = root / getattr(data, split), Path(data.image_root or root)
    found = read_statements(path, images, config.task)
    statements, missing = with_images(found)
    if not statements:
        raise UserError(
            f"All {len(missing)} images of {path} are missing in {images}, such as {missing[0]}; set data.image_root "
            "to the directory that they are named from."
        )
    left_out = len(found) - len(statements)
    if left_out:
        names = first_ten([str(image) for image in missing])
        logger.warning(
            "%s: %d of %d statements are left out, since %d images are missing: %s",
            path,
            left_out,
            len(found),
            len(missing),
            names,
        )
    return StatementSplit(path, statements, left_out, missing)


def statement_dataset(config: ClassifierConfig, statements: Sequence[Statement], *, training: bool) -> StatementDataset:
    """Build a dataset of statements, with random crops and flips in training."""
    size, data = config.model.image_size, config.data
    transform = train_transform(size, data.crop_scale_min, data.horizontal_flip) if training else eval_transform(size)
    return StatementDataset(
        statements, image_size=size, transform=transform, seed=config.seed if training else 0, resample=training
    )


def start_classifier(config: ClassifierConfig, sentences: Iterable[str]) -> tuple[AlbefClassifier, Any]:
    """Make the classifier that a run starts from, and its tokenizer.

    Args:
        config: of the run.
        sentences: of the training statements, whose words a new model's tokenizer has if it names no other.

    Raises:
        UserError: something cannot be opened, or does not fit.
    """
    host, tokenizer = start_host(config.model, sentences)
    if hasattr(host.config, "classes"):
        raise UserError(
            f"model.checkpoint is {config.model.checkpoint!r}, which is a classifier already; name the ALBEF that it "
            "started from, such as a run of `evlvideo pretrain`."
        )
    assert isinstance(host, Albef)
    task = TASKS[config.task]
    model = classifier_of(host, task.images, len(task.labels))
    check_pruning(config, model)
    return model, tokenizer


def open_classifier(run: Path, overrides: list[str] | None = None) -> tuple[ClassifierConfig, AlbefClassifier, Any]:
    """Open a finished run.

    Args:
        run: its directory.
        overrides: changes to its config, `key=value`.

    Returns:
        its config, its classifier in eval mode, and its tokenizer.

    Raises:
        UserError: there is no such run, it has not finished, or it is of another task.
    """
    path = config_of_finished(run, "`evlvideo classify`")
    trained, config = load_config_of(ClassifierConfig, path), load_config_of(ClassifierConfig, path, overrides)
    if trained.task != config.task or trained.model.image_size != config.model.image_size:
        raise UserError(
            f"{run} was trained for {trained.task} at {trained.model.image_size} pixels; leave both as they are."
        )
    kind: Any = AlbefClassifier
    try:
        model = kind.from_pretrained(run, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"The classifier in {run} cannot be opened: {error}") from error
    return config, model.eval(), open_tokenizer(str(run))
