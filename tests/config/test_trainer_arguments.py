import re
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from evlvideo.config.trainer_arguments import (
    _BOUNDS,
    _CHOICES,
    _FIXED,
    _OPTIMIZER_KEYS,
    _OURS,
    argument_types,
    problems_of_arguments,
)


def problem(name: str, value: Any = True) -> str:
    (found,) = problems_of_arguments({name: value}, "training.arguments")
    return found


def test_arguments_are_those_of_the_installed_library() -> None:
    assert argument_types().keys() == {field.name for field in fields(TrainingArguments)}


def test_every_argument_that_is_refused_exists() -> None:
    assert (_OURS.keys() | _FIXED.keys() | _CHOICES.keys() | _BOUNDS.keys()) <= argument_types().keys()
    assert not _OURS.keys() & _FIXED.keys()


@pytest.mark.parametrize(
    "name, value",
    [
        ("torch_compile", True),
        ("gradient_checkpointing", True),
        ("gradient_checkpointing_kwargs", {"use_reentrant": False}),
        ("optim", "adafactor"),
        ("adam_epsilon", 1),
        ("dataloader_persistent_workers", False),
        ("dataloader_prefetch_factor", None),
        ("report_to", ["tensorboard", "wandb"]),
        ("report_to", "wandb"),
        ("deepspeed", "zero2.json"),
        ("deepspeed", {"zero_optimization": {"stage": 2}}),
    ],
)
def test_what_is_the_librarys_is_passed_on(name: str, value: Any) -> None:
    assert problems_of_arguments({name: value}, "training.arguments") == []


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("log_level", "loud", "is 'loud'; allowed: debug, info"),
        ("dataloader_multiprocessing_context", "foo", "is 'foo'; allowed: fork, spawn, forkserver"),
        ("adam_beta1", 5, "is 5; it must be at least 0 and below 1"),
        ("adam_epsilon", float("nan"), "is nan; it must be at least 0"),
        ("dataloader_prefetch_factor", -1, "is -1; it must be at least 1"),
        ("use_liger_kernel", True, "cannot be chosen: there are no Liger kernels"),
    ],
)
def test_values_that_the_library_meets_when_a_run_has_begun_are_refused(name: str, value: Any, message: str) -> None:
    assert problem(name, value).startswith(f"training.arguments.{name} {message}")


@pytest.mark.parametrize(
    "name, key",
    [
        ("per_device_train_batch_size", "training.batch_size"),
        ("learning_rate", "training.learning_rate"),
        ("output_dir", "output_dir"),
        ("seed", "seed"),
        ("bf16", "training.precision"),
        ("eval_strategy", "training.eval_steps"),
        ("dataloader_num_workers", "data.num_workers"),
    ],
)
def test_what_a_key_of_ours_sets_names_the_key(name: str, key: str) -> None:
    assert problem(name) == f"training.arguments.{name} is set by this program; use {key}"


def test_what_cannot_be_chosen_says_why() -> None:
    assert problem("remove_unused_columns").endswith("cannot be chosen: batches hold what training needs")
    assert problem("fsdp").endswith("which FSDP does not allow; plain several processes (DDP) are enough")
    assert problem("dataloader_in_order", False).endswith("the order of the clips is a function of the seed")
    assert problem("ddp_timeout", 60).endswith("and wait for each other for two hours")


@pytest.mark.parametrize(
    "name, hint",
    [
        ("torch_compil", "did you mean training.arguments.torch_compile?"),
        ("per_device_train_batchsize", "did you mean training.batch_size?"),
        ("xyzzy", "it must be an argument of transformers' TrainingArguments"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, hint: str) -> None:
    assert problem(name) == f"unknown key training.arguments.{name}; {hint}"


@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("torch_compile", 1, "it must be true or false"),
        ("torch_compile", None, "training.arguments.torch_compile is null; it must be true or false"),
        ("ddp_bucket_cap_mb", True, "it must be a whole number or null"),
        ("dataloader_prefetch_factor", 2.5, "it must be a whole number or null"),
        ("adam_beta2", "high", "it must be a number"),
        ("optim", 3, "it must be text"),
        ("deepspeed", [1], "it must be a section or text or null"),
    ],
)
def test_a_wrong_type_is_answered_with_the_right_one(name: str, value: Any, allowed: str) -> None:
    assert problem(name, value).endswith(allowed)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"optim_args": "foo=bar"}, "sets foo, which the optimizer adamw_torch_fused ignores; leave optim_args out"),
        ({"optim": "sgd", "optim_args": "momentum=0.9, foo=bar"}, "foo, .* sgd ignores; allowed: momentum, dampening"),
        ({"optim": "rmsprop", "optim_args": "weight_decay=0.1"}, "weight_decay, .* rmsprop ignores"),
    ],
)
def test_settings_that_an_optimizer_ignores_are_refused(given: dict[str, str], message: str) -> None:
    (found,) = problems_of_arguments(given, "training.arguments")
    assert re.search(message, found)


def test_settings_of_an_optimizer_are_passed_on() -> None:
    for given in ({"optim": "sgd", "optim_args": "momentum=0.9"}, {"optim": "ademamix", "optim_args": "beta3=0.99"}):
        assert problems_of_arguments(given, "training.arguments") == []


def test_every_optimizer_whose_settings_are_known_exists() -> None:
    assert _OPTIMIZER_KEYS.keys() <= {name.value for name in OptimizerNames}


def test_all_problems_come_together() -> None:
    given = {"bf16": True, "torch_compil": True, "optim": 3, "remove_unused_columns": False}
    assert len(problems_of_arguments(given, "training.arguments")) == 4


def test_checking_imports_neither_torch_nor_transformers() -> None:
    code = (
        "from evlvideo.config.loading import config_of; config_of(['training.arguments.torch_compile=true']); "
        "import sys; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
