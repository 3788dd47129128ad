"""Evaluates a classifier of statements on a split."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from evlvideo.assembly.classifier import StatementSplit, open_classifier, read_split, statement_dataset
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.data.annotation.statements.statement import TASKS
from evlvideo.errors import UserError
from evlvideo.files import write_json
from evlvideo.inference.classifying import StatementCollator, classify
from evlvideo.metrics.bootstrap import mean_interval
from evlvideo.models.vlp.images import read_guidance
from evlvideo.processes import join_processes, on_main_process
from evlvideo.results.run_directory import check_writable

PREDICTIONS_DIRECTORY = "predictions"
"""Directory of the results in a run's directory, one file per list of statements."""


def evaluate_classifier(
    run: Path, split: str, *, overrides: list[str] | None = None, out: Path | None = None
) -> tuple[Path, dict[str, Any]]:
    """Classify the statements of a split, and write the accuracy and every prediction.

    Args:
        run: directory of a finished run.
        split: `train`, `validate` or `test`.
        overrides: changes to its config, `key=value`, such as `data.test=test_u.json`.
        out: file to write, a `.json`. Defaults to one in the run's directory, named like the list of statements.

    Returns:
        the file, and the result without its predictions.

    Raises:
        UserError: there is no such run, its statements cannot be read, or an image cannot be decoded.
    """
    state = join_processes()
    if out is not None and out.suffix != ".json":
        raise UserError(f"--out is {str(out)!r}; name a .json file.")
    config, model, tokenizer = open_classifier(run, overrides)
    found = read_split(config, split)
    file = out or run / PREDICTIONS_DIRECTORY / f"{found.annotation.stem}.json"
    check_writable(file.parent, "name another file")
    probabilities = classify(
        model.to(state.device),
        statement_dataset(config, found.statements, training=False),
        StatementCollator(tokenizer, config.model.max_text_tokens),
        guidance=read_guidance(config.model.pruning),
        batch_size=config.evaluation.batch_size,
        num_workers=config.data.num_workers,
        dtype=DTYPES[resolve_precision(config.training.precision)],
    )
    labels = TASKS[config.task].labels
    result = {"task": config.task, "split": split, **_scores(probabilities, found, labels)}
    predictions = _predictions(probabilities, found, labels)
    on_main_process(lambda: write_json(file, {**result, "predictions": predictions}))
    return file, result


def _scores(probabilities: np.ndarray, found: StatementSplit, labels: tuple[str, ...]) -> dict[str, Any]:
    truths = np.array([statement.label for statement in found.statements])
    right = (probabilities.argmax(axis=1) == truths).astype(float)
    counts = Counter(truths.tolist())
    return {
        "annotation": str(found.annotation),
        "statements": len(truths),
        "left_out": found.left_out,
        "missing_images": len(found.missing_images),
        "accuracy": float(right.mean()),
        "accuracy_interval": list(mean_interval(right)),
        "most_frequent_label": max(counts.values()) / len(truths),
        "accuracy_by_label": {
            name: float(right[truths == number].mean()) for number, name in enumerate(labels) if counts[number]
        },
    }


def _predictions(probabilities: np.ndarray, found: StatementSplit, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "id": statement.statement_id,
            "images": [str(image) for image in statement.images],
            "sentence": statement.text,
            "label": labels[statement.label],
            "prediction": labels[int(row.argmax())],
            "probabilities": {name: round(float(value), 6) for name, value in zip(labels, row, strict=True)},
        }
        for statement, row in zip(found.statements, probabilities, strict=True)
    ]
