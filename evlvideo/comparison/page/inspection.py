"""Records of what the compared models prune, merge and attend to, ready to be drawn."""

from dataclasses import dataclass, field

import numpy as np

from evlvideo.comparison.page.clip_media import PageImage


@dataclass(frozen=True, slots=True)
class MergingView:
    """Merged tokens of a clip in one system."""

    before: int
    """Tokens of a frame, class token included."""
    after: int
    """Tokens left of a frame, or of all frames if they were averaged before."""
    averaged: bool
    """Whether frames were averaged before, so that all share their groups."""
    painted: tuple[PageImage, ...]
    """Frames in order."""
    groups: np.ndarray | None = field(default=None, compare=False, repr=False)
    """Which merged token each patch is in, integers (T or 1, rows, columns) from 0 in the order of appearance."""


@dataclass(frozen=True, slots=True)
class PruningView:
    """Patches of a clip that the vision tower of one system prunes."""

    patches: int
    """Patches of a frame."""
    left: tuple[int, ...]
    """Patches with a token of their own after each prune, in the first frame."""
    blocks: tuple[int, ...]
    """Blocks before which the prunes are, from 0."""
    guide: str
    """What guides; see :data:`evlvideo.models.blocks.pruning_options.GUIDES`."""
    painted: tuple[PageImage, ...]
    """Frames in order, each once for each prune."""


@dataclass(frozen=True, slots=True)
class AttentionView:
    """Attention over the frames of a clip in one system."""

    form: str
    """`in_tower` or `merged`."""
    shares: tuple[float, ...]
    """Share of the attention for each frame. They sum to 1."""
    rows: tuple[tuple[float, ...], ...]
    """The shares for each attending frame (in the tower) or each context token (over merged tokens)."""
    gate: float
    """Absolute value of the gate on the context, averaged over blocks. 0 adds nothing."""

    @property
    def highest(self) -> float:
        """The largest share in any row."""
        return max(max(row) for row in self.rows)


@dataclass(frozen=True, slots=True)
class SystemView:
    """The view of one system on a clip."""

    system: int
    """Index of the system in the comparison."""
    name: str
    merging: MergingView | None
    attention: AttentionView | None
    pruning: PruningView | None = None


@dataclass(frozen=True, slots=True)
class ClipViews:
    """The views of all systems on a clip."""

    clip_id: str
    frames: tuple[PageImage, ...]
    """Frames as the first of the systems sees them."""
    views: tuple[SystemView, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was seen inside the systems, and remarks on what is missing."""

    clips: tuple[ClipViews, ...] = ()
    remarks: tuple[str, ...] = ()
