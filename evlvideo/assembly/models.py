"""From a run's config to its model."""

from pathlib import Path

import torch
from accelerate import PartialState

from evlvideo.assembly.architecture import changed_by_run, compared_keys, run_architecture
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.config.run import TOWERS, RunConfig
from evlvideo.models.architecture import check_same_architecture
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory, load_frozen_towers, load_own_tower, read_text_config
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import EvlVideoProcessor


def start_model(config: RunConfig, *, tower_dtype: torch.dtype) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    """Make the model that a run starts from: a new one, or a checkpoint's with the changes that the run makes to it."""
    architecture, directory = _start_of(config)
    if directory is None:
        model = EvlVideoForCaptioning.from_towers(architecture, bert=config.connector_init, tower_dtype=tower_dtype)
    else:
        model = EvlVideoForCaptioning.from_pretrained(directory, config=architecture, tower_dtype=tower_dtype)
    return model, _processor_of(model, directory)


def start_tower(config: RunConfig, *, tower_dtype: torch.dtype) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    """Make :func:`start_model`'s as far as its vision tower: nothing else has weights that were read."""
    architecture, directory = _start_of(config)
    model = without_language_model(architecture, directory, tower_dtype=tower_dtype)
    if directory is not None:
        load_own_tower(model, directory)
    return model.eval(), _processor_of(model, directory)


def without_language_model(
    architecture: EvlVideoConfig, directory: Path | None, *, tower_dtype: torch.dtype
) -> EvlVideoForCaptioning:
    """A captioner whose language model takes no memory, with its frozen vision tower and trained parts at random."""
    model = EvlVideoForCaptioning(architecture, empty_language_model=True)
    load_frozen_towers(model, directory, dtype=tower_dtype, only={"vision_tower"})
    return model


def _start_of(config: RunConfig) -> tuple[EvlVideoConfig, Path | None]:
    """The architecture that a run starts from, and its checkpoint where there is one."""
    if config.init != TOWERS:
        directory = checkpoint_directory(config.init)
        saved = EvlVideoConfig.from_pretrained(directory)
        if config.architecture is not None:
            check_same_architecture(Path(config.architecture), saved, directory, keys=compared_keys(config))
        return changed_by_run(saved, config), directory
    architecture = run_architecture(config)
    # The file states the language model's sizes for estimates; its own configuration says all.
    architecture.text_config = read_text_config(architecture.language_model)
    # All else is from the file, with what the run changes.
    check_same_architecture(
        Path(str(config.architecture)), architecture, Path(architecture.language_model), keys=("text_config",)
    )
    return architecture, None


def _processor_of(model: EvlVideoForCaptioning, directory: Path | None) -> EvlVideoProcessor:
    if directory is None:
        return EvlVideoProcessor.for_towers(model.config, model.vision_tower)
    return EvlVideoProcessor.from_pretrained(directory)


def open_model(checkpoint: Path | str, config: RunConfig) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    """Open a checkpoint for captioning, changed as the run says, on this process's GPU or on the CPU.

    Raises:
        UserError: there is no checkpoint, or the device does not compute in the run's precision.
    """
    directory = checkpoint_directory(str(checkpoint))
    model = EvlVideoForCaptioning.from_pretrained(
        directory,
        config=changed_by_run(EvlVideoConfig.from_pretrained(directory), config),
        tower_dtype=DTYPES[resolve_precision(config.training.precision)],
    )
    return model.to(PartialState().device), EvlVideoProcessor.from_pretrained(directory)


def trained_parameters(model: EvlVideoForCaptioning) -> int:
    """How many numbers take gradients."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
