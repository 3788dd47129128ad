"""The outcome of a sweep, as records and as a table."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.markup import escape
from rich.table import Table

from evlvideo.experiments.sweep.plan import Sweep, Variant
from evlvideo.metrics.names import TITLES, format_score
from evlvideo.results.records import EvaluationResult

SCORES = ("cider", "bleu_4", "meteor", "rouge_l")
_LEGEND = (
    "merged: tokens of a frame that the connector merges, over all layers; soft: tokens of a clip that the language "
    "model is given; G: billions of multiply-adds for a clip."
)


@dataclass(frozen=True, slots=True)
class Point:
    """One value and its outcome."""

    value: Any
    label: str
    run: str
    """Directory of the run."""
    merged_tokens: int
    """Tokens of a frame that the connector merges away."""
    soft_tokens: int
    """Tokens of a clip that the language model is given."""
    training_multiply_adds: int
    """Of one cross-entropy pass of a clip."""
    captioning_multiply_adds: int
    """Of captioning one clip."""
    training_seconds: float | None
    """None if a checkpoint was only evaluated."""
    trained_parameters: int | None
    clips_scored: int
    clips_expected: int
    scores: dict[str, float] = field(default_factory=dict)
    """Metric → score, a fraction."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Metric → why it is missing."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, variant: Variant, result: EvaluationResult) -> "Point":
        """Combine what was planned and what was measured."""
        notes = [*variant.notes, *result.deviations, *(remark.removesuffix(".") for remark in result.remarks)]
        if result.missing_clips:
            notes.append(
                f"scored on {result.clips_scored} of {result.clips_expected} clips; the others are not decoded"
            )
        return cls(
            value=variant.value,
            label=variant.label,
            run=str(variant.directory),
            merged_tokens=variant.merged_tokens,
            soft_tokens=variant.soft_tokens,
            training_multiply_adds=variant.training_multiply_adds,
            captioning_multiply_adds=variant.captioning_multiply_adds,
            training_seconds=result.training_seconds,
            trained_parameters=result.trained_parameters,
            clips_scored=result.clips_scored,
            clips_expected=result.clips_expected,
            scores=dict(result.scores),
            skipped=dict(result.skipped),
            notes=tuple(notes),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The values of a sweep that are finished."""

    sweep: Sweep
    split: str
    points: tuple[Point, ...]

    @property
    def trained(self) -> bool:
        """Return whether each value was trained."""
        return self.sweep.checkpoint is None

    @property
    def title(self) -> str:
        """Return what was swept, and on which split."""
        dataset = self.sweep.variants[0].config.data.dataset
        source = "trained with each value" if self.trained else f"{self.sweep.checkpoint}, not trained again"
        return f"{self.sweep.key} on {dataset}:{self.split}, {source}"

    def record(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {
            "key": self.sweep.key,
            "checkpoint": self.sweep.checkpoint,
            "dataset": self.sweep.variants[0].config.data.dataset,
            "split": self.split,
            "values": [variant.label for variant in self.sweep.variants],
            "points": [asdict(point) for point in self.points],
        }


def _columns(outcome: Outcome) -> list[str]:
    titles = [outcome.sweep.name, "merged", "soft", *(TITLES[metric] for metric in SCORES)]
    if outcome.trained:
        titles += ["train s", "train G"]
    return [*titles, "caption G"]


def _cells(outcome: Outcome, point: Point) -> list[str]:
    cells = [point.label, str(point.merged_tokens), str(point.soft_tokens)]
    cells += [format_score(point.scores.get(metric)) for metric in SCORES]
    if outcome.trained:
        seconds = "–" if point.training_seconds is None else f"{point.training_seconds:,.1f}"
        cells += [seconds, f"{point.training_multiply_adds / 1e9:,.3g}"]
    return [*cells, f"{point.captioning_multiply_adds / 1e9:,.3g}"]


def _below(outcome: Outcome) -> list[str]:
    notes = [f"{outcome.sweep.name}={point.label}: {note}." for point in outcome.points for note in point.notes]
    reasons = {f"{TITLES[metric]}: {reason}." for point in outcome.points for metric, reason in point.skipped.items()}
    return [_LEGEND, *notes, *sorted(reasons)]


def to_rich(outcome: Outcome) -> Table:
    """Render for a terminal."""
    table = Table(*_columns(outcome), title=escape(outcome.title))
    for column in table.columns:
        column.justify = "right"
    for point in outcome.points:
        table.add_row(*map(escape, _cells(outcome, point)))
    table.caption = escape("\n".join(_below(outcome)))
    return table


def to_markdown(outcome: Outcome) -> str:
    """Render as a Markdown table, with a title and notes."""
    titles = _columns(outcome)
    rows: list[Sequence[str]] = [titles, ["---:"] * len(titles), *(_cells(outcome, point) for point in outcome.points)]
    lines = [f"**{outcome.title}**", "", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([*lines, "", *(f"- {note}" for note in _below(outcome))]) + "\n"


def to_csv(outcome: Outcome) -> str:
    """Render one row a value; numbers in full, scores as fractions."""
    metrics = list(dict.fromkeys(metric for point in outcome.points for metric in point.scores))
    plain = [name for name in Point.__slots__ if name not in ("value", "scores", "skipped", "notes")]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*plain, *metrics, "notes"])
    for point in outcome.points:
        values = ["" if getattr(point, name) is None else getattr(point, name) for name in plain]
        writer.writerow([*values, *(point.scores.get(metric, "") for metric in metrics), "; ".join(point.notes)])
    return buffer.getvalue()
