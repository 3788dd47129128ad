"""Builds what BLIP-2's first stage starts from."""

from typing import NamedTuple

import torch

from evlvideo.assembly.models import start_model
from evlvideo.config.run import TOWERS, RunConfig
from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.representation.files import is_first_stage, read_text_branch
from evlvideo.models.representation.model import RepresentationModel, TextSizes
from evlvideo.models.representation.texts import PairTokenizer
from evlvideo.models.towers import read_manifest
from evlvideo.models.trainable import holds_some_of


class FirstStage(NamedTuple):
    """What the first stage trains, and what its checkpoints are made of."""

    model: RepresentationModel
    captioner: EvlVideoForCaptioning
    """Shares tower, norm and connector with the model. Its language model is empty."""
    processor: EvlVideoProcessor
    tokenizer: PairTokenizer


def start_first_stage(config: RunConfig, *, tower_dtype: torch.dtype) -> FirstStage:
    """Build the model that a run of the representation stage starts from.

    The language model's weights are neither read nor needed; its configuration and tokenizer are, for checkpoints. A
    checkpoint of the same stage brings its text branch; any other start gets a new one, from the BERT that the
    connector starts from, if any.

    Args:
        config: the run.
        tower_dtype: dtype of the frozen tower.

    Raises:
        UserError: as :func:`~evlvideo.assembly.models.start_model`, or there is no such tokenizer.
    """
    tokenizer = PairTokenizer(config.representation.tokenizer, config.representation.text_tokens)
    captioner, processor = start_model(config, tower_dtype=tower_dtype, language_model=False)
    if holds_some_of("language_model", captioner.held_weights):
        raise UserError(
            f"{config.init} holds a language model that was trained, which the first stage would leave out; start from "
            "a checkpoint whose language model stayed frozen."
        )
    model = RepresentationModel(captioner, text_sizes(config, tokenizer))
    directory = None if config.init == TOWERS else checkpoint_directory(config.init)
    known = {} if directory is None else read_manifest(directory)
    # It is not loaded, so its fingerprint is that of the start, if there is one.
    captioner.tower_fingerprints["language_model"] = (
        known["language_model"].fingerprint if "language_model" in known else None
    )
    if directory is not None and is_first_stage(directory):
        read_text_branch(directory, model)
    elif config.connector_init is not None:
        model.load_bert(config.connector_init, tokenizer.own_tokens)
    return FirstStage(model.eval(), captioner, processor, tokenizer)


def text_sizes(config: RunConfig, tokenizer: PairTokenizer) -> TextSizes:
    """Return the sizes of a run's text branch."""
    return TextSizes(
        vocabulary=len(tokenizer),
        max_tokens=config.representation.text_tokens,
        width=config.representation.width,
        pad_token_id=tokenizer.pad_token_id,
        decoding_token_id=tokenizer.decoding_token_id,
    )
