"""A scored system, and whether several of them may stand in one table."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from evlvideo.comparison.rows.training_log import TrainingLog
from evlvideo.config.data import DataConfig
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.results.records import EvaluationResult
from evlvideo.results.validation_records import ValidationRecord


class Scored(Protocol):
    """What a row needs of a system, whether its captions or its answers were scored."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def directory(self) -> Path | None:
        """Directory of the run, if it is one."""

    @property
    def regime(self) -> Literal["trained", "scored"]:
        """Whether it was trained here or only scored here."""

    @property
    def config(self) -> RunConfig | None:
        """Config of the run, if there is one."""

    @property
    def scored(self) -> Collection[str]:
        """Ids of the clips or questions that were scored."""

    @property
    def expected(self) -> int:
        """Number of those that were to be scored."""

    @property
    def comparable(self) -> bool:
        """Whether it pairs with other systems."""


@dataclass(frozen=True, slots=True)
class System:
    """Captions of one split and their scores: of a run, of another system, or of humans."""

    name: str
    """Name of the run's directory, with parents if several runs share it; or the name given with the captions."""
    directory: Path | None
    """Directory of the run. `None` for captions from elsewhere."""
    result: EvaluationResult
    predictions: Mapping[str, str]
    """Clip → caption."""
    training_log: TrainingLog
    """What the run logged while it trained."""
    training: Mapping[str, Any]
    """`training.json`. Empty if the run has none."""
    data: DataConfig | None
    """Where the clips are, from `config.yaml`. `None` if the run has none."""
    regime: Literal["trained", "scored"] = "trained"
    """Whether it was trained here or only scored here."""
    source: str | None = None
    """Origin of the captions of another system. `None` for a run trained here."""
    is_human: bool = False
    """Whether these are human captions, which are scored against one reference fewer."""
    config: RunConfig | None = None
    """Config of the run, from `config.yaml`. `None` if there is none."""
    validations: Sequence[ValidationRecord] = ()
    """What its validations saw."""

    @property
    def scored(self) -> Collection[str]:
        """Ids of the scored clips."""
        return self.result.per_clip.keys()

    @property
    def expected(self) -> int:
        """Number of clips of the references."""
        return self.result.clips_expected

    @property
    def comparable(self) -> bool:
        """Whether it was scored on all clips with the shared references, so that it pairs with other systems."""
        return not self.is_human and self.result.clips_scored == self.result.clips_expected

    @property
    def trained_parameters(self) -> int | None:
        """Number of trained parameters, from the result or else from the run."""
        return _first(self.result.trained_parameters, self.training.get("trained_parameters"))

    @property
    def training_seconds(self) -> float | None:
        """Seconds spent training, from the result or else from the run."""
        return _first(self.result.training_seconds, self.training.get("training_seconds"))


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


_DIGEST = "references' digest"
_MUST_AGREE: dict[str, Callable[[EvaluationResult], Any]] = {
    "dataset": lambda result: result.dataset,
    "split": lambda result: result.split,
    "clips of the split": lambda result: result.clips_expected,
    _DIGEST: lambda result: result.references.sha256[:12],
    "tokenization": lambda result: result.tokenizer,
    "document frequencies of subsets": lambda result: result.subset_frequencies,
    "decoding": lambda result: result.decoding or None,
}
"""What must agree for scores to be comparable. The location of the references does not matter, only their content."""


def check_scored_alike(systems: Sequence[System]) -> None:
    """Check that systems were scored on the same clips in the same way.

    Ignores the decoding of captions from elsewhere, which is unknown, and the references of the human row.

    Raises:
        UserError: they were not. Lists every difference with the systems on either side.
    """
    facts = {
        title: {
            system.name: of(system.result)
            for system in systems
            if not ((title == "decoding" and system.regime == "scored") or (title == _DIGEST and system.is_human))
        }
        for title, of in _MUST_AGREE.items()
    }
    if found := differences(facts):
        raise UserError(
            "These runs were not scored the same way, so their numbers do not belong in one table:\n"
            + "\n".join(found)
            + "\nEvaluate them alike, or compare those that agree."
        )


def differences(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each fact in which systems differ, with the systems on either side.

    Args:
        facts: title of the fact → name of the system → value.
    """
    lines = []
    for title, values in facts.items():
        sides: dict[str, list[str]] = {}
        for name, value in values.items():
            sides.setdefault(_spell(value), []).append(name)
        if len(sides) > 1:
            listed = "; ".join(f"{value} ({', '.join(names)})" for value, names in sides.items())
            lines.append(f"  - {title}: {listed}")
    return lines


def _spell(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={value[key]}" for key in sorted(value))
    return "not stated" if value is None else str(value)
