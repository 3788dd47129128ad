"""Draw the figure of a sweep: score and cost, each against the swept key."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evlvideo.experiments.sweep.plan import MERGE_R
from evlvideo.experiments.sweep.table import Outcome, Point
from evlvideo.files import replacing

_COLORS = ("#1f5fa8", "#b3541e")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "evlvideo",
}
"""Matplotlib's settings for figures on a page."""
_ON_WHITE = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
_CLOSE = 0.1
"""Share of the axis that a label takes."""
# No date, so that the same numbers give the same file.
_METADATA: dict[str, dict[str, None]] = {".svg": {"Date": None}, ".png": {}}


def draw_figure(outcome: Outcome, paths: Sequence[Path]) -> None:
    """Draw the poster's third figure: CIDEr, and training time beside it, against tokens merged.

    If a checkpoint was only evaluated, the cost is the multiply-adds of captioning. For other keys than
    `model.merge_r`, the horizontal axis shows the values.

    Args:
        outcome: has at least one point.
        paths: files; their suffix tells SVG or PNG.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained", dpi=150)
        figure.suptitle(outcome.title, fontsize=10, wrap=True)
        left, right = figure.subplots(1, 2)
        scores = [None if (score := point.scores.get("cider")) is None else 100 * score for point in outcome.points]
        _panel(left, outcome, scores, "CIDEr", _COLORS[0])
        costs, title = _costs(outcome)
        _panel(right, outcome, costs, title, _COLORS[1])
        right.set_ylim(0, 1.15 * max((cost for cost in costs if cost), default=1.0))
        for path in paths:
            with replacing(path) as temporary:
                figure.savefig(temporary, format=path.suffix[1:], metadata=_METADATA[path.suffix])


def _costs(outcome: Outcome) -> tuple[list[float | None], str]:
    if outcome.trained:
        seconds = [point.training_seconds for point in outcome.points]
        if max((value for value in seconds if value is not None), default=0) < 600:
            return seconds, "training time, s"
        return [None if value is None else value / 3600 for value in seconds], "training time, h"
    return [point.captioning_multiply_adds / 1e9 for point in outcome.points], "captioning, G multiply-adds a clip"


def _panel(axes: Axes, outcome: Outcome, values: Sequence[float | None], title: str, color: str) -> None:
    positions, ticks = _positions(outcome)
    points = zip(positions, values, outcome.points, strict=True)
    drawn = [(place, value, point) for place, value, point in points if value is not None]
    drawn.sort(key=lambda entry: entry[:2])
    axes.plot([place for place, _, _ in drawn], [value for _, value, _ in drawn], color=color, linewidth=1.2, zorder=1)
    for place, value, point in drawn:
        whole = point.clips_scored == point.clips_expected
        axes.scatter([place], [value], s=26, color=color if whole else "white", edgecolors=color, zorder=2)
    if outcome.sweep.key == MERGE_R:
        for labels, place, value, below in _together(drawn):
            axes.annotate(
                f"r={labels}",
                (place, value),
                (0, -15 if below else 7),
                textcoords="offset points",
                ha="center",
                size=8,
                bbox=_ON_WHITE,
            )
        axes.margins(x=0.1, y=0.15)
        axes.set_xlabel("tokens of a frame merged, over all layers")
    else:
        axes.set_xlabel(outcome.sweep.key)
    if ticks:
        axes.set_xticks(positions, ticks)
    axes.set_ylabel(title)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)


def _positions(outcome: Outcome) -> tuple[list[float], list[str] | None]:
    """Return the positions of points on the horizontal axis, and their labels if values are not numbers."""
    if outcome.sweep.key == MERGE_R:
        return [point.merged_tokens for point in outcome.points], None
    values = [point.value for point in outcome.points]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return values, None
    return [float(place) for place in range(len(values))], [point.label for point in outcome.points]


def _together(drawn: Sequence[tuple[float, float, Point]]) -> Iterator[tuple[str, float, float, bool]]:
    """Yield the labels of points from left to right, each with its position and whether it is below its point.

    Points at one position share a label. If two are close, the second label is below.
    """
    groups: dict[float, list[tuple[float, float, Point]]] = {}
    for entry in drawn:
        groups.setdefault(entry[0], []).append(entry)
    span = max(groups, default=0.0) - min(groups, default=0.0)
    last_above = -span - 1.0
    for place, group in groups.items():
        below = place - last_above < _CLOSE * span
        last_above = last_above if below else place
        edge = min if below else max
        yield ", ".join(point.label for _, _, point in group), place, edge(value for _, value, _ in group), below
