"""Reports a run in progress: a bar or lines with the time left, log lines, `log.jsonl`, and what validations saw."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evlvideo.files import write_text
from evlvideo.metrics.names import format_score
from evlvideo.progress import Progress
from evlvideo.results.run_directory import LOG_NAME
from evlvideo.results.validation_records import ValidationRecord, append_record, keep_records

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
    "contrast_loss": "contrast {:.3f}",
    "matching_loss": "matching {:.3f}",
    "generation_loss": "generation {:.3f}",
    "validation_loss": "validation loss {:.3f}",
    "validation_contrast_loss": "contrast {:.3f}",
    "validation_matching_loss": "matching {:.3f}",
    "validation_generation_loss": "generation {:.3f}",
    "validation_image_to_text_r1": "R@1 {:.0%} image to text",
    "validation_text_to_image_r1": "{:.0%} text to image",
    "validation_cider": "validation CIDEr {}",
    "validation_accuracy": "right answers {:.1%}",
    "validation_distinct": "distinct {:.0%}",
    "validation_bad_endings": "bad endings {:.0%}",
    "validation_prompt_between": "prompts {:.3g} apart between clips",
    "validation_prompt_within": "{:.3g} within",
    "validation_prompt_norm": "norm {:.3g}",
}


class RunLog(TrainerCallback):
    """Shows a run's progress and writes its log.

    Args:
        directory: directory of the run.
        console: where to draw the progress bar, if it is a terminal.
        record: returns what the validation saw whose line is logged.
    """

    def __init__(
        self, directory: Path, console: Console, record: Callable[[], ValidationRecord | None] = lambda: None
    ) -> None:
        self._record = record
        self._directory = directory
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
            keep_records(self._directory, state.global_step)
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
        shown = _shown(logs or {}, state.log_history)
        if shown:
            logger.info("%s step %d/%d  %s", self._name, state.global_step, state.max_steps, "  ".join(shown))
        record = self._record()
        if logs and "validation_clips" in logs and record is not None:
            self._report(record)

    def _report(self, record: ValidationRecord) -> None:
        """Show a validation's samples and warnings, and keep them."""
        for sample in record.samples:
            logger.info("%s %s: %s", self._name, sample.clip_id, sample.caption or "(no words)")
            logger.info("%s   references: %s", self._name, " · ".join(sample.references) or "(none)")
        for warning in record.warnings:
            logger.warning("%s step %d  %s", self._name, record.step, warning)
        if record.samples or record.warnings:
            append_record(self._directory, record)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove the bar."""
        self.close()

    def close(self) -> None:
        """Remove the bar; needed after an error too."""
        if self._progress is not None:
            self._progress.stop()


def _shown(logs: Mapping[str, float], log_history: Sequence[Mapping[str, float]]) -> list[str]:
    """Values for people to read; a validation's loss stands beside that of the last training line."""
    values: dict[str, object] = {**logs}
    if "validation_cider" in logs:
        values["validation_cider"] = format_score(logs["validation_cider"])
    shown = [form.format(values[key]) for key, form in _SHOWN.items() if key in values]
    # A self-critical run minimises another loss.
    losses = [entry["loss"] for entry in log_history if "loss" in entry and "reward" not in entry]
    if "validation_loss" in logs and losses:
        shown.insert(0, f"loss {losses[-1]:.3f}")
    return shown


def _line(entry: Mapping[str, float]) -> str:
    return json.dumps(entry, sort_keys=True) + "\n"
