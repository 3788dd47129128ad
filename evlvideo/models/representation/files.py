"""Checkpoints of BLIP-2's first stage.

They hold the tower's norm, the queries and the Q-Former, as a captioner's do; no language projection, which the second
stage makes; and the text branch and heads in a file beside, with which the stage goes on.
"""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from evlvideo.files import replacing
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import load_trained_weights
from evlvideo.models.representation.model import RepresentationModel
from evlvideo.models.weights import copy_weights, read_weights

TEXT_BRANCH_NAME = "representation.safetensors"
"""The file that makes a checkpoint one of the first stage."""
NEW_IN_SECOND_STAGE = frozenset({"language_projection.weight", "language_projection.bias"})
"""Weights of a captioner that the first stage does not have."""


def is_first_stage(directory: Path) -> bool:
    """Whether a checkpoint is of the first stage, so that it cannot caption yet."""
    return (directory / TEXT_BRANCH_NAME).is_file()


def write_first_stage(directory: Path, captioner: EvlVideoForCaptioning, model: RepresentationModel) -> None:
    """Write a checkpoint. The captioner's language model may be empty."""
    state = {
        name: value
        for name, value in captioner.state_dict().items()
        if name not in NEW_IN_SECOND_STAGE and not value.is_meta
    }
    captioner.save_pretrained(directory, state_dict=state)
    branch = {name: weight.detach().cpu().contiguous() for name, weight in model.text_branch().items()}
    with replacing(directory / TEXT_BRANCH_NAME) as temporary:
        save_file(branch, temporary)


def read_first_stage(directory: Path, captioner: EvlVideoForCaptioning, model: RepresentationModel) -> None:
    """Load a checkpoint in place.

    Raises:
        UserError: weights are missing, too many, or of another shape; they are listed.
    """
    load_trained_weights(captioner, directory, may_be_missing=NEW_IN_SECOND_STAGE, language_model=False)
    read_text_branch(directory, model)


def read_text_branch(directory: Path, model: RepresentationModel) -> None:
    """Load the text branch and heads of a checkpoint in place.

    Raises:
        UserError: they are missing or of another shape.
    """
    own: dict[str, Tensor] = {name: weight.data for name, weight in model.text_branch().items()}
    path = directory / TEXT_BRANCH_NAME
    copy_weights(f"The text branch {path}", own, read_weights(path))
