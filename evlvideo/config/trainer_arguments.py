"""Which of transformers' training arguments a run may set, by name and type.

They are parsed from the source of the installed library, since importing it takes seconds.
"""

import ast
import difflib
import importlib.util
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_OURS = {
    "output_dir": "output_dir",
    "run_name": "output_dir, whose last part is the run's name",
    "max_steps": "training.max_steps",
    "num_train_epochs": "training.max_steps",
    "per_device_train_batch_size": "training.batch_size",
    "auto_find_batch_size": "training.batch_size",
    "per_device_eval_batch_size": "generation.batch_size",
    "gradient_accumulation_steps": "training.gradient_accumulation_steps",
    "learning_rate": "training.learning_rate",
    "lr_scheduler_type": "training.schedule, with training.learning_rate, .min_learning_rate and .warmup_steps",
    "lr_scheduler_kwargs": "training.min_learning_rate and training.warmup_learning_rate",
    "warmup_steps": "training.warmup_steps",
    "weight_decay": "training.weight_decay",
    "max_grad_norm": "training.max_grad_norm",
    "bf16": "training.precision",
    "fp16": "training.precision",
    "bf16_full_eval": "training.precision",
    "fp16_full_eval": "training.precision",
    "eval_strategy": "training.eval_steps",
    "eval_steps": "training.eval_steps",
    "save_strategy": "training.eval_steps; a checkpoint is saved at each validation",
    "save_steps": "training.eval_steps; a checkpoint is saved at each validation",
    "save_total_limit": "training.keep_checkpoints",
    "logging_strategy": "training.log_steps",
    "logging_steps": "training.log_steps",
    "dataloader_num_workers": "data.num_workers",
    "seed": "seed",
    "data_seed": "seed",
    "resume_from_checkpoint": "--resume",
}
"""Arguments that a key of a run sets → the key."""
_FIXED = {
    "metric_for_best_model": "the best checkpoint is the one with the best validation CIDEr",
    "greater_is_better": "the best checkpoint is the one with the best validation CIDEr",
    "load_best_model_at_end": "the best checkpoint is always copied into the run's directory",
    "remove_unused_columns": "batches hold what training needs",
    "label_names": "batches hold what training needs",
    "label_smoothing_factor": "the loss is the cross-entropy of the captions as they are",
    "logging_nan_inf_filter": "a loss that is not finite stops the run",
    "disable_tqdm": "a run has its own progress bar",
    "train_sampling_strategy": "the order of the clips is a function of the seed",
    "length_column_name": "the order of the clips is a function of the seed",
    "dataloader_in_order": "the order of the clips is a function of the seed",
    "ignore_data_skip": "a resumed run equals one that was not interrupted",
    "save_only_model": "checkpoints must be resumable",
    "enable_jit_checkpoint": "a signal always saves a checkpoint",
    "restore_callback_states_from_checkpoint": "a resumed run's state is in its log",
    "ddp_find_unused_parameters": "every trained weight is used in every step",
    "ddp_backend": "processes are joined before anything is read, by NCCL on GPUs and Gloo on CPUs",
    "ddp_timeout": "processes are joined before anything is read, and wait for each other for two hours",
    "use_cpu": "a run is on the GPU if there is one; CUDA_VISIBLE_DEVICES= hides it",
    "neftune_noise_alpha": "the language model is frozen",
    "include_for_metrics": "validation scores captions",
    "batch_eval_metrics": "validation scores captions",
    "prediction_loss_only": "validation scores captions",
    "eval_accumulation_steps": "validation scores captions",
    "eval_do_concat_batches": "validation scores captions",
    "eval_use_gather_object": "validation scores captions",
    "eval_on_start": "validation is every training.eval_steps",
    "eval_delay": "validation is every training.eval_steps",
    "average_tokens_across_devices": "the loss is the mean over the targets of all processes",
    **dict.fromkeys(
        ("fsdp", "fsdp_config", "parallelism_config"),
        "what is trained is small, and parts of the model are called on their own, which FSDP does not allow; "
        "plain several processes (DDP) are enough",
    ),
    "optim_target_modules": "optimizers that choose their own weights are not supported",
    **dict.fromkeys(
        (
            "push_to_hub",
            "hub_token",
            "hub_private_repo",
            "hub_model_id",
            "hub_strategy",
            "hub_always_push",
            "hub_revision",
        ),
        "a finished run is a directory; upload it with the hub's own program",
    ),
    "do_train": "the command says what is done",
    "do_eval": "the command says what is done",
    "do_predict": "the command says what is done",
    "local_rank": "the launcher tells it",
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), "there are no Liger kernels for this model"),
}
"""Arguments that cannot be chosen → why."""
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool,), "true or false"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str,), "text"),
    "dict": ((Mapping,), "a section"),
    "list": ((list,), "a list"),
    "None": ((type(None),), "null"),
}
"""Types by name. Any other name in an annotation is an enumeration of transformers, which is given as text."""

_LOG_LEVELS = ("debug", "info", "warning", "error", "critical", "detail", "passive")
_CHOICES = {
    "log_level": _LOG_LEVELS,
    "log_level_replica": _LOG_LEVELS,
    "dataloader_multiprocessing_context": ("fork", "spawn", "forkserver"),
}
_BOUNDS = {
    "adam_beta1": (0, 1),
    "adam_beta2": (0, 1),
    "adam_epsilon": (0, math.inf),
    "torch_empty_cache_steps": (1, math.inf),
    "dataloader_prefetch_factor": (1, math.inf),
    "ddp_bucket_cap_mb": (1, math.inf),
    "ddp_timeout": (1, math.inf),
}
"""Lower bound, and exclusive upper bound. The library checks these, and the choices, only once a run has started."""
_DEFAULT_OPTIMIZER = "adamw_torch_fused"
_OPTIMIZER_KEYS: dict[str, tuple[str, ...]] = {
    "adamw_torch": (),
    "adamw_torch_fused": (),
    "adafactor": (),
    "sgd": ("momentum", "dampening", "nesterov"),
    "adagrad": ("lr_decay", "eps"),
    "rmsprop": ("momentum", "alpha", "eps", "centered"),
}
"""Optimizer → the keys of `optim_args` with an effect. The library ignores all others; our weight decay is by group."""


def problems_of_arguments(given: Mapping[str, Any], key: str) -> list[str]:
    """List what is wrong with the training arguments that a run sets: names, types, bounds and keys without effect.

    Args:
        given: arguments by name.
        key: dotted key of their section, for the messages.
    """
    if not given:
        return []
    known = argument_types()
    problems = []
    for name, value in given.items():
        if name in _OURS:
            problems.append(f"{key}.{name} is set by this program; use {_OURS[name]}")
        elif name in _FIXED:
            problems.append(f"{key}.{name} cannot be chosen: {_FIXED[name]}")
        elif name not in known:
            problems.append(f"unknown key {key}.{name}; {_hint(name, known, key)}")
        elif not _is_of_kind(value, known[name]):
            allowed = " or ".join(dict.fromkeys(_KINDS[kind][1] for kind in known[name]))
            problems.append(f"{key}.{name} is {_spell(value)}; it must be {allowed}")
        elif value is not None and (wanted := _wanted(name, value)):
            problems.append(f"{key}.{name} is {_spell(value)}; {wanted}")
    return problems + _problems_of_optimizer(given, key)


def _problems_of_optimizer(given: Mapping[str, Any], key: str) -> list[str]:
    """Name the entries of `optim_args` that the optimizer ignores."""
    optimizer, entries = given.get("optim", _DEFAULT_OPTIMIZER), given.get("optim_args")
    if not isinstance(entries, str) or optimizer not in _OPTIMIZER_KEYS:
        return []
    known = _OPTIMIZER_KEYS[optimizer]
    names = [entry.partition("=")[0].strip() for entry in entries.split(",") if entry.strip()]
    allowed = f"allowed: {', '.join(known)}" if known else "leave optim_args out"
    return [
        f"{key}.optim_args sets {name}, which the optimizer {optimizer} ignores; {allowed}"
        for name in names
        if name not in known
    ]


def _wanted(name: str, value: Any) -> str | None:
    """Say what a value of the right type must be, or `None` if it is allowed."""
    if name in _CHOICES and value not in _CHOICES[name]:
        return f"allowed: {', '.join(_CHOICES[name])}"
    least, end = _BOUNDS.get(name, (-math.inf, math.inf))
    if name in _BOUNDS and not least <= value < end:
        return f"it must be at least {least}" + ("" if end == math.inf else f" and below {end}")
    return None


@cache
def argument_types() -> dict[str, tuple[str, ...]]:
    """Return every training argument of the installed transformers, with the kinds of value that it takes."""
    # Found through the package's folder: `find_spec` of a submodule would import the package.
    package = importlib.util.find_spec("transformers")
    assert package is not None and package.submodule_search_locations, "transformers is a dependency"
    source = Path(package.submodule_search_locations[0]) / "training_args.py"
    module = ast.parse(source.read_text(encoding="utf-8"))
    (arguments,) = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments")
    return {
        field.target.id: tuple(_kinds(field.annotation))
        for field in arguments.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def _kinds(annotation: ast.expr) -> list[str]:
    if isinstance(annotation, ast.BinOp):
        return [*_kinds(annotation.left), *_kinds(annotation.right)]
    name = ast.unparse(annotation).partition("[")[0]
    return [name if name in _KINDS else "bool" if name == "Literal" else "str"]


def _is_of_kind(value: Any, kinds: tuple[str, ...]) -> bool:
    if isinstance(value, bool):
        return "bool" in kinds
    return any(isinstance(value, _KINDS[kind][0]) for kind in kinds if kind != "bool")


def _hint(name: str, known: Mapping[str, Any], key: str) -> str:
    close = difflib.get_close_matches(name, (known.keys() | _OURS.keys()) - _FIXED.keys(), n=1)
    if not close:
        return "it must be an argument of transformers' TrainingArguments"
    return f"did you mean {_OURS[close[0]] if close[0] in _OURS else f'{key}.{close[0]}'}?"


def _spell(value: Any) -> str:
    return "null" if value is None else repr(value)
