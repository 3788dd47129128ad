"""Result records: the scores of a system on a split, with everything they depend on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError
from evlvideo.files import write_json
from evlvideo.metrics.references_digest import references_digest
from evlvideo.results.schemas import read_fields

NOT_PUBLISHED = "These scores compare with no published number."
"""What tables and terminals say of a result with deviations."""
SCHEMA = "evlvideo-result-1"
"""Schema of result files; a file with another schema is refused."""


@dataclass(frozen=True)
class References:
    """What captions were scored against."""

    description: str
    """The file, or the named split."""
    sha256: str
    """Digest of the references' ids and texts (:func:`references_digest`)."""
    captions: int
    """Number of references in total."""


@dataclass
class EvaluationResult:
    """Scores of one system on one split, with everything they depend on. Scores are fractions: 0.74 prints as 74.0."""

    name: str
    """The system's name in tables."""
    dataset: str
    """The dataset, or the file name of the references if a file was scored."""
    split: str | None
    """The split, if there is one."""
    references: References
    """What the captions were scored against."""
    tokenizer: str
    """The tokenizer of captions and references."""
    scores: dict[str, float]
    """Metric → score over all clips."""
    per_clip: dict[str, dict[str, float]]
    """Clip → metric → score."""
    clips_scored: int
    """Clips with a caption."""
    clips_expected: int
    """Clips of the references."""
    missing_clips: list[str] = field(default_factory=list)
    """Clips without a caption, since they could not be decoded; if there are any, the scores are partial."""
    deviations: list[str] = field(default_factory=list)
    """How the clips or captions differ in number from the published split, as those of a part of it, or of one's own
    clips in its layout, do; then the scores compare with no published number."""
    remarks: list[str] = field(default_factory=list)
    """Why scores say little, or what they compare with."""
    data: dict[str, Any] = field(default_factory=dict)
    """Where the clips were read (`root`, `video_root`, `check_counts`), if not as the run's own config says."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Metric → why it is missing."""
    evidence_scores: dict[str, dict[str, float]] | None = None
    """Subset of the clips → metric → score. BLEU is over the subset, the others are means of the clips' scores, so that
    CIDEr keeps the document frequencies of the whole split; unless `subset_frequencies` is `own`."""
    evidence_clips: dict[str, int] | None = None
    """Subset of the clips → how many there are."""
    subset_frequencies: str = "split"
    """Where CIDEr's document frequencies on a subset come from: the whole `split`, or `own`, the subset alone, over
    which METEOR is then, too."""
    decoding: dict[str, Any] = field(default_factory=dict)
    """How the captions were generated."""
    versions: dict[str, str] = field(default_factory=dict)
    """Package → version."""
    commit: str | None = None
    """Commit of the evlvideo checkout, with `-dirty` if its code was changed; `None` if it is not a checkout."""
    seed: int | None = None
    """Seed of the run."""
    checkpoint: str | None = None
    """Where the weights came from."""
    pruning: dict[str, Any] | None = None
    """How the tower pruned, with the guide in training, `guide_in_training`, beside that of this evaluation, `guide`;
    `None` if it did not, nor in training."""
    trained_parameters: int | None = None
    """Number of parameters that were trained."""
    visual_mask: str | None = None
    """Who sees whom in the language model, by the name of `model.visual_mask`; `None` for `causal`, as in older files,
    and for captions from elsewhere."""
    training_seconds: float | None = None
    """Time that training took."""
    captioning_seconds: float | None = field(default=None, compare=False)
    """Time that captioning took, with reading the clips; `None` if it was not measured, as in older files. Results that
    differ only in it are equal."""
    captioning_clips: int | None = None
    """Clips that were captioned in that time."""
    special_tokens: dict[str, int] | None = None
    """Special token → how often captions held it before their ending; the captions are without them. `None` if nobody
    counted, as for captions from elsewhere."""
    prompt: str | None = None
    """Prompt of another system; `None` for our runs, whose checkpoints hold it."""

    @property
    def clips_per_second(self) -> float | None:
        """Return the clips captioned per second, or `None` if that was not measured."""
        if not self.captioning_seconds or self.captioning_clips is None:
            return None
        return self.captioning_clips / self.captioning_seconds

    def save(self, path: Path) -> None:
        """Write the result as JSON, whole or not at all."""
        write_json(path, {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> "EvaluationResult":
        """Read a result file.

        Raises:
            UserError: it is missing, is not JSON, has another schema, or lacks a field.
        """
        names = {entry.name for entry in fields(cls)}
        content = read_fields(
            path, SCHEMA, names, kind="a result file", written_by="`evlvideo evaluate` and `evlvideo score` write"
        )
        try:
            content["references"] = References(**content["references"])
            return cls(**content)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{path} is not a complete result file: {error}. Evaluate again to write a new one."
            ) from error


def describe_references(description: str, references: Mapping[str, Sequence[str]]) -> References:
    """Describe references for the record of a result."""
    return References(description, references_digest(references), sum(map(len, references.values())))
