"""Trains one classifier of statements, from its config to the run's directory."""

from pathlib import Path

import numpy as np
from accelerate import PartialState
from rich.console import Console
from transformers import set_seed

from evlvideo.assembly.classifier import read_split, start_classifier, statement_dataset
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.config.vlp import ClassifierConfig
from evlvideo.data.loading.mixture import Mixture
from evlvideo.inference.classifying import StatementCollator, classify
from evlvideo.metrics.bootstrap import mean_interval
from evlvideo.models.vlp.classification import ClassifierTraining
from evlvideo.models.vlp.images import read_guidance
from evlvideo.processes import join_processes
from evlvideo.results.run_directory import check_writable
from evlvideo.training.vlp.checkpoints import check_same_config, checkpoint_to_resume
from evlvideo.training.vlp.loop import Loop
from evlvideo.training.vlp.run import run_loop
from evlvideo.training.vlp.validation import Validation

ACCURACY = "validation_accuracy"


def train_classifier(config: ClassifierConfig, *, resume: bool = False, console: Console | None = None) -> Path:
    """Train a classifier, and write the best checkpoint by validation accuracy into the run's directory.

    Args:
        config: the run.
        resume: resume from the newest checkpoint in the run's directory.
        console: where to draw progress. Defaults to standard error.

    Returns:
        the run's directory.

    Raises:
        UserError: something that the config names is missing or does not fit, or another process trains in the run's
            directory; no file has been written.
        UserError: the run has diverged.
        Interrupted: a signal stopped the run.
    """
    join_processes()
    directory = Path(config.output_dir)
    check_writable(directory)
    if found := checkpoint_to_resume(directory, resume):
        check_same_config(config, found)
    guidance = read_guidance(config.model.pruning)
    dtype = DTYPES[resolve_precision(config.training.precision)]
    statements, validation = read_split(config, "train").statements, read_split(config, "validate").statements
    set_seed(config.seed)
    model, tokenizer = start_classifier(config, (statement.text for statement in statements))
    if config.training.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    losses, training = config.losses, config.training
    collator = StatementCollator(tokenizer, config.model.max_text_tokens)
    labels = np.array([statement.label for statement in validation])
    of_validation = statement_dataset(config, validation, training=False)

    def measure() -> dict[str, float]:
        probabilities = classify(
            model,
            of_validation,
            collator,
            guidance=guidance,
            batch_size=config.evaluation.batch_size,
            num_workers=config.data.num_workers,
            dtype=dtype,
        )
        return accuracy_values(probabilities, labels)

    loop = Loop(
        config,
        directory,
        ClassifierTraining(model, guidance, losses.momentum if losses.alpha else None),
        tokenizer,
        Mixture(
            {config.task: statement_dataset(config, statements, training=True)},
            {config.task: 1.0},
            seed=config.seed,
            items_per_step=training.batch_size * training.gradient_accumulation_steps * PartialState().num_processes,
        ),
        collator,
        Validation(measure, ACCURACY),
        dtype,
        {"stage": "classify", "task": config.task},
    )
    run_loop(loop, config.seed, directory, resume=resume, console=console)
    return directory


def accuracy_values(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compute the accuracy, its interval by the bootstrap, and the loss.

    Args:
        probabilities: `(statements, classes)`.
        labels: `(statements,)`.
    """
    right = (probabilities.argmax(axis=1) == labels).astype(float)
    low, high = mean_interval(right)
    log_likelihood = np.log(np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).tiny))
    return {
        ACCURACY: float(right.mean()),
        f"{ACCURACY}_low": low,
        f"{ACCURACY}_high": high,
        "validation_loss": float(-log_likelihood.mean()),
    }
