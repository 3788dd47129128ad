"""Reads the `pruning` of an architecture."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from evlvideo.errors import UserError
from evlvideo.models.blocks.pruned_encoding import Pruning
from evlvideo.models.tokens.pruning import LOOK_AHEADS, PRESETS, PruningSchedule


@dataclass(frozen=True, slots=True)
class PruningOptions:
    """Keys of `pruning`: a preset, or a schedule of one's own, and where scores come from."""

    preset: str | None = None
    """Published schedule: `blip`, `albef`, `clip` or `meter`."""
    begin: list[int] | None = None
    """Blocks before which tokens are pruned, from 1."""
    keep: list[float] | None = None
    """Shares of the patches that are kept."""
    blocks_ahead: list[int] | None = None
    """Blocks that `look_ahead: exact` looks ahead at each prune. Defaults to 1."""
    look_ahead: str = "one"
    """`exact`, `one` or `previous`; see :data:`evlvideo.models.tokens.pruning.LOOK_AHEADS`. A frozen tower has no
    backward pass, in which `exact` would earn what it costs."""


def read_pruning(given: Mapping[str, Any]) -> Pruning:
    """Make the pruning that a configuration asks for. The class token is the guide.

    Raises:
        UserError: keys are unknown, contradict each other, or have values that are not allowed.
    """
    names = [field.name for field in fields(PruningOptions)]
    if unknown := sorted(map(str, given.keys() - set(names))):
        raise UserError(f"pruning has no key {', '.join(unknown)}; it has {', '.join(names)}.")
    options = PruningOptions(**given)
    if options.look_ahead not in LOOK_AHEADS:
        raise UserError(f"pruning.look_ahead is {options.look_ahead!r}; allowed: {', '.join(LOOK_AHEADS)}.")
    schedule = _preset(options) if options.preset is not None else _own(options)
    return Pruning(schedule, look_ahead=options.look_ahead)  # type: ignore[arg-type]  # checked above


def _preset(options: PruningOptions) -> PruningSchedule:
    if options.preset not in PRESETS:
        raise UserError(f"pruning.preset is {options.preset!r}; allowed: {', '.join(PRESETS)}.")
    if both := [name for name in ("begin", "keep", "blocks_ahead") if asdict(options)[name] is not None]:
        raise UserError(f"pruning has a preset and {', '.join(both)}; give one or the other.")
    return PRESETS[options.preset]


def _own(options: PruningOptions) -> PruningSchedule:
    begin, keep = options.begin, options.keep
    if not _numbers(begin, int) or not _numbers(keep, float):
        raise UserError(
            f"pruning.begin is {begin!r} and pruning.keep {keep!r}; give lists of blocks and of shares, such as "
            "[2, 4, 10] and [0.9, 0.65, 0.4], or a preset."
        )
    assert begin is not None
    assert keep is not None
    ahead = [1] * len(begin) if options.blocks_ahead is None else options.blocks_ahead
    if not _numbers(ahead, int):
        raise UserError(f"pruning.blocks_ahead is {ahead!r}; it must be a list of numbers of blocks.")
    return PruningSchedule(tuple(begin), tuple(ahead), tuple(keep))


def _numbers(values: Any, kind: type) -> bool:
    kinds = (int, float) if kind is float else (int,)
    return isinstance(values, list) and all(isinstance(v, kinds) and not isinstance(v, bool) for v in values)
