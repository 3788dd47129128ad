"""Records of what an inspection found."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evlvideo.files import write_json
from evlvideo.models.tokens.prompt_statistics import PromptSpread


@dataclass(frozen=True, slots=True)
class PartWeights:
    """The weights of one part of the captioner."""

    name: str
    """`vision_tower`, `projections`, `connector`, `contextualizers`, `lora` or `language_model`."""
    parameters: int
    """All values; a shared weight counts once."""
    trained: int
    """Those that take gradients."""
    saved: int
    """Those in the checkpoint's own file; the others are read from the towers' sources."""
    dtype: str
    """Type in which the part computes here."""
    rms: float
    """Root mean square of the values."""
    not_finite: int
    """Values that are infinite or not a number."""


@dataclass(frozen=True, slots=True)
class WeightNorm:
    """The norm of one weight."""

    name: str
    shape: tuple[int, ...]
    norm: float
    """Norm of all values."""
    row: float | None
    """Mean norm of a row, of a matrix: of a learned position or query, or of a word's embedding."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A contextualizer's gate."""

    name: str
    alpha: float
    """Factor of the pooled context; 0 adds nothing."""
    positions: float | None
    """Mean norm of a frame's position, which is a gate too; None without positions."""

    @property
    def is_closed(self) -> bool:
        """Whether the contextualizer adds nothing."""
        return self.alpha == 0 and not self.positions


@dataclass(frozen=True, slots=True)
class LoraNorms:
    """How much the LoRA changes the layers it is on: norm of the change over the norm of the layer's weight."""

    layers: int
    median: float
    largest: float
    largest_name: str


@dataclass(frozen=True, slots=True)
class LayerMerging:
    """Token merging in one layer of the connector."""

    tokens: int
    """Tokens of a frame that go in."""
    left: int
    """Those that come out."""


@dataclass(frozen=True, slots=True)
class LayerSpread:
    """The tokens of clips after one step of the computation."""

    name: str
    """Name of the module."""
    tokens: int
    """Tokens of a clip, of all its frames."""
    spread: PromptSpread


@dataclass(frozen=True, slots=True)
class MergedSizes:
    """How many original tokens are in the merged tokens of a frame, over all frames of all clips."""

    mean: float
    largest: float
    """The largest merged token of a frame, on average."""
    single: float
    """Share of merged tokens that hold one original token."""


@dataclass(frozen=True, slots=True)
class ClipsSeen:
    """What the connector made of clips."""

    source: str
    """Dataset and split."""
    read_from: str
    """`videos` or `features`."""
    clips: int
    """Clips that were seen."""
    bad: dict[str, str]
    """Clip → why it could not be read."""
    layers: list[LayerSpread]
    """In the order of computation, from the vision tower's output to the soft prompt."""
    merged: MergedSizes | None
    """None for a connector that merges no tokens."""

    @property
    def prompt(self) -> PromptSpread:
        """The spread of the soft prompts."""
        return self.layers[-1].spread


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence of the verdict."""

    text: str
    is_fault: bool
    """Whether the checkpoint is of no use as it is."""


@dataclass(frozen=True, slots=True)
class WeightsSeen:
    """What the weights of a checkpoint say."""

    parts: list[PartWeights]
    norms: list[WeightNorm]
    words_norm: float
    """Mean norm of a row of the word embeddings."""
    gates: list[Gate]
    lora: LoraNorms | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of a checkpoint."""

    checkpoint: str
    settings: dict[str, str]
    """What the model is, in words, by name."""
    merging: list[LayerMerging]
    weights: WeightsSeen
    clips: ClipsSeen | None
    """None without data."""
    findings: list[Finding]
    """The verdict, faults first."""

    @property
    def has_faults(self) -> bool:
        """Whether the checkpoint is of no use as it is."""
        return any(finding.is_fault for finding in self.findings)

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all. Numbers that are not finite are null."""
        write_json(path, _jsonable(asdict(self)))


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
