"""The loop of pre-training and of classifiers: steps, log lines, validations and checkpoints."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from rich.console import Console
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from evlvideo.config.loading import save_config
from evlvideo.config.vlp import ClassifierConfig, VlpConfig
from evlvideo.data.loading.mixture import Mixture
from evlvideo.errors import Interrupted
from evlvideo.files import write_json, write_text
from evlvideo.models.vlp.classification import ClassifierTraining
from evlvideo.models.vlp.clip_pretraining import ClipPretraining
from evlvideo.models.vlp.pretraining import MatchingPretraining
from evlvideo.processes import is_main, on_main_process
from evlvideo.progress import Progress
from evlvideo.results.provenance import git_commit
from evlvideo.results.run_directory import CHECKPOINTS_NAME, CONFIG_NAME, LOG_NAME, SUMMARY_NAME
from evlvideo.training.health.finite import FiniteLosses, check_weights
from evlvideo.training.resuming.running_means import RunningMeans
from evlvideo.training.seeds import seed_of_step, seed_process
from evlvideo.training.stopping import GracefulStop
from evlvideo.training.vlp.batches import steps_of
from evlvideo.training.vlp.checkpoints import load_checkpoint, publish, rotate, save_checkpoint
from evlvideo.training.vlp.optimization import alpha_of, generator_of, learning_rate_of, make_optimizer
from evlvideo.training.vlp.validation import Validation

logger = logging.getLogger(__name__)

_INPUTS = ("pixel_values", "input_ids", "attention_mask", "labels")
"""What models take of a batch, as far as it has them."""


class Loop:
    """Trains a model. All processes run it.

    Args:
        config: the run.
        directory: of the run.
        pretraining: the model with its losses.
        tokenizer: the model's.
        dataset: items, in training order.
        collator: makes batches.
        validation: validates the same model.
        dtype: what to compute in.
        facts: what else the run's summary tells.
    """

    def __init__(
        self,
        config: VlpConfig | ClassifierConfig,
        directory: Path,
        pretraining: MatchingPretraining | ClipPretraining | ClassifierTraining,
        tokenizer: Any,
        dataset: Mixture,
        collator: Callable[[list[Any]], Any],
        validation: Validation,
        dtype: torch.dtype,
        facts: Mapping[str, Any],
    ) -> None:
        self._config, self._directory, self._tokenizer = config, directory, tokenizer
        self._dataset, self._collator, self._validation = dataset, collator, validation
        self._dtype, self._facts = dtype, facts
        self._processes = PartialState()
        self._device = self._processes.device
        self._pretraining = pretraining.to(self._device)
        self._optimizer = make_optimizer(pretraining, config.training)
        self._model: nn.Module = self._distributed()
        self._losses = FiniteLosses()
        self._step = 0
        self._means = RunningMeans()
        self._log: list[dict[str, Any]] = []
        self._seconds = 0.0
        self._best: tuple[int, float] | None = None
        """Step and value of the best checkpoint."""

    def _distributed(self) -> nn.Module:
        if self._processes.num_processes == 1:
            return self._pretraining
        recipe = getattr(self._pretraining, "recipe", None)
        unused = recipe is not None and not (recipe.matching and recipe.language)
        return DistributedDataParallel(
            self._pretraining,
            device_ids=[self._device] if self._device.type == "cuda" else None,
            broadcast_buffers=False,  # The queue is large, and the same everywhere.
            find_unused_parameters=unused,
        )

    def train(self, checkpoint: Path | None, console: Console) -> None:
        """Train from the start, or from a checkpoint.

        Raises:
            UserError: the run has diverged, or the checkpoint is broken.
            Interrupted: a signal stopped the run.
        """
        training = self._config.training
        if checkpoint is not None:
            self._resume(checkpoint)
        on_main_process(self._begin)
        self._model.train()
        stop = GracefulStop()
        progress = Progress(self._directory.name, training.max_steps, console=console, unit="steps", done=self._step)
        steps = steps_of(self._dataset, self._collator, training, self._step, num_workers=self._config.data.num_workers)
        started = time.perf_counter()
        before = self._seconds
        with stop.listening(), progress:
            try:
                for batches in steps:
                    norm = self._take_step(batches)
                    self._seconds = before + time.perf_counter() - started
                    progress.update(self._step)
                    last, stopped = self._step == training.max_steps, self._any(stop.signalled)
                    if self._step % training.log_steps == 0 or last:
                        self._write_line(norm)
                    if (self._step % training.eval_steps == 0 and not stopped) or last:
                        paused = time.perf_counter()
                        self._validate()
                        started += time.perf_counter() - paused
                        stopped = self._any(stop.signalled)
                    if self._step % training.eval_steps == 0 or last or stopped:
                        self._save()
                    if stopped and not last:
                        raise Interrupted(self._how_to_go_on())
            finally:
                steps.close()
        on_main_process(self._finish)

    def _any(self, value: bool) -> bool:
        if self._processes.num_processes == 1:
            return value
        return bool(reduce(torch.tensor(float(value), device=self._device), "sum").item())

    def _how_to_go_on(self) -> str:
        return (
            f"Stopped at step {self._step} of {self._config.training.max_steps}, with a checkpoint in "
            f"{self._directory / CHECKPOINTS_NAME}. Give the same command with --resume to continue."
        )

    def _take_step(self, batches: list[dict[str, Any]]) -> Tensor | None:
        """Take an optimizer step; return the norm of its gradients if they are clipped."""
        training = self._config.training
        rate = learning_rate_of(self._step, training)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._pretraining.before_step()
        for micro, batch in enumerate(batches):
            last = micro == len(batches) - 1
            with nullcontext() if last or self._model is self._pretraining else self._model.no_sync():  # type: ignore[operator]  # DDP's
                losses = self._losses_of(batch, micro)
                (losses["loss"] / len(batches)).backward()
            self._note(losses, batch["clip_ids"])
        norm = None
        if training.max_grad_norm:
            norm = nn.utils.clip_grad_norm_(self._pretraining.parameters(), training.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._step += 1
        return norm

    def _losses_of(self, batch: Mapping[str, Any], micro: int) -> dict[str, Tensor]:
        inputs = {name: batch[name].to(self._device, non_blocking=True) for name in _INPUTS if name in batch}
        generator = generator_of(self._config.seed, self._step, micro, self._processes.process_index)
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            losses: dict[str, Tensor] = self._model(
                **inputs, alpha=alpha_of(self._step, self._config.losses), generator=generator
            )
        return losses

    def _note(self, losses: Mapping[str, Tensor], clip_ids: list[str]) -> None:
        self._losses.note(losses["loss"], self._step + 1, clip_ids)
        for name, loss in losses.items():
            self._means.add(name, loss, 1)

    def _write_line(self, norm: Tensor | None) -> None:
        """Log the mean losses since the last line, over all processes."""
        self._losses.look()
        temperature = getattr(self._pretraining, "temp", None)
        self._add_line(
            self._means.take()
            | {"learning_rate": learning_rate_of(self._step - 1, self._config.training)}
            | ({} if temperature is None else {"temperature": temperature.item()})
            | ({} if norm is None else {"grad_norm": norm.item()})
        )

    def _validate(self) -> None:
        self._losses.look()
        check_weights(self._pretraining, self._step)
        values = self._validation.measure()
        value = values[self._validation.selects]
        if self._best is None or value > self._best[1]:
            self._best = (self._step, value)
        self._add_line(values)

    def _add_line(self, values: Mapping[str, float]) -> None:
        entry = {"step": self._step, **values, "training_seconds": round(self._seconds, 3)}
        self._log.append(entry)
        if is_main():
            with (self._directory / LOG_NAME).open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            logger.info("%s step %d/%d  %s", self._directory.name, self._step, self._config.training.max_steps, shown)

    def _save(self) -> None:
        self._losses.look()
        check_weights(self._pretraining, self._step)
        state = {
            "step": self._step,
            "optimizer": self._optimizer.state_dict(),
            "random": gather_object([self._random_state()]),
            "sums": self._means.sums(),
            "log": self._log,
            "seconds": self._seconds,
            "best": self._best,
        }
        on_main_process(lambda: self._write_checkpoint(state))

    def _write_checkpoint(self, state: dict[str, Any]) -> None:
        config = self._config
        save_checkpoint(self._directory, self._step, self._pretraining, self._tokenizer, config, state)
        rotate(self._directory, config.training.keep_checkpoints, self._best[0] if self._best else None)

    def _random_state(self) -> dict[str, Tensor]:
        cuda = {"cuda": torch.cuda.get_rng_state(self._device)} if self._device.type == "cuda" else {}
        return {"cpu": torch.get_rng_state(), **cuda}

    def _resume(self, checkpoint: Path) -> None:
        state = load_checkpoint(checkpoint, self._pretraining)
        self._optimizer.load_state_dict(state["optimizer"])
        self._step, self._log = state["step"], state["log"]
        self._seconds, self._best = state["seconds"], state["best"]
        if is_main():
            self._means.restore(state["sums"])
        index, count = self._processes.process_index, self._processes.num_processes
        if len(state["random"]) != count:
            # Other processes have no states to go on from. Those of the run's start would repeat its dropout.
            seed_process(seed_of_step(self._config.seed, self._step), index)
            return
        torch.set_rng_state(state["random"][index]["cpu"])
        if "cuda" in state["random"][index] and self._device.type == "cuda":
            torch.cuda.set_rng_state(state["random"][index]["cuda"], self._device)

    def _begin(self) -> None:
        """Write the config, and the log up to the step that the run begins at: a killed run may have logged more."""
        save_config(self._config, self._directory / CONFIG_NAME)
        (self._directory / SUMMARY_NAME).unlink(missing_ok=True)
        write_text(self._directory / LOG_NAME, "".join(json.dumps(entry) + "\n" for entry in self._log))

    def _finish(self) -> None:
        """Write the best checkpoint's model and the run's summary into the run's directory."""
        assert self._best is not None, "the last step validates"
        step, value = self._best
        selects = self._validation.selects.removeprefix("validation_")
        publish(self._directory, step)
        write_json(
            self._directory / SUMMARY_NAME,
            {
                "name": self._directory.name,
                **self._facts,
                "seed": self._config.seed,
                "commit": git_commit(),
                "steps": self._step,
                "best_step": step,
                f"best_{selects}": value,
                "trained_parameters": sum(w.numel() for w in self._pretraining.parameters() if w.requires_grad),
                "seconds": round(self._seconds, 1),
                "processes": self._processes.num_processes,
                "device": str(self._device),
            },
        )
        logger.info("%s: the best checkpoint is of step %d, with %s %.3f", self._directory, step, selects, value)
