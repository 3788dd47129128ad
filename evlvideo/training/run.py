"""One training run, from its config to a directory that holds all there is to know of it."""

import importlib.util
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
import torch.utils.checkpoint
from accelerate.utils import DynamoBackend, gather_object, parse_flag_from_env
from rich.console import Console
from transformers import TrainerState, TrainingArguments, set_seed
from transformers.trainer import TRAINER_STATE_NAME

from evlvideo.assembly.clips import read_clips, read_training_clips, references_of
from evlvideo.assembly.datasets import evaluation_dataset, training_dataset
from evlvideo.assembly.models import start_model, trained_parameters
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.config.loading import load_config, save_config
from evlvideo.config.reward_names import parse_reward
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.loading.collate import CaptionCollator
from evlvideo.data.loading.shards.clips import ShardClips
from evlvideo.errors import Interrupted, UserError
from evlvideo.files import write_json
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import load_trained_weights
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.processes import join_processes, on_main_process
from evlvideo.results.provenance import git_commit
from evlvideo.results.run_directory import CHECKPOINTS_NAME, CONFIG_NAME, SUMMARY_NAME, sole_use
from evlvideo.training.interruption import StopInOrder
from evlvideo.training.limits import StopWithoutProgress, reached_limit
from evlvideo.training.progress import RunProgress
from evlvideo.training.scst.rewards import Reward, make_reward
from evlvideo.training.scst.trainer import SelfCriticalTrainer
from evlvideo.training.trackers import check_trackers, trackers_of_run
from evlvideo.training.trainer import CaptionTrainer

logger = logging.getLogger(__name__)

REWARD_NAME = "reward.safetensors"
"""File of the counted references, in the run's directory."""


def train(config: RunConfig, *, resume: bool = False, console: Console | None = None) -> Path:
    """Train, and leave the best checkpoint by validation CIDEr in the run's directory.

    Args:
        config: the run.
        resume: go on from the newest checkpoint of the run's directory.
        console: where progress is drawn.

    Returns:
        the run's directory.

    Raises:
        UserError: something that the config names is not there or does not fit, or another process trains in the
            run's directory; no file is written then.
        Interrupted: a signal stopped the run.
    """
    join_processes()
    directory = Path(config.output_dir)
    if _checkpoint_to_resume(directory, resume):
        _check_same_optimizer(config, directory)
    precision = resolve_precision(config.training.precision)
    arguments = training_arguments(config, precision)
    sources = read_training_clips(config.data)
    validation_clips = read_clips(config.data, config.data.validation_split)[: config.data.validation_clips]
    set_seed(config.seed)
    model, processor = start_model(config, tower_dtype=DTYPES[precision])
    trainer = _make_trainer(config, arguments, model, processor, sources, validation_clips)
    with ExitStack() as held:
        # In one process, and refused in all: the others would wait for it.
        on_main_process(lambda: held.enter_context(sole_use(directory)))
        # Once more, as another process may have had the directory until now.
        checkpoint = _checkpoint_to_resume(directory, resume)
        _train(trainer, config, checkpoint, console or Console(stderr=True))
    return directory


def _train(trainer: CaptionTrainer, config: RunConfig, checkpoint: Path | None, console: Console) -> None:
    directory = Path(config.output_dir)
    save_config(config, directory / CONFIG_NAME)
    limit = config.training.max_hours
    stop = StopInOrder(lambda: limit is not None and trainer.training_seconds >= 3600 * limit)
    if checkpoint and reached_limit(config.training, _state_of(checkpoint)):
        trainer.restore(checkpoint)
    else:
        _train_on(trainer, config, stop, checkpoint, console)
    if stop.stopped and trainer.state.global_step < config.training.max_steps:
        raise Interrupted(
            f"Stopped at step {trainer.state.global_step} of {config.training.max_steps}, with a checkpoint in "
            f"{directory / CHECKPOINTS_NAME}. Give the same command with --resume to go on."
        )
    bad_clips = sorted(set(gather_object(getattr(trainer.train_dataset, "bad_clips", []))))
    if trainer.is_world_process_zero():
        _finish(config, trainer, directory, bad_clips)
    trainer.accelerator.wait_for_everyone()


def _train_on(
    trainer: CaptionTrainer, config: RunConfig, stop: StopInOrder, checkpoint: Path | None, console: Console
) -> None:
    directory = Path(config.output_dir)
    if trainer.is_world_process_zero():
        # Of an end that a limit made, before it was raised: until the next one, the run is not finished.
        (directory / SUMMARY_NAME).unlink(missing_ok=True)
    progress = RunProgress(directory, console)
    for callback in (progress, StopWithoutProgress(config.training.patience), stop):
        trainer.add_callback(callback)
    try:
        with stop.listening(), trackers_of_run(trainer, directory):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        progress.close()


def _checkpoint_to_resume(directory: Path, resume: bool) -> Path | None:
    found = newest_checkpoint(directory / CHECKPOINTS_NAME)
    if resume and found is None:
        raise UserError(
            f"There is no checkpoint to resume from in {directory / CHECKPOINTS_NAME}; train without --resume."
        )
    if not resume and (found is not None or (directory / SUMMARY_NAME).exists()):
        raise UserError(
            f"{directory} already holds a run. Add --resume to go on with it, or name another output_dir, or remove it."
        )
    return found if resume else None


def _check_same_optimizer(config: RunConfig, directory: Path) -> None:
    """Refuse what the optimizer of a checkpoint has with it: another value would be written down, and not trained with.

    Called before any process writes the run's config.
    """
    path = directory / CONFIG_NAME
    if not path.is_file():
        return
    before = _settings_of_optimizer(load_config(path))
    changed = [
        f"{name} (it was {'null' if (was := before[name]) is None else was})"
        for name, value in _settings_of_optimizer(config).items()
        if value != before[name]
    ]
    if changed:
        raise UserError(
            f"The run in {directory} cannot go on with another {', '.join(changed)}. Leave it as it was, or train in "
            "another output_dir."
        )


def _settings_of_optimizer(config: RunConfig) -> dict[str, Any]:
    training = config.training
    own = {f"training.learning_rates.{part}": rate for part, rate in asdict(training.learning_rates).items()}
    names = ("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon")
    return {
        "training.learning_rate": training.learning_rate,
        "training.weight_decay": training.weight_decay,
        **own,
        **{f"training.arguments.{name}": training.arguments.get(name) for name in names},
    }


def newest_checkpoint(directory: Path) -> Path | None:
    """The newest complete one: the trainer's state is written last, so that a killed save is passed over."""
    complete = [path for path in directory.glob("checkpoint-*") if _is_complete(path)]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _state_of(checkpoint: Path) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))


def _is_complete(checkpoint: Path) -> bool:
    try:
        _state_of(checkpoint)
    except (OSError, ValueError, TypeError):
        return False
    return True


def training_arguments(config: RunConfig, precision: str) -> TrainingArguments:
    """A run's config in transformers' words.

    Raises:
        UserError: transformers does not take what `training.arguments` says, or something that it needs is not there.
    """
    training, workers = config.training, config.data.num_workers
    ours: dict[str, Any] = {
        "output_dir": str(Path(config.output_dir) / CHECKPOINTS_NAME),
        "run_name": Path(config.output_dir).name,
        "max_steps": training.max_steps,
        "per_device_train_batch_size": training.batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": "cosine_warmup_with_min_lr",
        "lr_scheduler_kwargs": {
            "min_lr": training.min_learning_rate,
            "warmup_lr_rate": training.warmup_learning_rate / training.learning_rate,
        },
        "warmup_steps": training.warmup_steps,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        # The model enters autocast by itself. In transformers' hands, its logits would be copied to float32 beside the
        # loss. fp16 has to be known there, for the scaler of gradients, and bf16 where DeepSpeed casts the weights.
        "bf16": precision == "bf16" and _uses_deepspeed(config),
        "fp16": precision == "fp16",
        "eval_strategy": "steps",
        "eval_steps": training.eval_steps,
        "save_strategy": "steps",
        "save_steps": training.eval_steps,
        # The best checkpoint is one of those that transformers counts.
        "save_total_limit": training.keep_checkpoints + 1,
        "metric_for_best_model": "cider",
        "greater_is_better": True,
        "logging_steps": training.log_steps,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_num_workers": workers,
        "ddp_find_unused_parameters": False,
        "seed": config.seed,
        "data_seed": config.seed,
    }
    pinned = training.arguments.get("dataloader_pin_memory", torch.cuda.is_available())
    defaults: dict[str, Any] = {
        "report_to": [],
        "dataloader_pin_memory": pinned,
        # Else every tensor of a batch waits for the GPU to have done all of the step before.
        "accelerator_config": {"non_blocking": pinned},
        # Short epochs, as of the self-critical stage, would start workers and their decoders every few minutes.
        "dataloader_persistent_workers": workers > 0,
    }
    if training.arguments.get("deepspeed") and importlib.util.find_spec("deepspeed") is None:
        raise UserError("training.arguments.deepspeed needs DeepSpeed, which is not installed: pip install deepspeed.")
    arguments = _told_plainly({**defaults, **training.arguments, **ours})
    if arguments.dataloader_persistent_workers and not workers:
        raise UserError(
            "training.arguments.dataloader_persistent_workers needs data.num_workers of 1 or more; it is 0."
        )
    check_trackers(list(arguments.report_to or []))
    _check_compile_and_checkpoint(arguments)
    return arguments


def _check_compile_and_checkpoint(arguments: TrainingArguments) -> None:
    """Refuse what the library would meet when the run has begun."""
    backends = [backend.lower() for backend in DynamoBackend.list()]
    if (chosen := arguments.torch_compile_backend) is not None and chosen.lower() not in backends:
        raise UserError(f"training.arguments.torch_compile_backend is {chosen!r}; allowed: {', '.join(backends)}.")
    parameters = signature(torch.utils.checkpoint.checkpoint).parameters.values()
    options = [parameter.name for parameter in parameters if parameter.kind is Parameter.KEYWORD_ONLY]
    for name in arguments.gradient_checkpointing_kwargs or {}:
        if name not in options:
            raise UserError(
                f"training.arguments.gradient_checkpointing_kwargs has {name!r}; allowed: {', '.join(options)}."
            )


def _told_plainly(arguments: dict[str, Any]) -> TrainingArguments:
    try:
        with warnings.catch_warnings():
            # The usual name of what transformers begins to call activation checkpointing; it takes both.
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
            return TrainingArguments(**arguments)
    except (ValueError, TypeError, KeyError, NotImplementedError, ImportError, OSError) as error:
        raise UserError(f"The trainer cannot be set up as training.arguments says: {error}") from error


def _uses_deepspeed(config: RunConfig) -> bool:
    return bool(config.training.arguments.get("deepspeed")) or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED")


def _make_trainer(
    config: RunConfig,
    arguments: TrainingArguments,
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    sources: Mapping[str, Sequence[CaptionedClip] | ShardClips],
    validation_clips: Sequence[CaptionedClip],
) -> CaptionTrainer:
    scst = config.stage == "scst"
    common: dict[str, Any] = {
        "model": model,
        "args": arguments,
        "processor": processor,
        "train_dataset": training_dataset(config, model, processor, sources, per_caption=trains_on_captions(config)),
        "eval_dataset": evaluation_dataset(
            config.data, model, processor, validation_clips, config.data.validation_split
        ),
        "data_collator": CaptionCollator(processor, config.data.captions_per_clip),
        "learning_rates": config.training.learning_rates,
        "generation": config.generation,
        "validation_references": references_of(validation_clips),
    }
    if not scst:
        return CaptionTrainer(**common)
    clips = (clip for of_source in sources.values() for clip in of_source if isinstance(clip, CaptionedClip))
    return SelfCriticalTrainer(reward=_make_reward(config, references_of(clips)), scst=config.scst, **common)


def trains_on_captions(config: RunConfig) -> bool:
    """Whether items of training are captions, with their clip; else they are clips."""
    return config.stage == "caption" or config.scst.cross_entropy_weight > 0


def _make_reward(config: RunConfig, references: dict[str, list[str]]) -> Reward:
    """The reward that the config names; the counts of CIDEr-D are kept.

    In the run's directory where no file is named: it can be written to, which a data set's need not be; what a run was
    rewarded by stays with it; and resuming reads it back. The run may write over its own file, but not over one that
    was named.
    """
    scst = config.scst
    return make_reward(
        parse_reward(scst.reward),
        references,
        split=_training_split(config),
        end_of_text=scst.reward_end_of_text,
        frequencies={"train": "split", "batch": "batch"}[scst.reward_frequencies],
        first_reference_only=scst.reward_references == "first",
        scorer_file=Path(scst.reward_file or Path(config.output_dir) / REWARD_NAME),
        replace_file=scst.reward_file is None,
    )


def _training_split(config: RunConfig) -> str:
    sources = [f"{source.dataset}:{source.split}" for source in config.data.sources]
    return " + ".join(sources) or f"{config.data.dataset}:{config.data.train_split}"


def _finish(config: RunConfig, trainer: CaptionTrainer, directory: Path, bad_clips: list[str]) -> None:
    """Put the best checkpoint's weights and the run's summary into the run's directory."""
    state = trainer.state
    seconds = trainer.training_seconds
    ended_by = reached_limit(config.training, state)
    model = trainer.captioner
    best_step = state.best_global_step or state.global_step
    if best_step != state.global_step:
        load_trained_weights(model, directory / CHECKPOINTS_NAME / f"checkpoint-{best_step}")
    model.save_pretrained(directory)
    trainer.processor.save_pretrained(directory)
    write_json(
        directory / SUMMARY_NAME,
        {
            "name": directory.name,
            "stage": config.stage,
            "init": config.init,
            "seed": config.seed,
            "commit": git_commit(),
            "steps": state.global_step,
            "ended_by": ended_by,
            "best_step": best_step,
            "best_cider": state.best_metric,
            "trained_parameters": trained_parameters(model),
            "training_seconds": seconds,
            "bad_clips": bad_clips,
        },
    )
    if bad_clips:
        logger.warning("%s: %d clips could not be decoded: %s", directory, len(bad_clips), ", ".join(bad_clips[:10]))
    if ended_by != "training.max_steps":
        logger.info("%s: ended by %s at step %d of %d", directory, ended_by, state.global_step, state.max_steps)
    logger.info(
        "%s: best validation CIDEr %.3f at step %d, after %.0f s of training",
        directory,
        state.best_metric,
        best_step,
        seconds,
    )
