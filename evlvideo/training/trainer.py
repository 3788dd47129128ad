"""Trains by cross-entropy on transformers' Trainer, and validates by the captions that the model generates."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from evlvideo.config.generation import GenerationConfig
from evlvideo.config.training import LearningRatesConfig
from evlvideo.data.loading.collate import visual_inputs
from evlvideo.errors import Interrupted, UserError
from evlvideo.inference.answering import Questionnaire
from evlvideo.inference.captions import name_special_tokens
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import load_trained_weights
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.text.cut_texts import CutTexts
from evlvideo.results.validation_records import Sample, ValidationRecord
from evlvideo.training.arguments import use_one_gpu
from evlvideo.training.callbacks import EpochOfDataset, Resumed, StartOfRun
from evlvideo.training.contrast import Contrast
from evlvideo.training.health.collapse import signs_of_validation
from evlvideo.training.health.finite import FiniteLosses, check_weights
from evlvideo.training.ordered_batches import OrderedTrainer
from evlvideo.training.parameter_groups import chosen_optimizer, parameter_groups, peak_rates, rates_of_step, take_rates
from evlvideo.training.resuming.checkpoints import processes_of, state_of, told_if_not_written
from evlvideo.training.resuming.log_interval import LogInterval, read_interval, write_interval
from evlvideo.training.resuming.record import RunRecord
from evlvideo.training.resuming.running_means import RunningMeans
from evlvideo.training.seeds import seed_of_step, seed_process
from evlvideo.training.stopping import seconds_of_log
from evlvideo.training.validation import SELECTION_TOKENIZER, Validator, losses_by_mode

logger = logging.getLogger(__name__)

TEXT_INPUTS = ("input_ids", "attention_mask", "labels")


class CaptionTrainer(OrderedTrainer):
    """Trains by cross-entropy, and validates by the CIDEr of generated captions.

    Takes batches from :class:`evlvideo.data.loading.collate.CaptionCollator`. Precision, accumulation, several
    processes and resuming are transformers'.

    Args:
        model: the captioner.
        args: transformers' arguments.
        processor: the model's processor, saved beside it.
        train_dataset: one caption per item, in training order, such as
            :class:`evlvideo.data.loading.mixture.Mixture`.
        eval_dataset: one clip per item.
        data_collator: makes batches of items.
        generation: how to decode validation captions.
        validation_references: clip id → captions, for the clips in `eval_dataset`.
        learning_rates: peaks of parts that differ from the one in `args`.
        schedule: share of its peak that every learning rate has at a step, counted from 0. Defaults to that of `args`.
        scoring_tokenizer: splits validation captions and references into words.
        questionnaire: asks a question about each clip in `eval_dataset`. If None, they are captioned.

    Raises:
        UserError: FSDP or ZeRO-3 would split the model over processes.
    """

    validation_key: ClassVar[str] = "validation_cider"
    """Value of a validation's line in the log that selects the best checkpoint."""
    lower_is_better: ClassVar[bool] = False

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        processor: EvlVideoProcessor,
        train_dataset: Dataset[dict[str, Any]],
        eval_dataset: Dataset[dict[str, Any]],
        data_collator: Any,
        generation: GenerationConfig,
        validation_references: Mapping[str, list[str]],
        learning_rates: LearningRatesConfig,
        schedule: Callable[[int], float] | None = None,
        scoring_tokenizer: str = SELECTION_TOKENIZER,
        questionnaire: Questionnaire | None = None,
    ) -> None:
        use_one_gpu(args)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=data_collator,
            processing_class=processor,
        )
        if self.is_fsdp_enabled or is_deepspeed_zero3_enabled():
            raise UserError(
                "FSDP and DeepSpeed's ZeRO-3 split a model over processes, but captioning calls parts of this one on "
                "their own. Launch without them: the trained weights are few, and plain data parallelism (DDP) is "
                "enough."
            )
        # Dropout must differ between processes. New weights, which must be equal, have been sampled before.
        seed_process(args.seed, args.process_index)
        # The run has its own progress bar and log.
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.add_callback(EpochOfDataset)
        self.add_callback(Resumed(self._go_on))
        self.add_callback(StartOfRun(self.look_at_start, self.validate_if_due))
        self.interval = LogInterval()
        """Log interval of the checkpoint that the run resumed from."""
        self.means = RunningMeans()
        """What the next log line tells beside the loss: means over its steps."""
        self.contrast: Contrast | None = None
        """The contrastive term, if the run has one."""
        self.run_record: RunRecord | None = None
        """What the run is trained with, for its checkpoints; None outside of a run."""
        self.has_new_rates = False
        """Whether the config's learning rates replace those of the checkpoint that the run resumes from."""
        self.record: ValidationRecord | None = None
        """What the latest validation saw."""
        self.validator = Validator(
            self.captioner,
            processor,
            validation_references,
            generation,
            num_workers=args.dataloader_num_workers,
            tokenizer=scoring_tokenizer,
            questionnaire=questionnaire,
        )
        """Captions the validation clips and measures their soft prompts."""
        self.asked_to_stop: Callable[[], bool] = lambda: False
        """Whether this process is to end soon, so that a long validation is left out."""
        self._last_batch: dict[str, Any] | None = None
        self.learning_rates = learning_rates
        self._schedule = schedule
        self._peaks = peak_rates(model, args.learning_rate, learning_rates)
        self._group_peaks: list[float] = []
        self._losses = FiniteLosses()
        self._cut_texts = CutTexts(processor.max_text_tokens)
        self._clock = 0.0
        self._validation_seconds = 0.0
        self._seconds_before_resuming = 0.0

    @property
    def captioner(self) -> EvlVideoForCaptioning:
        """The model without its wrapper for several processes."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def trained(self) -> nn.Module:
        """What is trained: the captioner."""
        return self.captioner

    @property
    def processor(self) -> EvlVideoProcessor:
        """The model's processor."""
        assert isinstance(self.processing_class, EvlVideoProcessor)
        return self.processing_class

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Run forward and backward on one batch."""
        if "input_ids" in inputs:
            self._cut_texts.note(self.processor.lost_endings(inputs["input_ids"], inputs["attention_mask"]))
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the mean cross-entropy over the targets of the whole step, however it is accumulated.

        A contrastive term is the mean over the pairs of each forward pass of the step.
        """
        given: dict[str, Any] = {**visual_inputs(inputs), **{name: inputs[name] for name in TEXT_INPUTS}}
        # The loss needs the logits of the last soft token and of the text only.
        given["logits_to_keep"] = given["labels"].shape[1] + 1
        self._last_batch = given
        more = {} if self.contrast is None else self.contrast.inputs(inputs)
        loss, output = cast(Any, super().compute_loss(model, {**given, **more}, True, num_items_in_batch))
        if self.contrast is not None:
            # A mean over pairs, unlike the cross-entropy, which is over the targets of the whole step.
            steps = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
            loss = loss + self.contrast.beta * output.contrastive_loss / steps
            self.means.add("contrastive_loss", output.contrastive_loss, 1)
        self.check_finite(loss, inputs["clip_ids"])
        return (loss, output) if return_outputs else loss

    def check_finite(self, loss: Tensor, clip_ids: list[str]) -> None:
        """Note a loss; a run that diverged stops before the next log line, validation or checkpoint is written."""
        self._losses.note(loss, self.state.global_step + 1, clip_ids)

    def _check_all_finite(self) -> None:
        self._losses.look()
        check_weights(self.trained, self.state.global_step)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save a checkpoint's model and its log interval, before its other files.

        Raises:
            UserError: the run has diverged.
        """
        self._check_all_finite()
        if not _internal_call:
            super().save_model(output_dir, _internal_call)
            return
        checkpoint = Path(str(output_dir))
        if self.args.should_save:
            # What an interrupted run left of this step must not complete the new one.
            shutil.rmtree(checkpoint, ignore_errors=True)
        interval = self.open_interval()  # waits for all processes, so none has written yet
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            write_interval(checkpoint, interval)
            if self.contrast is not None:
                self.contrast.write(checkpoint)
            if self.run_record is not None:
                self.run_record.write(checkpoint)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        with told_if_not_written(Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"):
            super()._save_checkpoint(model, trial)

    def open_interval(self) -> LogInterval:
        """Gather the sums since the last log line; all processes must call this."""
        losses = self.accelerator.gather(self._tr_loss.reshape(1))
        return LogInterval(
            last_logged_step=self._globalstep_last_logged,
            loss=losses.mean().item(),
            sums=self.means.sums(),
            cut_texts=self._cut_texts.counts(),
            processes=self.accelerator.num_processes,
        )

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Caption the validation clips, score them, and name what is wrong; the score selects the best checkpoint.

        Raises:
            UserError: the run has diverged.
        """
        self._check_all_finite()
        started = time.perf_counter()
        try:
            validation = self.validator.validate(
                cast("Dataset[dict[str, Any]]", eval_dataset or self.eval_dataset), stop=self._cut_validation
            )
        except Interrupted:
            # The checkpoint is of a step without its validation, with which a resumed run begins.
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, {})
            return {}
        values = validation.log_values()
        if self._last_batch is not None:
            values |= losses_by_mode(self.captioner, self._last_batch)
        self._validation_seconds += time.perf_counter() - started
        special = name_special_tokens(list(validation.captions.values()))
        self._log_validation(values, validation.samples(self.validator.references), [special] if special else [])
        metrics = {f"eval_{self.validation_key.removeprefix('validation_')}": values[self.validation_key]}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _cut_validation(self) -> bool:
        # With the last validation, the run is finished.
        return self.asked_to_stop() and self.state.global_step < self.state.max_steps

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        return bool(metrics) and super()._determine_best_metric(metrics, trial)

    def validate_if_due(self) -> None:
        """Validate what a signal kept a checkpoint from; weights and random state are those of its step."""
        step = self.state.global_step
        if step == 0 or step % self.state.eval_steps:
            return
        if not any(entry["step"] == step and self.validation_key in entry for entry in self.state.log_history):
            self._determine_best_metric(self.evaluate(), None)

    def look_at_start(self) -> None:
        """Log the spread of the soft prompts before the first step, and name what is wrong with it."""
        started = time.perf_counter()
        values = self.validator.values_at_start(cast("Dataset[dict[str, Any]]", self.eval_dataset))
        self._validation_seconds += time.perf_counter() - started
        if values:
            self._log_validation(values)

    def _log_validation(
        self, values: dict[str, float], samples: tuple[Sample, ...] = (), warnings: Sequence[str] = ()
    ) -> None:
        signs = signs_of_validation([*self.state.log_history, values])
        self.record = ValidationRecord(self.state.global_step, samples, (*map(str, signs), *warnings))
        self.log(values)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, or resume from a checkpoint."""
        self._clock = time.perf_counter()
        try:
            result = super().train(*args, **kwargs)
            self._cut_texts.tell(finished=True)
            return result
        finally:
            self.end_loading()

    def restore(self, checkpoint: Path) -> None:
        """Restore the weights and state of a checkpoint that needs no more training."""
        self._clock = time.perf_counter()
        self.state = state_of(checkpoint)
        self._load_from_checkpoint(str(checkpoint))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the means of all processes' steps, the seconds of training so far, and the rates of parts.

        Raises:
            UserError: the run has diverged.
        """
        self._losses.look()
        if "loss" in logs:
            logs |= self.means.take()
        if "learning_rate" in logs:
            if cut := self._cut_texts.tell():
                logs["cut_captions"] = cut
            if self.contrast is not None:
                logs["contrastive_temperature"] = self.contrast.temperature
            logs |= rates_of_step(self._peaks, logs["learning_rate"], self.args.learning_rate, self.learning_rates)
        # transformers' closing line is a mean over the steps since the last resume only.
        logs.pop("train_loss", None)
        logs["training_seconds"] = self.training_seconds
        super().log(logs, start_time)

    @property
    def training_seconds(self) -> float:
        """Seconds of training, without validation, including those before an interruption."""
        return self._seconds_before_resuming + time.perf_counter() - self._clock - self._validation_seconds

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        checkpoint = Path(resume_from_checkpoint)
        self._seconds_before_resuming = seconds_of_log(state_of(checkpoint).log_history)
        self.interval = read_interval(checkpoint)
        if self.accelerator.is_main_process:
            self._cut_texts.restore(*self.interval.cut_texts)
            self.means.restore(self.interval.sums)
        # The parent's method would accept any missing weight.
        self.load_weights(checkpoint)
        if self.contrast is not None:
            self.contrast.read(checkpoint)

    def load_weights(self, checkpoint: Path) -> None:
        """Load the weights of a checkpoint in place."""
        load_trained_weights(self.captioner, checkpoint)

    def write_model(self, directory: Path) -> None:
        """Write the model and its processor."""
        self.captioner.save_pretrained(directory)
        self.processor.save_pretrained(directory)

    def _go_on(self) -> None:
        """Restore what transformers has reset by now, and take the config's learning rates if they are new."""
        if self.interval.last_logged_step is not None:
            self._tr_loss += self.interval.loss
            self._globalstep_last_logged = self.interval.last_logged_step
        if self.has_new_rates:
            assert self.optimizer is not None
            take_rates(self.optimizer, self.lr_scheduler, self._group_peaks)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None or processes_of(Path(checkpoint)) == self.args.world_size:
            super()._load_rng_state(checkpoint)
        else:
            # Other processes have no states to go on from. Those of the run's start would repeat its dropout.
            seed_process(seed_of_step(self.args.seed, self.state.global_step), self.args.process_index)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer, with learning rates and weight decay by group."""
        if self.optimizer is None:
            optimizer_class, arguments = chosen_optimizer(self.args, self.trained)
            groups = parameter_groups(model or self.trained, self._peaks, self.args.weight_decay)
            self._group_peaks = [group["lr"] for group in groups]
            try:
                self.optimizer = optimizer_class(groups, **arguments)
            except (ValueError, TypeError) as error:
                raise UserError(f"The optimizer rejects training.arguments: {error}") from error
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Make the schedule of the learning rates."""
        if self._schedule is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            optimizer = optimizer or self.optimizer
            assert optimizer is not None
            self.lr_scheduler = LambdaLR(optimizer, self._schedule)
            self._created_lr_scheduler = True
        return self.lr_scheduler
