"""Open models, to start a run or to caption; all commands open them here."""

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from evlvideo.assembly.architecture import changed_by_run, compared_keys, run_architecture
from evlvideo.assembly.new_connector import scale_to_words, warn_if_alike
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.config.run import TOWERS, RunConfig
from evlvideo.errors import UserError
from evlvideo.models.architecture import check_same_architecture
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.towers import read_text_config
from evlvideo.processes import is_main


def start_model(
    config: RunConfig, *, tower_dtype: torch.dtype, language_model: bool = True
) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    """Build the model that a run starts from: a new one, or a checkpoint with the run's changes.

    Args:
        config: the run.
        tower_dtype: dtype of the frozen towers.
        language_model: if False, leave it out, which saves memory; the model then only encodes.

    Raises:
        UserError: the architecture or a checkpoint is missing or wrong, or `prompt_scale` is asked of a connector that
            is not new.
    """
    architecture, directory = _start_of(config)
    opening: dict[str, Any] = {"tower_dtype": tower_dtype, "language_model": language_model}
    if directory is None:
        model = EvlVideoForCaptioning.from_towers(architecture, bert=config.connector_init, **opening)
        processor = EvlVideoProcessor.for_towers(model.config, model.vision_tower)
        if config.connector_init is not None and language_model and is_main():
            warn_if_alike(model, config.connector_init)
    else:
        model = EvlVideoForCaptioning.from_pretrained(directory, config=architecture, **opening)
        processor = EvlVideoProcessor.from_pretrained(directory)
    if config.prompt_scale is not None and language_model:
        scale_to_words(model)
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
    model = EvlVideoForCaptioning.from_pretrained(
        directory,
        config=changed_by_run(EvlVideoConfig.from_pretrained(directory), config),
        tower_dtype=DTYPES[resolve_precision(config.training.precision)],
        language_model=language_model,
    )
    for name, part in model.named_children():
        if language_model or name != "language_model":
            part.to(PartialState().device)
    return model, EvlVideoProcessor.from_pretrained(directory)


def _start_of(config: RunConfig) -> tuple[EvlVideoConfig, Path | None]:
    """Return the architecture that a run starts from, and its checkpoint, if any."""
    if config.init != TOWERS:
        directory = checkpoint_directory(config.init)
        saved = EvlVideoConfig.from_pretrained(directory)
        if config.architecture is not None:
            check_same_architecture(Path(config.architecture), saved, directory, keys=compared_keys(config))
        architecture = changed_by_run(saved, config)
        if config.prompt_scale is not None and architecture.connector == saved.connector:
            raise UserError(
                f"prompt_scale is {config.prompt_scale}, for a new connector, but {config.init} has its "
                f"{saved.connector} already; leave prompt_scale out (null), or set model.connector to another."
            )
        return architecture, directory
    architecture = run_architecture(config)
    # The file has the language model's sizes for estimates; only its own configuration has all values.
    architecture.text_config = read_text_config(architecture.language_model)
    check_same_architecture(
        Path(str(config.architecture)), architecture, Path(architecture.language_model), keys=("text_config",)
    )
    return architecture, None
