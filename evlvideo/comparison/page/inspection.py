"""What was seen inside the compared models on a few clips, ready to be drawn."""

from dataclasses import dataclass

from evlvideo.comparison.page.clip_media import PageImage


@dataclass(frozen=True, slots=True)
class MergingView:
    """One system's merged tokens of a clip."""

    before: int
    """Tokens of a frame, class token included."""
    after: int
    """Tokens that are left of a frame; where frames were averaged before, of all of them."""
    averaged: bool
    """Whether frames were averaged before, so that all have the same groups."""
    painted: tuple[PageImage, ...]
    """Frames in order."""


@dataclass(frozen=True, slots=True)
class AttentionView:
    """One system's attention over the frames of a clip."""

    form: str
    """`in_tower` or `merged`."""
    shares: tuple[float, ...]
    """How much of the attention each frame gets; they sum to 1."""
    rows: tuple[tuple[float, ...], ...]
    """The same for each frame that attends, in the tower, or for each token of the context, over merged tokens."""
    gate: float
    """Size of the gate that the context goes through, averaged over the tower's blocks; 0 adds nothing."""

    @property
    def highest(self) -> float:
        """The largest share in any row."""
        return max(max(row) for row in self.rows)


@dataclass(frozen=True, slots=True)
class SystemView:
    """What one system did with a clip."""

    system: int
    """Place of the system among all of the comparison."""
    name: str
    merging: MergingView | None
    attention: AttentionView | None


@dataclass(frozen=True, slots=True)
class ClipViews:
    """What the systems did with a clip."""

    clip_id: str
    frames: tuple[PageImage, ...]
    """Frames as the first of the systems got them."""
    insights: tuple[SystemView, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was seen inside the systems, and why it is not more."""

    clips: tuple[ClipViews, ...] = ()
    remarks: tuple[str, ...] = ()
