"""Draw validation loss and CIDEr over steps, a line for each arm and a thin one for each seed."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evlvideo.experiments.sweep.figure import STYLE
from evlvideo.files import replacing

_COLORS = ("#1f5fa8", "#6fa3d8", "#b3541e", "#5a8a3c")


def draw_curves(arms: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the figure, as SVG.

    Args:
        arms: the arms of a report, which are validated at the same steps.
        path: the file.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.7), layout="constrained", dpi=150)
        left, right = figure.subplots(1, 2)
        _panel(left, arms, "loss", 1.0, "validation loss")
        _panel(right, arms, "cider", 100.0, "validation CIDEr")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        with replacing(path) as temporary:
            # No date, so that the same numbers give the same file.
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def _panel(axes: Axes, arms: Sequence[dict[str, Any]], key: str, scale: float, title: str) -> None:
    for name, color in zip(dict.fromkeys(arm["arm"] for arm in arms), _COLORS, strict=False):
        curves = [arm["curve"] for arm in arms if arm["arm"] == name]
        steps = [point["step"] for point in curves[0]]
        values = [[scale * point[key] for point in curve] for curve in curves]
        for of_seed in values:
            axes.plot(steps, of_seed, color=color, linewidth=0.5, alpha=0.5)
        axes.plot(steps, [mean(at_step) for at_step in zip(*values, strict=True)], color=color, label=name)
    axes.set_xlabel("steps")
    axes.set_ylabel(title)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
