"""Trains BLIP-2's first stage on the trainer of captioners."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import TrainingArguments

from evlvideo.assembly.first_stage import FirstStage
from evlvideo.config.training import RepresentationConfig
from evlvideo.data.loading.collate import visual_inputs
from evlvideo.errors import Interrupted, UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.representation.files import read_first_stage, write_first_stage
from evlvideo.models.representation.model import RepresentationModel
from evlvideo.models.representation.texts import TEXT_IDS, TEXT_MASK
from evlvideo.training.representation.pairs import CLIPS, PairCollator
from evlvideo.training.representation.validation import LOSSES, validate_pairs, weighted
from evlvideo.training.seeds import sampling_seeds
from evlvideo.training.trainer import CaptionTrainer


class RepresentationTrainer(CaptionTrainer):
    """Trains a Q-Former by contrast, matching and generation, and validates by the same losses in eval mode.

    The best checkpoint has the least validation loss. Checkpoints are what
    :mod:`evlvideo.models.representation.files` writes.

    Args:
        first_stage: the model, and what its checkpoints are made of.
        weights: of the losses.
        common: further arguments of :class:`~evlvideo.training.trainer.CaptionTrainer`, but for model, processor and
            collator.

    Raises:
        UserError: a step of all processes has a single pair, which has no negatives.
    """

    validation_key: ClassVar[str] = "validation_loss"
    lower_is_better: ClassVar[bool] = True

    def __init__(self, *, first_stage: FirstStage, weights: RepresentationConfig, **common: Any) -> None:
        args: TrainingArguments = common["args"]
        if args.per_device_train_batch_size * args.world_size < 2:
            raise UserError(
                "training.batch_size is 1, and one process trains, so that no pair has another to be contrasted with; "
                "set it to 2 or more."
            )
        self._captioner = first_stage.captioner
        self.weights = weights
        self._negatives = torch.Generator()
        self._seeded_step: int | None = None
        self._collator = PairCollator(first_stage.tokenizer)
        super().__init__(
            model=first_stage.model, processor=first_stage.processor, data_collator=self._collator, **common
        )

    @property
    def captioner(self) -> EvlVideoForCaptioning:
        """The captioner that the Q-Former is for. Its language model is empty."""
        return self._captioner

    @property
    def trained(self) -> RepresentationModel:
        """The model without its wrapper for several processes."""
        return cast(RepresentationModel, self.accelerator.unwrap_model(self.model))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the weighted sum of the losses: the mean over the pairs of a pass, and over the passes of a step."""
        given = {**visual_inputs(inputs), **{name: inputs[name] for name in (TEXT_IDS, TEXT_MASK, CLIPS)}}
        output = model(**given, generator=self._generator())
        losses: Mapping[str, Tensor] = {name: output[f"{name}_loss"] for name in LOSSES}
        for name, value in losses.items():
            self.means.add(f"{name}_loss", value, 1)
        loss = weighted(losses, self.weights)
        self.check_finite(loss, inputs["clip_ids"])
        return (loss, output) if return_outputs else loss

    def _generator(self) -> torch.Generator:
        """Return what draws negatives. It starts anew at each step, so that a resumed run draws the same ones."""
        if self._seeded_step != self.state.global_step:
            self._seeded_step = self.state.global_step
            (seed,) = sampling_seeds(self.args.seed, self._seeded_step, [self.args.process_index])
            self._negatives.manual_seed(seed)
        return self._negatives

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Compute the losses on the validation clips; `eval_loss` selects the best checkpoint.

        Raises:
            UserError: the run has diverged, or there are no two clips to compare.
        """
        self._check_all_finite()
        started = time.perf_counter()
        try:
            found = validate_pairs(
                self.trained,
                cast("Dataset[dict[str, Any]]", eval_dataset or self.eval_dataset),
                self._collator,
                batch_size=self.args.per_device_train_batch_size,
                num_workers=self.args.dataloader_num_workers,
                stop=self._cut_validation,
            )
        except Interrupted:
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, {})
            return {}
        self._validation_seconds += time.perf_counter() - started
        values = found.log_values(self.weights)
        self.log(values)
        metrics = {"eval_loss": values[self.validation_key]}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def look_at_start(self) -> None:
        """Nothing to look at: there are no soft prompts yet."""

    def write_model(self, directory: Path) -> None:
        """Write the model and its processor."""
        write_first_stage(directory, self.captioner, self.trained)
        self.processor.save_pretrained(directory)

    def load_weights(self, checkpoint: Path) -> None:
        """Load the weights of a checkpoint in place."""
        read_first_stage(checkpoint, self.captioner, self.trained)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.args.should_save:
            self.write_model(Path(str(output_dir)))
            torch.save(self.args, Path(str(output_dir)) / "training_args.bin")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the temperature beside training's losses."""
        if "loss" in logs:
            logs["contrast_temperature"] = self.trained.temperature.item()
        super().log(logs, start_time)
