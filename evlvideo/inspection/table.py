"""Render an inspection for a terminal."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evlvideo.inspection.findings import step_title
from evlvideo.inspection.records import ClipsSeen, Gate, Inspection, LoraNorms, MergedSizes, WeightsSeen


def inspection_table(inspection: Inspection) -> RenderableType:
    """Return the settings, tables of weights and of clips, and the verdict."""
    return Group(
        Text(inspection.checkpoint, style="bold"),
        Text(),
        _settings(inspection),
        Text("\nWeights"),
        _parts(inspection.weights),
        Text("\nNorms"),
        _norms(inspection.weights),
        *_lines(inspection.weights),
        *(() if inspection.clips is None else _clips(inspection.clips)),
        Text("\nVerdict", style="bold"),
        *(Text(finding.text, style="red" if finding.is_fault else "") for finding in inspection.findings),
    )


def _settings(inspection: Inspection) -> Table:
    settings = dict(inspection.settings)
    if merging := inspection.merging:
        counts = [merging[0].tokens, *(layer.left for layer in merging)]
        settings["token merging"] = f"{' → '.join(map(str, counts))} tokens of a frame, layer by layer"
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, value in settings.items():
        grid.add_row(name, Text(value))
    return grid


def _parts(weights: WeightsSeen) -> Table:
    table = _table("", ["parameters", "trained", "saved", "root mean square", "computes in"])
    for part in weights.parts:
        counts = (f"{number:,}" for number in (part.parameters, part.trained, part.saved))
        table.add_row(_plain(part.name), *counts, _number(part.rms), part.dtype)
    totals = (sum(getattr(part, name) for part in weights.parts) for name in ("parameters", "trained", "saved"))
    table.add_row("all", *(f"{total:,}" for total in totals), "", "", style="bold")
    return table


def _norms(weights: WeightsSeen) -> Table:
    table = _table("", ["shape", "norm", "norm of a row"])
    for weight in weights.norms:
        row = "" if weight.row is None else _number(weight.row)
        table.add_row(weight.name, " × ".join(map(str, weight.shape)), _number(weight.norm), row)
    table.add_row("word embeddings", "", "", _number(weights.words_norm))
    return table


def _lines(weights: WeightsSeen) -> Iterator[Text]:
    if weights.gates:
        yield Text(f"\nGates: {', '.join(map(_gate, weights.gates))}.")
    if weights.lora is not None:
        yield Text(f"\n{_lora(weights.lora)}")


def _gate(gate: Gate) -> str:
    positions = "" if gate.positions is None else f" (frame positions {_number(gate.positions)})"
    name = gate.name.removeprefix("vision_tower.vit.").removeprefix("connector.")
    title = name.removesuffix(".temporal_merge").replace("blocks.", "block ")
    return f"{title} {_number(gate.alpha)}{positions}"


def _lora(lora: LoraNorms) -> str:
    return (
        f"LoRA changes its {lora.layers} layers by {_percent(lora.median)} of their norm (median), at most by "
        f"{_percent(lora.largest)} ({lora.largest_name})."
    )


def _clips(clips: ClipsSeen) -> Iterator[RenderableType]:
    yield Text(f"\nTokens of {clips.clips} clips of {clips.source}, read from {clips.read_from}")
    table = _table("after", ["tokens a clip", "norm", "spread within a clip", "between clips", "share of norm"])
    for layer in clips.layers:
        spread = layer.spread
        numbers = map(_number, (spread.norm, spread.within, spread.between))
        style = "red" if clips.clips > 1 and spread.is_alike else ""
        table.add_row(step_title(layer.name), f"{layer.tokens:,}", *numbers, _percent(spread.share), style=style)
    yield table
    if clips.prompt.words_norm is not None:
        yield Text(f"Word embeddings have a norm of {_number(clips.prompt.words_norm)}.", style="dim")
    if clips.merged is not None:
        yield Text(_merged(clips.merged), style="dim")


def _merged(sizes: MergedSizes) -> str:
    return (
        f"A merged token holds {sizes.mean:.1f} tokens of its frame on average and {sizes.largest:.0f} at most; "
        f"{_percent(sizes.single)} hold one."
    )


def _table(first: str, columns: Sequence[str]) -> Table:
    table = Table(header_style="bold", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column(first, vertical="bottom", min_width=14)
    for column in columns:
        table.add_column(column, justify="right", vertical="bottom", min_width=max(map(len, column.split())))
    return table


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float) -> str:
    return f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
