"""Reads the `pruning` of an architecture."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from evlvideo.errors import UserError
from evlvideo.models.blocks.pruned_encoding import Pruning
from evlvideo.models.tokens.pruning import LOOK_AHEADS, PRESETS, VISION_SHARE, PruningSchedule

GUIDES = ("none", "class", "prompt", "predicted", "draft")
"""What guides pruning, by name. `none`: nothing is pruned. `class`: the class token alone, alike in training and
evaluation. `prompt`: one text, `prompt`, for all clips. `predicted`: the text that a linear map predicts from the class
token. `draft`: the caption of a first pass, which is pruned by the class token; training has no drafts and is guided by
the class token."""
FITTED_GUIDES = ("prompt", "predicted", "draft")
"""Guides with maps that are fitted to training clips; see :mod:`evlvideo.models.blocks.pruning_guide`."""
DRAFT = "draft"
NEEDS_FRAMES = (
    "pruning.guide=draft prunes each clip by its own draft, on which stored features would depend; set data.features "
    "to null, or guide to class or predicted"
)
"""Why drafts and stored features exclude each other."""
_SCORES = ("attention", "random")


@dataclass(frozen=True, slots=True)
class PruningOptions:
    """Keys of `pruning`: a preset, or a schedule of one's own, and where guide and scores come from."""

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
    guide: str = "class"
    """One of :data:`GUIDES`."""
    prompt: str | None = None
    """The text of `guide: prompt`."""
    vision_share: float | None = None
    """Share of the class token beside a text, from 0 to 1. Defaults to the published 0.8."""
    fold: bool = True
    """Whether pruned tokens are folded into one. If false, a control, they are dropped."""
    scores: str = "attention"
    """`attention`, of the class token; or `random`, a control, drawn from the checksum of each frame's pixels."""


def read_options(given: Mapping[str, Any]) -> PruningOptions:
    """Read the keys of a configuration's `pruning`.

    Raises:
        UserError: keys are unknown, contradict each other, or have values that are not allowed.
    """
    names = [field.name for field in fields(PruningOptions)]
    if unknown := sorted(map(str, given.keys() - set(names))):
        raise UserError(f"pruning has no key {', '.join(unknown)}; it has {', '.join(names)}.")
    options = PruningOptions(**given)
    if options.guide == "caption":
        raise UserError(
            "pruning.guide is 'caption', which would tell the captioner what it is to say, and there is none when a "
            "new clip is captioned; guide=draft prunes by a caption of the model's own."
        )
    for name, allowed in (("look_ahead", LOOK_AHEADS), ("guide", GUIDES), ("scores", _SCORES)):
        if (value := getattr(options, name)) not in allowed:
            raise UserError(f"pruning.{name} is {value!r}; allowed: {', '.join(allowed)}.")
    _check_guide(options)
    return options


def _check_guide(options: PruningOptions) -> None:
    """Check the keys that say what guides."""
    guide, prompt, share = options.guide, options.prompt, options.vision_share
    if guide == "prompt" and not (isinstance(prompt, str) and prompt.strip()):
        raise UserError(f"pruning.guide is prompt, and pruning.prompt {prompt!r}; give a text, such as 'a person'.")
    if guide != "prompt" and prompt is not None:
        raise UserError(f"pruning.prompt is {prompt!r}, but pruning.guide is {guide}; set guide to prompt.")
    if share is not None and (isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1):
        raise UserError(f"pruning.vision_share is {share!r}; it must be a number from 0 to 1.")
    if share is not None and guide not in FITTED_GUIDES:
        raise UserError(
            f"pruning.vision_share is {share}, but guide={guide} has no text beside the class token; leave it out, or "
            f"set guide to {', '.join(FITTED_GUIDES[:-1])} or {FITTED_GUIDES[-1]}."
        )
    if not isinstance(options.fold, bool):
        raise UserError(f"pruning.fold is {options.fold!r}; it must be true or false.")
    if options.scores == "random" and guide in FITTED_GUIDES:
        raise UserError(
            f"pruning.scores is random, which no guide changes, but pruning.guide is {guide}; leave it out."
        )


def read_pruning(options: PruningOptions) -> Pruning:
    """Make the pruning that options ask for, whatever guides it.

    Raises:
        UserError: the schedule is wrong.
    """
    return Pruning(
        _preset(options) if options.preset is not None else _own(options),
        look_ahead=options.look_ahead,  # type: ignore[arg-type]  # checked when they were read
        vision_share=VISION_SHARE if options.vision_share is None else float(options.vision_share),
        fold=options.fold,
        at_random=options.scores == "random",
    )


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
