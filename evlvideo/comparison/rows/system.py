"""A system of a comparison, and whether several of them may stand in one table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evlvideo.comparison.rows.training_log import TrainingLog
from evlvideo.config.data import DataConfig
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.results.records import EvaluationResult


@dataclass(frozen=True, slots=True)
class System:
    """A system whose captions of one split were scored here: a run, or captions that came from elsewhere."""

    name: str
    """The run's directory, with its parents where several runs share it; or the name that captions were given with."""
    directory: Path | None
    """The run's directory; `None` for captions from elsewhere."""
    result: EvaluationResult
    predictions: Mapping[str, str]
    """Clip to caption."""
    history: TrainingLog
    """What the run logged while it trained."""
    training: Mapping[str, Any]
    """`training.json`, empty where the run has none."""
    data: DataConfig | None
    """Where the clips are, from `config.yaml`; `None` where the run has none."""
    regime: Literal["trained", "scored"] = "trained"
    """Whether it was trained here, or is another system, whose captions were only scored here."""
    source: str | None = None
    """Where another system's captions are from; `None` for what was trained here."""
    is_human: bool = False
    """Whether it was scored against other references than the systems beside it, as people are."""
    config: RunConfig | None = None
    """What it was run with, from `config.yaml`; `None` where there is none."""

    @property
    def comparable(self) -> bool:
        """Whether it was scored on all clips, with the references of the others, so that it pairs with them."""
        return not self.is_human and self.result.clips_scored == self.result.clips_expected

    @property
    def trained_parameters(self) -> int | None:
        """Parameters that were trained, from the result or else from the run."""
        return _first(self.result.trained_parameters, self.training.get("trained_parameters"))

    @property
    def training_seconds(self) -> float | None:
        """Seconds spent training, from the result or else from the run."""
        return _first(self.result.training_seconds, self.training.get("training_seconds"))


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


_DIGEST = "references' digest"
_MUST_AGREE: dict[str, Callable[[EvaluationResult], Any]] = {
    "data set": lambda result: result.dataset,
    "split": lambda result: result.split,
    "clips of the split": lambda result: result.clips_expected,
    _DIGEST: lambda result: result.references.sha256[:12],
    "tokenisation": lambda result: result.tokenizer,
    "decoding": lambda result: result.decoding or None,
}
"""What makes scores comparable, by its name. Where the references lie does not matter, only what they say."""


def check_scored_alike(runs: Sequence[System]) -> None:
    """Make sure that systems were scored on the same clips, in the same way.

    How captions from elsewhere were decoded is not known, and people's have references of their own, so that they are
    not held against the others in this.

    Raises:
        UserError: they were not; every difference is listed with the runs on either side.
    """
    differences = []
    for title, of in _MUST_AGREE.items():
        sides: dict[str, list[str]] = {}
        for run in runs:
            if (title == "decoding" and run.regime == "scored") or (title == _DIGEST and run.is_human):
                continue
            sides.setdefault(_spell(of(run.result)), []).append(run.name)
        if len(sides) > 1:
            listed = "; ".join(f"{value} ({', '.join(names)})" for value, names in sides.items())
            differences.append(f"  - {title}: {listed}")
    if differences:
        raise UserError(
            "These runs were not scored the same way, so their numbers do not belong in one table:\n"
            + "\n".join(differences)
            + "\nEvaluate them alike, or compare those that agree."
        )


def _spell(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={value[key]}" for key in sorted(value))
    return "not stated" if value is None else str(value)
