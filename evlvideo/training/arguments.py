"""Translates a run's config into transformers' TrainingArguments."""

import importlib.util
import logging
import warnings
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
import torch.utils.checkpoint
from accelerate.utils import DynamoBackend, parse_flag_from_env
from transformers import TrainingArguments
from transformers import trainer as transformers_trainer

from evlvideo.config.data import QUESTIONS
from evlvideo.config.run import REPRESENTATION, RunConfig
from evlvideo.errors import UserError
from evlvideo.results.run_directory import CHECKPOINTS_NAME
from evlvideo.training.trackers import check_trackers

_library = importlib.util.find_spec("datasets")
if _library is None or _library.origin is None:
    # transformers takes any folder called `datasets` in the working directory (this project has one) for the library,
    # and its trainer then asks it for a class.
    transformers_trainer.is_datasets_available = lambda: False  # type: ignore[attr-defined]

logger = logging.getLogger(__name__)


def training_arguments(config: RunConfig, precision: str) -> TrainingArguments:
    """Translate a run's config into transformers' arguments.

    `training.arguments` overrides our defaults; the config's own keys override both.

    Args:
        config: the run.
        precision: `bf16`, `fp16` or `fp32`; see :func:`evlvideo.assembly.precision.resolve_precision`.

    Raises:
        UserError: transformers rejects `training.arguments`, or something that they need is missing.
    """
    given = config.training.arguments
    if given.get("deepspeed") and importlib.util.find_spec("deepspeed") is None:
        raise UserError("training.arguments.deepspeed needs DeepSpeed, which is not installed: pip install deepspeed.")
    arguments = _make({**_defaults(config), **given, **_from_config(config), **_from_precision(config, precision)})
    if arguments.dataloader_persistent_workers and not config.data.num_workers:
        raise UserError(
            "training.arguments.dataloader_persistent_workers needs data.num_workers of 1 or more; it is 0."
        )
    check_trackers(list(arguments.report_to or []))
    _check_compile_backend(arguments)
    _check_checkpointing_options(arguments)
    return arguments


def _defaults(config: RunConfig) -> dict[str, Any]:
    pinned = config.training.arguments.get("dataloader_pin_memory", torch.cuda.is_available())
    return {
        "report_to": [],
        "dataloader_pin_memory": pinned,
        # A blocking copy makes every tensor of a batch wait until the GPU has finished the step before.
        "accelerator_config": {"non_blocking": pinned},
        # Short epochs, as in the self-critical stage, would restart workers and their decoders every few minutes.
        "dataloader_persistent_workers": config.data.num_workers > 0,
    }


def _from_config(config: RunConfig) -> dict[str, Any]:
    training = config.training
    return {
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
        "eval_strategy": "steps",
        "eval_steps": training.eval_steps,
        "save_strategy": "steps",
        "save_steps": training.eval_steps,
        # transformers would sort checkpoints by the time of their files; the run removes old ones itself.
        "save_total_limit": None,
        "metric_for_best_model": _selecting_metric(config),
        "greater_is_better": config.stage != REPRESENTATION,
        "logging_steps": training.log_steps,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_num_workers": config.data.num_workers,
        "ddp_find_unused_parameters": False,
        "seed": config.seed,
        "data_seed": config.seed,
    }


def _selecting_metric(config: RunConfig) -> str:
    if config.stage == REPRESENTATION:
        return "loss"
    return "accuracy" if config.data.kind == QUESTIONS else "cider"


def _from_precision(config: RunConfig, precision: str) -> dict[str, Any]:
    """Tell transformers about half precision only if it has to act.

    The model enters autocast itself; transformers' autocast would copy the logits to float32 beside the loss. fp16
    needs its gradient scaler, and bf16 matters only to DeepSpeed, which casts the weights.
    """
    return {"bf16": precision == "bf16" and _uses_deepspeed(config), "fp16": precision == "fp16"}


def _uses_deepspeed(config: RunConfig) -> bool:
    return bool(config.training.arguments.get("deepspeed")) or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED")


def _make(arguments: dict[str, Any]) -> TrainingArguments:
    try:
        with warnings.catch_warnings():
            # transformers is renaming gradient checkpointing to activation checkpointing, and takes both.
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
            return TrainingArguments(**arguments)
    except (ValueError, TypeError, KeyError, NotImplementedError, ImportError, OSError) as error:
        raise UserError(f"The trainer rejects training.arguments: {error}") from error


def _check_compile_backend(arguments: TrainingArguments) -> None:
    """Reject at once what would fail once the run has begun."""
    backends = [backend.lower() for backend in DynamoBackend.list()]
    if (chosen := arguments.torch_compile_backend) is not None and chosen.lower() not in backends:
        raise UserError(f"training.arguments.torch_compile_backend is {chosen!r}; allowed: {', '.join(backends)}.")


def _check_checkpointing_options(arguments: TrainingArguments) -> None:
    parameters = signature(torch.utils.checkpoint.checkpoint).parameters.values()
    options = [parameter.name for parameter in parameters if parameter.kind is Parameter.KEYWORD_ONLY]
    for name in arguments.gradient_checkpointing_kwargs or {}:
        if name not in options:
            raise UserError(
                f"training.arguments.gradient_checkpointing_kwargs has {name!r}; allowed: {', '.join(options)}."
            )


def use_one_gpu(args: TrainingArguments) -> None:
    """Keep transformers from copying the model to every GPU of this process at each step.

    The copies would also multiply the batch size.
    """
    if args.n_gpu > 1:
        logger.warning(
            "There are %d GPUs, and one process uses one of them. To use all, start with `accelerate launch "
            "--num_processes %d -m evlvideo`.",
            args.n_gpu,
            args.n_gpu,
        )
        args._n_gpu = 1
