"""Open models, to start a run or to caption; all commands open them here."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from evlvideo.assembly.architecture import changed_by_run, compared_keys, run_architecture
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.config.run import TOWERS, RunConfig
from evlvideo.models.architecture import check_same_architecture
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.towers import read_text_config
from evlvideo.processes import is_main

logger = logging.getLogger(__name__)


def start_model(
    config: RunConfig, *, tower_dtype: torch.dtype, language_model: bool = True
) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    """Build the model that a run starts from: a new one, or a checkpoint with the run's changes.

    Args:
        config: the run.
        tower_dtype: dtype of the frozen towers.
        language_model: if False, leave it out, which saves memory; the model then only encodes.
    """
    architecture, directory = _start_of(config)
    opening: dict[str, Any] = {"tower_dtype": tower_dtype, "language_model": language_model}
    # What is wrong with the texts is told before a tower is loaded.
    if directory is None:
        processor = EvlVideoProcessor.for_language_model(architecture, **_text_changes(config))
        model = EvlVideoForCaptioning.from_towers(architecture, bert=config.connector_init, **opening)
        processor.image_size = model.vision_tower.image_size
    else:
        processor = _open_processor(directory, architecture, config)
        model = EvlVideoForCaptioning.from_pretrained(directory, config=architecture, **opening)
    if language_model and is_main():
        logger.info("Texts: %s", json.dumps(processor.shown, ensure_ascii=False))
    return model, processor


def open_model(
    checkpoint: Path | str, config: RunConfig, *, language_model: bool = True
) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    """Open a checkpoint with a run's changes, in eval mode, on this process's GPU or on the CPU.

    Args:
        checkpoint: a directory, a hub name, or `mini`.
        config: the run.
        language_model: if False, leave it out, which saves memory; the model then only encodes.

    Raises:
        UserError: there is no checkpoint, or the device does not support the run's precision.
    """
    directory = checkpoint_directory(str(checkpoint))
    architecture = changed_by_run(EvlVideoConfig.from_pretrained(directory), config)
    processor = _open_processor(directory, architecture, config)
    model = EvlVideoForCaptioning.from_pretrained(
        directory,
        config=architecture,
        tower_dtype=DTYPES[resolve_precision(config.training.precision)],
        language_model=language_model,
    )
    for name, part in model.named_children():
        if language_model or name != "language_model":
            part.to(PartialState().device)
    return model, processor


def _open_processor(directory: Path, architecture: EvlVideoConfig, config: RunConfig) -> EvlVideoProcessor:
    """Open a checkpoint's processor with the run's texts; their tokens are set in the architecture."""
    processor: EvlVideoProcessor = EvlVideoProcessor.from_pretrained(directory)
    changes = _text_changes(config)
    return processor.changed(architecture, **changes) if changes else processor


def _text_changes(config: RunConfig) -> dict[str, Any]:
    """Return what a run's `text` section sets, as arguments of the processor."""
    names = {"max_tokens": "max_text_tokens"}
    return {names.get(name, name): value for name, value in asdict(config.text).items() if value is not None}


def _start_of(config: RunConfig) -> tuple[EvlVideoConfig, Path | None]:
    """Return the architecture that a run starts from, and its checkpoint, if any."""
    if config.init != TOWERS:
        directory = checkpoint_directory(config.init)
        saved = EvlVideoConfig.from_pretrained(directory)
        if config.architecture is not None:
            check_same_architecture(Path(config.architecture), saved, directory, keys=compared_keys(config))
        return changed_by_run(saved, config), directory
    architecture = run_architecture(config)
    # The file has the language model's sizes for estimates; only its own configuration has all values.
    architecture.text_config = read_text_config(architecture.language_model)
    check_same_architecture(
        Path(str(config.architecture)), architecture, Path(architecture.language_model), keys=("text_config",)
    )
    return architecture, None
