"""Lays out learning curves: positions of ticks, lines and dots, which the template draws."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evlvideo.comparison.rows.system import System
from evlvideo.comparison.rows.training_log import Points

WIDTH, HEIGHT = 440, 264
"""Size of a chart in its own units."""
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 42
"""Margins around the plotted area."""
MOST_POINTS = 150
"""Longer training curves are averaged over neighbouring points down to this number."""
MOST_DOTS = 40
"""Curves with more points have no dots."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled position on an axis."""

    position: float
    label: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A measured point with its tooltip."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Curve:
    """The line of one system."""

    name: str
    system: int
    """Index of the system in the comparison, which determines its colour."""
    path: str
    """Points of an SVG polyline."""
    dots: tuple[Dot, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with both axes."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...]
    summary: str
    """Last value of each line, as alternative text."""
    remark: str = ""


def draw_learning_curves(runs: Sequence[System]) -> list[Chart]:
    """Lay out training loss, validation loss, reward and validation CIDEr of the runs, as far as logged.

    The training loss is for cross-entropy runs only: self-critical training minimises another quantity.
    """
    cross_entropy = [_points(run, "loss") if run.training.get("stage") != "scst" else () for run in runs]
    left_out = any(run.training.get("stage") == "scst" for run in runs) and any(cross_entropy)
    remark = "Self-critical runs minimise another loss and are left out." if left_out else ""
    validation = [tuple((step, 100 * cider) for step, cider in _points(run, "validation_cider")) for run in runs]
    names = [run.name for run in runs]
    charts = [
        draw("Training loss", "cross-entropy", names, [_thin(points) for points in cross_entropy], remark),
        draw("Validation loss", "cross-entropy", names, [_points(run, "validation_loss") for run in runs]),
        draw("Reward in self-critical training", "mean reward", names, [_thin(_points(run, "reward")) for run in runs]),
        draw("Validation CIDEr", "CIDEr", names, validation),
    ]
    return [chart for chart in charts if chart is not None]


def _points(run: System, key: str) -> Points:
    return run.training_log.get(key, ())


def draw(title: str, y_label: str, names: Sequence[str], lines: Sequence[Points], remark: str = "") -> Chart | None:
    """Lay out one line for each name. `None` if no line has a point."""
    points = [point for line in lines for point in line]
    if not points:
        return None
    x_values, y_values = [step for step, _ in points], [value for _, value in points]
    x_ticks, y_ticks = nice_ticks(min(x_values), max(x_values)), nice_ticks(min(y_values), max(y_values))

    def place_x(step: float) -> float:
        return round(LEFT + (step - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - LEFT - RIGHT), 1)

    def place_y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - TOP - BOTTOM), 1)

    curves = []
    for system, (name, line) in enumerate(zip(names, lines, strict=True)):
        if not line:
            continue
        placed = [(place_x(step), place_y(value)) for step, value in line]
        dots = tuple(
            Dot(x, y, f"{name}, step {step:,}: {value:.4g}")
            for (x, y), (step, value) in zip(placed, line, strict=True)
            if len(line) <= MOST_DOTS
        )
        curves.append(Curve(name, system, " ".join(f"{x:g},{y:g}" for x, y in placed), dots))
    ends = ", ".join(f"{name} {line[-1][1]:.4g}" for name, line in zip(names, lines, strict=True) if line)
    return Chart(
        title=title,
        x_label="optimizer steps",
        y_label=y_label,
        x_ticks=tuple(Tick(place_x(value), _spell(value)) for value in x_ticks),
        y_ticks=tuple(Tick(place_y(value), _spell(value)) for value in y_ticks),
        curves=tuple(curves),
        summary=f"{title} by optimizer step. Last values: {ends}.",
        remark=remark,
    )


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Choose round values that enclose `low` and `high`, spaced by 1, 2 or 5 times a power of ten."""
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    power = 10 ** math.floor(math.log10((high - low) / about))
    apart = next(power * factor for factor in (1, 2, 5, 10) if power * factor * about >= (high - low) * 0.999)
    first, last = math.floor(low / apart + 1e-9), math.ceil(high / apart - 1e-9)
    return [round(index * apart, 12) for index in range(first, last + 1)]


def _thin(points: Points) -> Points:
    size = math.ceil(len(points) / MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple((group[-1][0], sum(value for _, value in group) / len(group)) for group in groups)


def _spell(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"
