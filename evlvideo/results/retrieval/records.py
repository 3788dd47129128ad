"""Result records of retrieval: the scores of a system on a split, with everything they depend on."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError
from evlvideo.files import write_json
from evlvideo.metrics.retrieval.scores import DirectionScores, Measure
from evlvideo.results.schemas import read_fields

SCHEMA = "evlvideo-retrieval-1"
"""Schema of result files; a file with another schema is refused."""
IMAGE_TO_TEXT, TEXT_TO_IMAGE = "image_to_text", "text_to_image"


@dataclass
class RetrievalResult:
    """Scores of one system's features on one split."""

    name: str
    """The system's name in tables."""
    dataset: str
    """The dataset, or the feature file if none was named."""
    split: str | None
    """The split, if there is one."""
    images: int
    """Images or clips."""
    texts: int
    """Texts."""
    ties: str
    """How ties were counted; see :mod:`evlvideo.metrics.retrieval.ranks`."""
    similarity: dict[str, DirectionScores]
    """Direction → scores by the similarity of features."""
    reranked: dict[str, DirectionScores]
    """Direction → scores after re-ranking; without directions whose matching scores are not known."""
    mean_recall: dict[str, float]
    """`similarity` and `reranked` → mean of their recalls, if both directions are known."""
    ranks: dict[str, dict[str, float]]
    """Direction → query → rank, after re-ranking where that was done."""
    candidates: int | None = None
    """Candidates of each query that were re-ranked."""
    add_similarity: bool | None = None
    """Whether the similarity was added to the matching score, as BLIP does and ALBEF does not."""
    deviations: list[str] = field(default_factory=list)
    """How the images or texts differ in number from the published split."""
    feature_file: str | None = None
    """File of the features."""
    versions: dict[str, str] = field(default_factory=dict)
    """Package → version."""
    commit: str | None = None
    """Commit of the evlvideo checkout, with `-dirty` if its code was changed; `None` if it is not a checkout."""

    def save(self, path: Path) -> None:
        """Write the result as JSON, whole or not at all."""
        write_json(path, {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> "RetrievalResult":
        """Read a result file.

        Raises:
            UserError: it is missing, is not JSON, has another schema, or lacks a field.
        """
        names = {entry.name for entry in fields(cls)}
        content = read_fields(
            path, SCHEMA, names, kind="a result file of retrieval", written_by="`evlvideo score-retrieval --out` writes"
        )
        try:
            for name in ("similarity", "reranked"):
                content[name] = {direction: _scores(found) for direction, found in content[name].items()}
            return cls(**content)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"{path} is not a complete result file: {error}. Score again to write a new one."
            ) from error


def _scores(found: dict[str, Any]) -> DirectionScores:
    return DirectionScores(
        recalls={int(k): Measure(**recall) for k, recall in found["recalls"].items()},
        median_rank=Measure(**found["median_rank"]),
        mean_rank=Measure(**found["mean_rank"]),
        queries=found["queries"],
        candidates=found["candidates"],
    )
