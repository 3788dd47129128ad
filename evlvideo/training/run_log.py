"""Reports a run in progress: a progress bar or lines with the time left, log lines, and `log.jsonl` for curves."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evlvideo.files import write_text
from evlvideo.progress import Progress
from evlvideo.results.run_directory import LOG_NAME

logger = logging.getLogger(__name__)

_SHOWN = {
    "loss": "loss {:.3f}",
    "learning_rate": "lr {:.1e}",
    "grad_norm": "gradient norm {:.2f}",
    "reward": "reward {:.3f}",
    "greedy_reward": "greedy {:.3f}",
    "zero_advantage_share": "no advantage {:.0%}",
    "sample_tokens": "tokens {:.1f}",
    "bad_endings": "bad endings {:.0%}",
    "entropy": "entropy {:.2f}",
    "kl": "divergence {:.3f}",
    "validation_cider": "validation CIDEr {:.3f}",
}


class RunLog(TrainerCallback):
    """Shows a run's progress and writes its log.

    Args:
        directory: directory of the run.
        console: where to draw the progress bar, if it is a terminal.
    """

    def __init__(self, directory: Path, console: Console) -> None:
        self._path = directory / LOG_NAME
        self._console = console
        self._progress: Progress | None = None
        self._name = directory.name

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw the bar, and truncate the log to the step at which the run resumes."""
        if state.is_world_process_zero:
            self._restore_log(state.log_history)
        if state.is_local_process_zero:
            self._progress = Progress(
                self._name, state.max_steps, console=self._console, unit="steps", done=state.global_step
            )
            self._progress.start()

    def _restore_log(self, entries: list[dict[str, float]]) -> None:
        """Drop lines after the checkpoint, so a resumed run has the log of an uninterrupted one.

        A killed run may have logged steps after its checkpoint, and half a line.
        """
        if entries:
            write_text(self._path, "".join(map(_line, entries)))
        else:
            self._path.unlink(missing_ok=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Advance the bar."""
        if self._progress is not None:
            self._progress.update(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add a line."""
        if not state.is_world_process_zero:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as log:
            log.write(_line(state.log_history[-1]))
        shown = [form.format(logs[key]) for key, form in _SHOWN.items() if logs and key in logs]
        if shown:
            logger.info("%s step %d/%d  %s", self._name, state.global_step, state.max_steps, "  ".join(shown))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove the bar."""
        self.close()

    def close(self) -> None:
        """Remove the bar; needed after an error too."""
        if self._progress is not None:
            self._progress.stop()


def _line(entry: Mapping[str, float]) -> str:
    return json.dumps(entry, sort_keys=True) + "\n"
