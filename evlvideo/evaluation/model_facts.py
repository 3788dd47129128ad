"""What a result says of the model that was evaluated, and whether that is the checkpoint's own."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from evlvideo.assembly.architecture import changed_by_run
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.models.checkpoint import read_configuration
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.text.visual_mask import CAUSAL


def model_facts(checkpoint: Path, evaluated: EvlVideoConfig) -> dict[str, Any]:
    """Collect the fields of a result that say how the model read the images.

    Args:
        checkpoint: where the weights came from.
        evaluated: the model's configuration in this evaluation.

    Returns:
        `pruning`, how the tower pruned in training and evaluation, or None if it never did; and `visual_mask`, or None
        for the default.
    """
    return {
        "pruning": _pruning(read_configuration(checkpoint), evaluated),
        "visual_mask": None if evaluated.visual_mask == CAUSAL else evaluated.visual_mask,
    }


def _pruning(trained: EvlVideoConfig, evaluated: EvlVideoConfig) -> dict[str, Any] | None:
    if trained.tower_pruning is None and evaluated.tower_pruning is None:
        return None
    return {
        **(evaluated.pruning or {}),
        "guide": evaluated.pruning_guide,
        "guide_in_training": trained.guide_in_training,
    }


def check_same_model(checkpoint: Path, config: RunConfig) -> None:
    """Check that a config leaves a checkpoint's model as it is; another model's result would replace the run's own.

    Raises:
        UserError: it changes the model.
    """
    saved = read_configuration(checkpoint)
    # A config may name some of the options that a checkpoint holds.
    asked = changed_by_run(saved, config)
    changed = [f"model.{name}" for name in asdict(config.model) if getattr(asked, name) != getattr(saved, name)]
    if changed:
        raise UserError(
            f"{', '.join(changed)} would make another model of {checkpoint}, and replace the run's own result. "
            "`evlvideo sweep --evaluate-only` evaluates a checkpoint with other values, in directories of their own."
        )
