"""Keeps what a run was trained with in each checkpoint: its config, and what changed when it was resumed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlvideo.config.loading import load_config, save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.files import read_json, write_json
from evlvideo.results.run_directory import CONFIG_NAME

CONFIG_OF_CHECKPOINT = "run_config.yaml"
"""A checkpoint's config. A run's own name for it would make the checkpoint a run."""
CHANGES_NAME = "run_changes.json"
"""Changes up to a checkpoint, if there were any."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run is trained with."""

    config: RunConfig
    """Now."""
    changes: tuple[dict[str, Any], ...] = ()
    """Of each resume that changed something, in order: its `step`, and `changed`, key → values before and since."""

    def write(self, checkpoint: Path) -> None:
        """Write the record beside a checkpoint's weights."""
        save_config(self.config, checkpoint / CONFIG_OF_CHECKPOINT)
        if self.changes:
            write_json(checkpoint / CHANGES_NAME, list(self.changes))


def read_record(run: Path, checkpoint: Path) -> RunRecord | None:
    """Read what a checkpoint was trained with: of earlier versions' checkpoints, what the run's config says.

    Returns:
        None if the run has no config either.

    Raises:
        UserError: the record cannot be read.
    """
    path = checkpoint / CONFIG_OF_CHECKPOINT
    path = path if path.is_file() else run / CONFIG_NAME
    if not path.is_file():
        return None
    changes = read_json(checkpoint / CHANGES_NAME) if (checkpoint / CHANGES_NAME).is_file() else []
    if not isinstance(changes, list):
        raise UserError(f"{checkpoint / CHANGES_NAME} is not a list of changes.")
    return RunRecord(load_config(path), tuple(changes))
