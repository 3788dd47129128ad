"""An estimate as tables for a terminal."""

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
_GIB = 2**30


def estimate_table(estimate: Estimate) -> RenderableType:
    """Parameters and multiply-adds by part, and memory, with what is in them said below."""
    asked = estimate.workload
    return Group(
        Text("Parameters, and multiply-adds"),
        _costs(estimate),
        Text(),
        Text(
            f"Memory in training, {asked.precision}, {asked.batch_size} {'clip' if asked.batch_size == 1 else 'clips'}"
        ),
        _memory(estimate.memory),
        Text(),
        *(Text(line, style="dim") for line in _remarks(estimate)),
    )


def _costs(estimate: Estimate) -> Table:
    columns = {
        "parameters": (estimate.parameters, _number),
        "trained": (estimate.trained, _number),
        "saved": (estimate.saved, _number),
        "training, a clip": (estimate.training_clip, _number),
        "training, a batch": (estimate.training_batch, _number),
        "captioning, a clip": (estimate.captioning_clip, _number),
    }
    table = _table(list(columns))
    for part in (field.name for field in fields(ByPart)):
        table.add_row(_PARTS[part], *(show(getattr(numbers, part)) for numbers, show in columns.values()))
    table.add_row("all", *(show(numbers.total) for numbers, show in columns.values()), style="bold")
    return table


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
        f"A clip: {asked.num_frames} frames, {estimate.soft_tokens} soft tokens, {asked.captions_per_clip} x "
        f"{asked.text_tokens} text tokens in training; {asked.num_beams} beams x {asked.new_tokens} new tokens.",
        "Multiply-adds are those of matrix products and convolutions; training is forward and backward.",
        "Memory is without the CUDA context, fragmentation, and buffers that come and go.",
    ]


def _number(number: int) -> str:
    """In thousands, millions or billions, so that a toy's numbers are seen as well as a full model's."""
    if number < 1000:
        return str(number)
    power = min(3, (len(str(number)) - 1) // 3)
    return f"{number / 1000**power:,.1f} {'kMG'[power - 1]}"


def _gib(number: int) -> str:
    return f"{number / _GIB:,.2f}"
