"""Open models, to start a run or to caption; all commands open them here."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from evlvideo.assembly.architecture import changed_by_run, compared_keys, run_architecture
from evlvideo.assembly.fitted_guide import check_guide
from evlvideo.assembly.new_connector import scale_to_words, warn_if_alike
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.assembly.trained import trained_by
from evlvideo.config.run import REPRESENTATION, TOWERS, RunConfig
from evlvideo.errors import UserError, first_line, first_ten
from evlvideo.files import read_json
from evlvideo.models.architecture import check_same_architecture
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory, read_configuration
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.representation.files import NEW_IN_SECOND_STAGE, is_first_stage
from evlvideo.models.text.visual_mask import FULL_WITH_QUESTION
from evlvideo.models.towers import read_text_config
from evlvideo.models.trainable import trained_part
from evlvideo.processes import is_main
from evlvideo.progress import timed

logger = logging.getLogger(__name__)

_PROCESSOR_NAME = "processor_config.json"
_OF_PROCESSOR = {_PROCESSOR_NAME: "image_size", "tokenizer_config.json": "tokenizer_class"}
"""Files of a processor, each with a key that it always has."""


def start_model(
    config: RunConfig, *, tower_dtype: torch.dtype, language_model: bool = True
) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    """Build the model that a run starts from: a new one, or a checkpoint with the run's changes.

    Args:
        config: the run.
        tower_dtype: dtype of what is frozen of the towers.
        language_model: if False, leave it out, which saves memory; the model then only encodes.

    Raises:
        UserError: the architecture or a checkpoint is missing or wrong, `prompt_scale` or `fit_clips` is asked of a
            connector that is not new, or the run would train nothing.
    """
    architecture, directory = _start_of(config)
    opening: dict[str, Any] = {
        "trained": trained_by(config),
        "tower_dtype": tower_dtype,
        "language_model": language_model,
    }
    # What is wrong with the texts is told before a tower is loaded.
    if directory is None:
        processor = EvlVideoProcessor.for_language_model(architecture, **_text_changes(config))
        with timed(f"a new model of {config.architecture}", logger.info) as outcome:
            model = EvlVideoForCaptioning.from_towers(architecture, bert=config.connector_init, **opening)
            outcome.append(_size(model))
        processor.image_size = model.vision_tower.image_size
        if config.connector_init is not None and language_model and is_main():
            warn_if_alike(model, config.connector_init)
    else:
        processor = open_processor(directory, architecture, config)
        with timed(f"the checkpoint {config.init}", logger.info) as outcome:
            # What the first stage does not have is new in the second.
            missing = NEW_IN_SECOND_STAGE if is_first_stage(directory) else frozenset()
            model = EvlVideoForCaptioning.from_pretrained(
                directory, config=architecture, may_be_missing=missing, **opening
            )
            outcome.append(_size(model))
        check_finite(model, config.init)
    _check_trains(model, config)
    _give_opening(model, processor)
    if config.prompt_scale is not None and language_model:
        scale_to_words(model)
    if language_model and is_main():
        logger.info("Texts: %s", json.dumps(processor.shown, ensure_ascii=False))
    return model, processor


def check_start(config: RunConfig) -> None:
    """Check what a run starts from, as far as that takes no weights and no clips.

    Raises:
        UserError: there is no checkpoint or architecture, or they do not fit together or the run.
    """
    architecture, directory = _start_of(config)
    if config.stage == "scst" and directory is not None and is_first_stage(directory):
        raise UserError(
            f"init is {config.init}, of the representation stage, but the scst stage needs a model that captions "
            "already; train it with stage=caption first."
        )
    if config.stage == REPRESENTATION:
        check_first_stage(config, architecture)


def check_first_stage(config: RunConfig, architecture: EvlVideoConfig) -> None:
    """Check that the representation stage can train an architecture.

    Raises:
        UserError: there is no Q-Former, or more than one set of its queries for a clip.
    """
    if architecture.connector != "blip2":
        raise UserError(
            f"stage is {REPRESENTATION}, which trains BLIP-2's Q-Former, but connector={architecture.connector}; set "
            "model.connector to blip2."
        )
    if architecture.contextualizer != "none" or architecture.lora_r:
        raise UserError(
            f"stage is {REPRESENTATION}, but the model has contextualizer={architecture.contextualizer} and "
            f"lora_r={architecture.lora_r}; set model.contextualizer to none and model.lora_r to 0."
        )
    frames = config.data.num_frames
    if frames > 1 and architecture.fusion not in (None, "mean"):
        raise UserError(
            f"stage is {REPRESENTATION}, which compares one set of queries with a text, but data.num_frames is "
            f"{frames} and model.fusion={architecture.fusion} gives each frame its own; set data.num_frames to 1, "
            "model.fusion to mean, or model.connector_options.all_frames to true."
        )


def open_model(
    checkpoint: Path | str, config: RunConfig, *, language_model: bool = True, may_be_broken: bool = False
) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    """Open a checkpoint with a run's changes, in eval mode, on this process's GPU or on the CPU.

    Args:
        checkpoint: a directory, a hub name, or `mini`.
        config: the run.
        language_model: if False, leave it out, which saves memory; the model then only encodes.
        may_be_broken: whether trained weights may be NaN or infinite, as of a checkpoint that is inspected.

    Raises:
        UserError: there is no checkpoint, it cannot caption yet, its weights are not finite, it has no guide for the
            run's pruning, or the device does not support the run's precision.
    """
    directory = checkpoint_directory(str(checkpoint))
    if is_first_stage(directory):
        raise UserError(
            f"{checkpoint} is of the representation stage: it has a Q-Former and no language projection, so that it "
            f"neither captions nor answers. Train stage=caption with init={checkpoint} first."
        )
    architecture = changed_by_run(read_configuration(directory), config)
    processor = open_processor(directory, architecture, config)
    with timed(f"the checkpoint {checkpoint}", logger.info) as outcome:
        model = EvlVideoForCaptioning.from_pretrained(
            directory,
            config=architecture,
            trained=trained_by(config),
            tower_dtype=DTYPES[resolve_precision(config.training.precision)],
            language_model=language_model,
        )
        outcome.append(_size(model))
    if not may_be_broken:
        check_finite(model, checkpoint)
        check_guide(model, f"{checkpoint} holds none")
    _give_opening(model, processor)
    for name, part in model.named_children():
        if language_model or name != "language_model":
            part.to(PartialState().device)
    return model, processor


def open_processor(directory: Path, architecture: EvlVideoConfig, config: RunConfig) -> EvlVideoProcessor:
    """Open a checkpoint's processor with the run's texts; their tokens are set in the architecture."""
    processor = read_processor(directory)
    changes = _text_changes(config)
    # Under this mask the BOS token is no target, also if the checkpoint was trained under another.
    sees_bos = architecture.visual_mask == FULL_WITH_QUESTION and processor.bos_in_loss
    return processor.changed(architecture, **changes) if changes or sees_bos else processor


def read_processor(directory: Path) -> EvlVideoProcessor:
    """Read a checkpoint's processor.

    Raises:
        UserError: a file is missing or broken. Without them, the library would take other texts and sizes for granted.
    """
    for name, key in _OF_PROCESSOR.items():
        content = read_json(directory / name)
        if not isinstance(content, dict) or key not in content:
            raise UserError(f"{directory / name} has no {key}; copy the file from the run it belongs to.")
    try:
        processor: EvlVideoProcessor = EvlVideoProcessor.from_pretrained(directory)
    except UserError:
        raise
    except Exception as error:  # the library raises types of its own, and Python's for files of the wrong form
        raise UserError(
            f"The tokenizer or processor in {directory} cannot be read ({first_line(error)}). Copy its files, "
            "tokenizer* and processor_config.json, from the run they belong to."
        ) from error
    for name, kind in (("image_size", int), ("max_text_tokens", int), ("prompt", str), ("end_of_text", str)):
        if not isinstance(value := getattr(processor, name), kind):
            raise UserError(f"{directory / _PROCESSOR_NAME} has {name}={value!r}; it must be of type {kind.__name__}.")
    return processor


def check_finite(model: EvlVideoForCaptioning, name: Path | str) -> None:
    """Check that the weights which a checkpoint was trained to are numbers; others make captions of noise.

    Raises:
        UserError: some are not; the first ten are named.
    """
    # A language model that was left out has weights without values.
    trained = {key: weight for key, weight in model.named_parameters() if weight.requires_grad and not weight.is_meta}
    wrong = [key for key, weight in trained.items() if not weight.isfinite().all()]
    if wrong:
        raise UserError(
            f"{len(wrong)} weights of the checkpoint {name} hold NaN or infinity ({first_ten(wrong)}), as of a run "
            "that diverged. Take an earlier checkpoint; `evlvideo inspect` tells more of this one."
        )


def _check_trains(model: EvlVideoForCaptioning, config: RunConfig) -> None:
    """Refuse a run all of whose parts with a learning rate above 0 are missing from its model."""
    if any(weight.requires_grad for weight in model.parameters()):
        return
    given = {part: rate for part, rate in asdict(config.training.learning_rates).items() if rate != 0}
    found = sorted({trained_part(name) for name, _ in model.named_parameters()})
    raise UserError(
        f"The run trains nothing: the model has none of the parts with a learning rate, {', '.join(given)}; it has "
        f"{', '.join(found)}. Give one of them a rate in training.learning_rates."
    )


def _text_changes(config: RunConfig) -> dict[str, Any]:
    """Return what a run's `text` section sets, as arguments of the processor."""
    names = {"max_tokens": "max_text_tokens"}
    return {names.get(name, name): value for name, value in asdict(config.text).items() if value is not None}


def _give_opening(model: EvlVideoForCaptioning, processor: EvlVideoProcessor) -> None:
    """Let drafts continue what captions continue."""
    if (guide := model.vision_tower.pruning_guide) is not None:
        guide.opening = processor.prompt_ids()


def _check_no_start(config: RunConfig, connector: str) -> None:
    """Refuse what changes the start of a connector that is trained already."""
    for key, left_out in (("prompt_scale", None), ("fit_clips", 0)):
        if (value := getattr(config, key)) not in (None, left_out):
            raise UserError(
                f"{key} is {value}, for a new connector, but {config.init} has its {connector} already; leave {key} "
                "out (null), or set model.connector to another."
            )


def _size(model: EvlVideoForCaptioning) -> str:
    loaded = sum(value.numel() for value in model.parameters() if not value.is_meta)  # the language model may be empty
    return f"{loaded:,} weights, of which {model.num_parameters(only_trainable=True):,} are trained"


def _start_of(config: RunConfig) -> tuple[EvlVideoConfig, Path | None]:
    """Return the architecture that a run starts from, and its checkpoint, if any."""
    if config.init != TOWERS:
        directory = checkpoint_directory(config.init)
        saved = read_configuration(directory)
        if config.architecture is not None:
            check_same_architecture(Path(config.architecture), saved, directory, keys=compared_keys(config))
        architecture = changed_by_run(saved, config)
        if architecture.connector == saved.connector and not is_first_stage(directory):
            _check_no_start(config, saved.connector)
        return architecture, directory
    architecture = run_architecture(config)
    # The file has the language model's sizes for estimates; only its own configuration has all values.
    architecture.text_config = read_text_config(architecture.language_model)
    check_same_architecture(
        Path(str(config.architecture)), architecture, Path(architecture.language_model), keys=("text_config",)
    )
    return architecture, None
