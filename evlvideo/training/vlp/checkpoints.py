"""Checkpoints that pre-training resumes from, bit for bit: complete, or absent."""

import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evlvideo.config.loading import load_config_of, save_config
from evlvideo.config.settings import flat_settings
from evlvideo.config.vlp import VlpConfig
from evlvideo.errors import UserError
from evlvideo.files import new_directory, replacing
from evlvideo.models.vlp.hosts.files import save_host
from evlvideo.results.run_directory import CHECKPOINTS_NAME, SUMMARY_NAME

STATE_NAME = "training_state.pt"
"""The optimizer, random states, and sums since the last log line."""
TEACHER_NAME = "pretraining.safetensors"
"""The temperature, the queue and the teacher."""
CONFIG_OF_CHECKPOINT = "run_config.yaml"
"""What the checkpoint was trained with."""
_OF_TRAINING = (STATE_NAME, TEACHER_NAME, CONFIG_OF_CHECKPOINT)
_HOST = "host."
_NAME = re.compile(r"checkpoint-(\d+)")
_MAY_CHANGE = ("output_dir", "data.num_workers", "evaluation.")
_MAY_CHANGE_OF_TRAINING = ("max_steps", "eval_steps", "keep_checkpoints", "log_steps")


def save_checkpoint(
    directory: Path, step: int, pretraining: Any, tokenizer: Any, config: VlpConfig, state: dict[str, Any]
) -> Path:
    """Write a checkpoint of a step.

    Args:
        directory: of the run.
        step: steps done.
        pretraining: the model with its losses.
        tokenizer: the model's.
        config: of the run.
        state: the rest of what resuming needs.
    """
    path = _path(directory, step)
    if path.exists():  # of a run that was interrupted at a later step, and resumed at an earlier one
        shutil.rmtree(path)
    with new_directory(path) as temporary:
        save_host(pretraining.host, tokenizer, temporary)
        save_file(_beside_host(pretraining), temporary / TEACHER_NAME)
        save_config(config, temporary / CONFIG_OF_CHECKPOINT)
        torch.save(state, temporary / STATE_NAME)
    return path


def _beside_host(pretraining: nn.Module) -> dict[str, Tensor]:
    """Return what is trained beside the host, or follows it. The teacher's tied weights are copied."""
    return {name: value.clone() for name, value in pretraining.state_dict().items() if not name.startswith(_HOST)}


def load_checkpoint(checkpoint: Path, pretraining: nn.Module) -> dict[str, Any]:
    """Load a checkpoint into a model with its losses; return the rest of its state.

    Raises:
        UserError: it is broken, or of another model.
    """
    try:
        host = load_file(checkpoint / "model.safetensors")
        weights = {**{_HOST + name: value for name, value in host.items()}, **load_file(checkpoint / TEACHER_NAME)}
        pretraining.load_state_dict(weights)
        state: dict[str, Any] = torch.load(checkpoint / STATE_NAME, map_location="cpu", weights_only=True)
        return state
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].strip()
        raise UserError(
            f"{checkpoint} cannot be resumed from: {reason}. Remove it, to go on from the one before."
        ) from error


def checkpoint_to_resume(directory: Path, resume: bool) -> Path | None:
    """Find the newest checkpoint; None for a new run.

    Raises:
        UserError: there is nothing to resume, or a new run would overwrite an old one.
    """
    steps = steps_of_checkpoints(directory)
    if resume and not steps:
        raise UserError(
            f"There is no checkpoint to resume from in {directory / CHECKPOINTS_NAME}; train without --resume."
        )
    if not resume and (steps or (directory / SUMMARY_NAME).exists()):
        raise UserError(
            f"{directory} already holds a run. Add --resume to continue it, name another output_dir, or remove it."
        )
    return _path(directory, steps[-1]) if resume else None


def check_same_config(config: VlpConfig, checkpoint: Path) -> None:
    """Check that a run goes on with what it was trained with; steps, logging and evaluation may change.

    Raises:
        UserError: something else has changed.
    """
    before = flat_settings(asdict(load_config_of(VlpConfig, checkpoint / CONFIG_OF_CHECKPOINT)))
    now = flat_settings(asdict(config))
    allowed = (*_MAY_CHANGE, *(f"training.{name}" for name in _MAY_CHANGE_OF_TRAINING))
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(allowed)
    ]
    if changed:
        raise UserError(f"{checkpoint} cannot be resumed with another config: {'; '.join(changed)}.")


def steps_of_checkpoints(directory: Path) -> list[int]:
    """List the steps of a run's checkpoints, rising."""
    named = (_NAME.fullmatch(path.name) for path in (directory / CHECKPOINTS_NAME).glob("checkpoint-*"))
    return sorted(int(match[1]) for match in named if match)


def rotate(directory: Path, keep: int, best: int | None) -> None:
    """Remove the oldest checkpoints, but for the newest `keep` and the best."""
    for step in steps_of_checkpoints(directory)[:-keep]:
        if step != best:
            shutil.rmtree(_path(directory, step), ignore_errors=True)


def publish(directory: Path, step: int) -> None:
    """Copy a checkpoint's model into the run's directory."""
    for file in sorted(_path(directory, step).iterdir()):
        if file.name not in _OF_TRAINING:
            with replacing(directory / file.name) as temporary:
                shutil.copyfile(file, temporary)


def _path(directory: Path, step: int) -> Path:
    return directory / CHECKPOINTS_NAME / f"checkpoint-{step}"
