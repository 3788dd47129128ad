"""What a run's directory holds, and under which names."""

from pathlib import Path

from evlvideo.config import RunConfig, load_config
from evlvideo.errors import UserError

CONFIG_NAME = "config.yaml"
"""The whole config of the run."""
SUMMARY_NAME = "training.json"
"""What came out: the best step, the trained parameters, the seconds."""
LOG_NAME = "log.jsonl"
"""One JSON object a line, of training and of validation."""
CHECKPOINTS_NAME = "checkpoints"
"""Directory of what a run resumes from; the best checkpoint's weights are in the run's directory itself."""
EVALUATIONS_NAME = "evaluation"
"""Directory of the evaluations, one a split."""
PREDICTIONS_NAME = "predictions.json"
"""In an evaluation's directory: the captions."""
RESULT_NAME = "result.json"
"""In an evaluation's directory: the scores, and all that they depend on."""


def evaluation_directory(run: Path, dataset: str, split: str, *, shuffle_frames: bool = False) -> Path:
    """Where the predictions and the result of a run on a split are."""
    return run / EVALUATIONS_NAME / f"{dataset}-{split}{'-shuffled' if shuffle_frames else ''}"


def run_config(run: Path, overrides: list[str] | None = None) -> RunConfig:
    """The config that a run was made with, with `key=value` overrides.

    Raises:
        UserError: the directory holds none.
    """
    path = run / CONFIG_NAME
    if not path.is_file():
        raise UserError(f"{run} holds no {CONFIG_NAME}, so it is not a run; name the directory of a finished run.")
    return load_config(path, overrides)
