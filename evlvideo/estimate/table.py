"""Render an estimate as tables for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evlvideo.estimate.contrast import sentence_tokens
from evlvideo.estimate.records import ByPart, Estimate, Memory, PruningCosts

_PARTS = {
    "vision_tower": "vision tower",
    "connector": "connector",
    "contextualizer": "contextualizer",
    "language_model": "language model",
    "contrast": "contrast",
}
_UNITS = ("", "k", "M", "G", "T", "P", "E")
_LARGEST = 100_000
"""A number below this is shown in its unit; above, in the next larger one."""
_MOST_DECIMALS = 3
_GB = 1000**3
_MIB, _GIB = 2**20, 2**30
_SOME_CLIPS = 1000
"""What is shown of a split whose size is unknown."""


def estimate_table(estimate: Estimate, splits: Mapping[str, int | None] | None = None) -> RenderableType:
    """Return tables of parameters and multiply-adds by part, and of memory, with remarks below.

    Args:
        estimate: the estimate.
        splits: splits that the run reads, and the number of their clips, None where it is unknown. Shown only for
            a run on stored features.
    """
    asked = estimate.workload
    parameters = {"all": estimate.parameters, "trained": estimate.trained, "saved": estimate.saved}
    multiply_adds = {
        "training, a clip": estimate.training_clip,
        "training, a batch": estimate.training_batch,
        "encoding, a clip" if asked.first_stage else "captioning, a clip": estimate.captioning_clip,
    }
    if estimate.sampling_clip is not None:
        multiply_adds["sampling, a clip"] = estimate.sampling_clip
    if estimate.answering_question is not None:
        multiply_adds["answering a question"] = estimate.answering_question
    return Group(
        *_by_part("Parameters", parameters),
        Text(),
        *_by_part("Multiply-adds", multiply_adds),
        Text(),
        *_memory(f"Memory in training, {asked.precision}, {_counted(asked.batch_size, 'clip')}", estimate.memory),
        Text(),
        *(_features(estimate, splits or {}) if asked.cached_features else ()),
        *(Text(line, style="dim") for line in _remarks(estimate)),
    )


def _by_part(title: str, columns: Mapping[str, ByPart]) -> Iterator[RenderableType]:
    """Yield a title with the unit of all columns, and a table."""
    power = power_of(max(numbers.total for numbers in columns.values()))
    yield _titled(title, _UNITS[power])
    table = plain_table(list(columns))
    parts = [part for part in _PARTS if part != "contrast" or any(numbers.contrast for numbers in columns.values())]
    cells = [_column([getattr(numbers, part) for part in parts], numbers.total, power) for numbers in columns.values()]
    for name, *row in zip((*(_PARTS[part] for part in parts), "all"), *cells, strict=True):
        table.add_row(name, *row, style="bold" if name == "all" else "")
    yield table


def power_of(largest: int) -> int:
    """Return the index of the unit that shows the largest of some numbers with few digits."""
    return next((power for power in range(len(_UNITS)) if largest < _LARGEST * 1000**power), len(_UNITS) - 1)


def _column(parts: Sequence[int], total: int, power: int) -> list[str]:
    """Return numbers in a unit, all with as many decimals as make the smallest visible."""
    scaled = [number / 1000**power for number in (*parts, total)]
    smallest = min((number for number in scaled if number), default=0.0)
    decimals = _decimals(smallest) if power else 0
    return [_number(number, decimals) for number in scaled]


def _decimals(smallest: float) -> int:
    return next((places for places in range(1, _MOST_DECIMALS) if smallest * 10**places >= 0.5), _MOST_DECIMALS)


def _number(number: float, decimals: int) -> str:
    if number == 0:
        return "0"
    shown = f"{number:,.{decimals}f}"
    return shown if float(shown.replace(",", "")) else f"<{10**-decimals:.{decimals}f}"


def _memory(title: str, memory: Memory) -> Iterator[RenderableType]:
    unit, size = _binary_unit(memory.total)
    yield _titled(title, unit)
    table = plain_table([""])
    for name in (field.name for field in fields(Memory)):
        if name == "start" and not memory.start:
            continue
        table.add_row(name, f"{getattr(memory, name) / size:,.2f}")
    table.add_row("all", f"{memory.total / size:,.2f}", style="bold")
    yield table


def _features(estimate: Estimate, splits: Mapping[str, int | None]) -> Iterator[RenderableType]:
    """Yield what features take on disk and cost to extract, by split."""
    a_clip, encoding = estimate.feature_bytes or 0, estimate.captioning_clip.vision_tower
    sizes = {name: clips for name, clips in splits.items() if clips is not None}
    if len(sizes) < max(1, len(splits)):
        sizes[f"{_SOME_CLIPS:,} clips"] = _SOME_CLIPS
    power = power_of(encoding * max(sizes.values()))
    yield Text(f"Features, {estimate.workload.precision}, extracted once")
    table = plain_table(["clips", "GB on disk", f"multiply-adds ({_UNITS[power]})"])
    gigabytes = [a_clip * clips / _GB for clips in sizes.values()]
    decimals = _decimals(min(gigabytes))
    for (name, clips), size in zip(sizes.items(), gigabytes, strict=True):
        table.add_row(name, f"{clips:,}", _number(size, decimals), _number(encoding * clips / 1000**power, 1))
    yield table
    yield Text()


def _titled(title: str, unit: str) -> Text:
    return Text(f"{title} ({unit})" if unit else title)


def plain_table(columns: list[str]) -> Table:
    """Return an empty table, whose first column has names and no title."""
    table = Table(header_style="bold", box=SIMPLE_HEAD, padding=0, show_edge=False, show_header=any(columns))
    table.add_column("", min_width=14)
    for column in columns:
        table.add_column(column, justify="right", vertical="bottom", min_width=max(map(len, column.split()), default=8))
    return table


def _remarks(estimate: Estimate) -> Iterator[str]:
    asked = estimate.workload
    frames = _counted(asked.num_frames, "frame")
    if asked.first_stage:
        yield (
            f"A clip has {frames}, {estimate.soft_tokens:,} queries and a text of "
            f"{_counted(asked.text_tokens, 'token')}; there is no language model. Encoding is what the queries give."
        )
    else:
        yield (
            f"A clip has {frames} and {_counted(estimate.soft_tokens, 'soft token')}; in training "
            f"{_counted(asked.captions_per_clip, 'caption')} of {_counted(asked.text_tokens, 'token')}, in captioning "
            f"{_counted(asked.num_beams, 'beam')} of {_counted(asked.new_tokens, 'new token')}."
        )
        yield from _remarks_on_questions(estimate)
    if asked.contrast is not None:
        yield (
            f"The contrastive term has the frozen encoder of captions {asked.contrast.text_encoder}, which reads "
            f"{_counted(sentence_tokens(asked), 'token')} of one caption a clip; it serves training alone."
        )
    yield "Multiply-adds are those of matrix products and convolutions; training is forward and backward."
    if estimate.pruning is not None:
        yield from _remarks_on_pruning(estimate.pruning)
    if asked.samples:
        yield (
            f"A step samples {_counted(asked.samples, 'caption')} of {_counted(asked.sample_tokens, 'token')} and a "
            "greedy one for every clip, before it trains."
        )
    if asked.divergence:
        yield "The model that the run started from reads the samples too, and its trained weights are kept."
    if asked.cached_features:
        yield "Training reads features: the vision tower is loaded and does not run. Captioning a new clip runs it."
    if asked.gradient_checkpointing:
        yield "Gradient checkpointing is on; what its layers compute again is not counted."
    yield from _remarks_on_memory(estimate)


def _remarks_on_questions(estimate: Estimate) -> Iterator[str]:
    asked = estimate.workload
    if not asked.question_tokens:
        return
    question = f"A question has {_counted(asked.question_tokens, 'token')} in its prompt"
    answer = f"its answer {_counted(asked.answer_beams, 'beam')} of {_counted(asked.answer_tokens, 'new token')}"
    fits = "" if estimate.answering_question is not None else ", which do not fit into the language model"
    yield f"{question}, {answer}{fits}."


def _remarks_on_pruning(costs: PruningCosts) -> Iterator[str]:
    trained = "" if costs.guide_in_training == costs.guide else f", in training by guide={costs.guide_in_training}"
    yield (
        f"The vision tower prunes by guide={costs.guide}{trained}. With look_ahead={costs.look_ahead} it costs "
        f"{costs.pruned / costs.whole:.2f} times what it costs whole, a pass."
    )
    if costs.guide == "draft":
        yield "Captioning runs the tower twice, drafts a caption first, and counts both."
    if costs.pruned > costs.cheap:
        loss = ", more than pruning saves" if costs.pruned > costs.whole else ""
        yield (
            f"Its blocks are frozen and have no backward pass that would earn what look_ahead={costs.look_ahead} "
            f"costs{loss}; with look_ahead=one, the tower costs {costs.cheap / costs.whole:.2f} times as much as whole."
        )


def _remarks_on_memory(estimate: Estimate) -> Iterator[str]:
    asked, other = estimate.workload, estimate.other_memory
    yield "Memory is without the CUDA context, fragmentation, and buffers that come and go."
    if other is not None:
        yield (
            f"training.precision=auto is {asked.precision} on this machine; where it is {asked.other_precision}, "
            f"training takes {binary(other.total)} in all."
        )
    if asked.samples:
        yield f"While captions are sampled, their keys and values take up to {binary(estimate.sampling_cache)}."
    if asked.first_stage:
        return
    yield (
        f"While {_counted(asked.clips_captioned, 'clip')} are captioned at once, keys and values take up to "
        f"{binary(estimate.captioning_cache)} beside the weights."
    )


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def _binary_unit(number: int) -> tuple[str, int]:
    return ("GiB", _GIB) if number >= _GIB else ("MiB", _MIB)


def number_in(number: int, *, power: int) -> str:
    """Return a number with its unit, such as `1.3 P`; see :func:`power_of`."""
    scaled = number / 1000**power
    return f"{_number(scaled, _decimals(scaled) if power else 0)} {_UNITS[power]}".rstrip()


def binary(number: int) -> str:
    """Return a number of bytes in GiB or MiB."""
    unit, size = _binary_unit(number)
    return f"{number / size:,.2f} {unit}"
