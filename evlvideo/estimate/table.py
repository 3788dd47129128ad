"""Render an estimate as tables for a terminal."""

from dataclasses import fields

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evlvideo.estimate.records import ByPart, Estimate, Memory

_PARTS = {
    "vision_tower": "vision tower",
    "connector": "connector",
    "contextualizer": "contextualizer",
    "language_model": "language model",
}
_UNITS = ("", "k", "M", "G")
_GIB = 2**30


def estimate_table(estimate: Estimate) -> RenderableType:
    """Return tables of parameters and multiply-adds by part, and of memory, with remarks below."""
    asked = estimate.workload
    parameters = {"all": estimate.parameters, "trained": estimate.trained, "saved": estimate.saved}
    multiply_adds = {
        "training, a clip": estimate.training_clip,
        "training, a batch": estimate.training_batch,
        "captioning, a clip": estimate.captioning_clip,
    }
    return Group(
        Text("Parameters"),
        _by_part(parameters),
        Text("\nMultiply-adds"),
        _by_part(multiply_adds),
        Text(f"\nMemory in training, {asked.precision}, {_counted(asked.batch_size, 'clip')}"),
        _memory(estimate.memory),
        Text(),
        *(Text(line, style="dim") for line in _remarks(estimate)),
    )


def _by_part(columns: dict[str, ByPart]) -> Table:
    table = _table(list(columns))
    cells = [_column(numbers) for numbers in columns.values()]
    for title, *row in zip((*_PARTS.values(), "all"), *cells, strict=True):
        table.add_row(title, *row, style="bold" if title == "all" else "")
    return table


def _column(numbers: ByPart) -> list[str]:
    """Return each part and their sum, in a unit that keeps the smallest visible."""
    parts = [getattr(numbers, part) for part in _PARTS]
    smallest = min((number for number in parts if number), default=0)
    power = max(0, min(3, (len(str(smallest)) - 1) // 3))
    return [
        f"{number / 1000**power:,.1f} {_UNITS[power]}" if number and power else f"{number:,}"
        for number in (*parts, numbers.total)
    ]


def _memory(memory: Memory) -> Table:
    table = _table(["GiB"])
    for name in (field.name for field in fields(Memory)):
        table.add_row(name, _gib(getattr(memory, name)))
    table.add_row("all", _gib(memory.total), style="bold")
    return table


def _table(columns: list[str]) -> Table:
    table = Table(header_style="bold", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("", min_width=14)
    for column in columns:
        table.add_column(column, justify="right", vertical="bottom", min_width=max(map(len, column.split())))
    return table


def _remarks(estimate: Estimate) -> list[str]:
    asked = estimate.workload
    return [
        f"A clip has {_counted(asked.num_frames, 'frame')} and {_counted(estimate.soft_tokens, 'soft token')}; in "
        f"training {_counted(asked.captions_per_clip, 'caption')} of {_counted(asked.text_tokens, 'token')}, in "
        f"captioning {_counted(asked.num_beams, 'beam')} of {_counted(asked.new_tokens, 'new token')}.",
        "Multiply-adds are those of matrix products and convolutions; training is forward and backward.",
        "Memory is without the CUDA context, fragmentation, and buffers that come and go.",
    ]


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def _gib(number: int) -> str:
    return f"{number / _GIB:,.2f}"
