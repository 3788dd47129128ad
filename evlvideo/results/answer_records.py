"""Result records of answers: the scores of a system on the questions of a split, with everything they depend on."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError
from evlvideo.files import write_json
from evlvideo.metrics.answers.scores import Means, MeanScore
from evlvideo.results.records import References
from evlvideo.results.schemas import read_fields

SCHEMA = "evlvideo-answers-1"
"""Schema of result files; a file with another schema is refused."""


@dataclass
class AnswerResult:
    """Scores of one system's answers to one split. Scores are fractions: 0.74 prints as 74.00."""

    name: str
    """The system's name in tables."""
    dataset: str
    """The dataset of the questions."""
    split: str
    """The split."""
    references: References
    """What the answers were scored against."""
    questions: int
    """Questions that were scored."""
    scores: Means
    """Scores over all questions that they apply to, by the names of :mod:`evlvideo.metrics.answers.measures`, which
    tell the form of the metric, and whether answers were lemmatized."""
    answer_types: dict[str, Means]
    """Answer type → scores over its questions."""
    question_types: dict[str, Means]
    """Question type → scores over its questions."""
    per_question: dict[str, dict[str, float]]
    """Question → name → score."""
    answers: dict[str, str] = field(default_factory=dict)
    """Question → answer. Empty in older files."""
    shares: dict[str, float] = field(default_factory=dict)
    """Shares of answers that are `empty`, `over_long` and, if that is known, `cut_off`."""
    deviations: list[str] = field(default_factory=list)
    """How the questions or answers differ in number from the published split."""
    data: dict[str, Any] = field(default_factory=dict)
    """Where the questions were read, if not as the run's own config says."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Score → why it is missing."""
    decoding: dict[str, Any] = field(default_factory=dict)
    """How the answers were generated."""
    prompt: str | None = None
    """What the question was put into. If None, nobody knows."""
    versions: dict[str, str] = field(default_factory=dict)
    """Package → version."""
    commit: str | None = None
    """Commit of the evlvideo checkout, with `-dirty` if its code was changed; `None` if it is not a checkout."""
    seed: int | None = None
    """Seed of the run."""
    checkpoint: str | None = None
    """Where the weights came from."""
    pruning: dict[str, Any] | None = None
    """How the tower pruned, as in a result of captions."""
    visual_mask: str | None = None
    """Who sees whom in the language model, as in a result of captions."""

    def save(self, path: Path) -> None:
        """Write the result as JSON, whole or not at all."""
        write_json(path, {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> "AnswerResult":
        """Read a result file.

        Raises:
            UserError: it is missing, is not JSON, has another schema, or lacks a field.
        """
        names = {entry.name for entry in fields(cls)}
        content = read_fields(
            path, SCHEMA, names, kind="a result file of answers", written_by="`evlvideo score-answers --out` writes"
        )
        try:
            content["references"] = References(**content["references"])
            content["scores"] = _means(content["scores"])
            for by_type in ("answer_types", "question_types"):
                content[by_type] = {name: _means(found) for name, found in content[by_type].items()}
            return cls(**content)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is not a complete result file: {error}. Score again to write a new one."
            ) from error


def _means(content: dict[str, Any]) -> Means:
    return {name: MeanScore(**found) for name, found in content.items()}
