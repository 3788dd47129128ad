"""Rows of captions that came from elsewhere: other systems' files, and people's own captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from evlvideo.comparison.rows.predictions import CheckedPredictions, read_checked_predictions
from evlvideo.comparison.rows.references import TableReferences
from evlvideo.comparison.rows.system import System
from evlvideo.errors import UserError
from evlvideo.metrics.meteor import MeteorProcess
from evlvideo.metrics.names import METRICS
from evlvideo.metrics.scoring import score_tokenized, tokenize_together
from evlvideo.metrics.tokenized_references import TokenizedReferences
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.records import EvaluationResult, References, describe_references

HUMAN = "human"
"""Name of people's own row."""


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """What stands in a table beside runs, and what it is scored on."""

    predictions: Mapping[str, Path] = field(default_factory=dict)
    """System → its file of captions."""
    references: Path | None = None
    """A file of references; those of the runs, or of `dataset`, where there is none."""
    dataset: str | None = None
    """A data set whose references are taken, where there are no runs."""
    root: Path | None = None
    """Directory of `dataset`."""
    human: bool = False
    """Whether people have a row: the first caption of each clip, scored against the others."""
    allow_partial: bool = False
    """Whether files that are not whole are scored as far as they go."""

    def __bool__(self) -> bool:
        """Whether there is anything to score."""
        return bool(self.predictions) or self.human


@dataclass(frozen=True)
class TokenizedCaptions:
    """Tokenised texts of a table, made in one pass."""

    references: TokenizedReferences
    captions: Mapping[str, Mapping[str, str]]
    """System → clip → caption."""

    def references_of(self, people: bool) -> TokenizedReferences:
        """The references that systems are scored with, or those that people are."""
        return self._peoples if people else self.references

    @cached_property
    def _peoples(self) -> TokenizedReferences:
        others = {clip_id: texts[1:] for clip_id, texts in self.references.words.items()}
        return TokenizedReferences(others, self.references.tokenizer)


def parse_prediction_files(given: Sequence[str]) -> dict[str, Path]:
    """Read `NAME=FILE`; a file alone is named as it is called, without its ending.

    Raises:
        UserError: a name or a file is empty, or two have the same name.
    """
    files: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals:
            name, path = Path(text).stem, text
        if not name.strip() or not path:
            raise UserError(f"The predictions are {text!r}; write NAME=FILE, such as video-llama=captions.json.")
        name = printable(name.strip())
        if name in files:
            raise UserError(f"Two files of predictions are called {name!r}; give each another name, NAME=FILE.")
        files[name] = Path(path)
    return files


def printable(name: object) -> str:
    """A name of a file as text; it may hold bytes that no text has."""
    return str(name).encode("utf-8", "replace").decode("utf-8")


def read_requested(others: ScoringRequest, references: TableReferences) -> dict[str, CheckedPredictions]:
    """Read the captions of all systems beside runs, people's first.

    Raises:
        UserError: a file cannot be read or is not whole, or a clip has too few captions for people to have a row.
    """
    checked = read_checked_predictions(others.predictions, references, others.allow_partial)
    if not others.human:
        return checked
    if HUMAN in checked:
        raise UserError(f"{HUMAN!r} is the name of people's own row; name the predictions otherwise.")
    alone = [clip_id for clip_id, texts in references.captions.items() if len(texts) < 2]
    if alone:
        raise UserError(
            f"{len(alone)} of {len(references.captions)} clips have one caption, such as {alone[0]}; people's own row "
            "needs two or more for each. Leave --human away."
        )
    people = {clip_id: texts[0] for clip_id, texts in references.captions.items()}
    return {HUMAN: CheckedPredictions(people, ()), **checked}


def tokenize_table(
    references: TableReferences, captions: Mapping[str, Mapping[str, str]], tokenizer: str
) -> TokenizedCaptions:
    """Make words of the references, and of the captions of all systems, in one pass.

    Raises:
        UserError: the tokeniser cannot run.
    """
    words, tokenized = tokenize_together(list(captions.values()), references.captions, tokenizer)
    return TokenizedCaptions(tokenized, dict(zip(captions, words, strict=True)))


def score_predictions(
    checked: Mapping[str, CheckedPredictions],
    others: ScoringRequest,
    references: TableReferences,
    words: TokenizedCaptions,
    meteor: MeteorProcess,
) -> list[System]:
    """Score captions, with references and captions that are words already.

    Args:
        checked: system → captions.
        others: where they are from.
        references: what they are scored against.
        words: of all systems and references.
        meteor: a running METEOR.
    """
    return [
        _score(name, captions.captions, others.predictions.get(name), references, words, meteor)
        for name, captions in checked.items()
    ]


def _score(
    name: str,
    captions: dict[str, str],
    path: Path | None,
    references: TableReferences,
    words: TokenizedCaptions,
    meteor: MeteorProcess,
) -> System:
    people = path is None
    subsets = {
        kind: [clip_id for clip_id in clips if clip_id in captions] for kind, clips in references.subsets.items()
    }
    scores = score_tokenized(words.captions[name], words.references_of(people), METRICS, subsets, meteor)
    result = EvaluationResult(
        name=name,
        dataset=references.dataset,
        split=references.split,
        references=_without_first(references) if people else references.description,
        tokenizer=scores.tokenizer,
        scores=scores.corpus,
        per_clip=scores.per_clip,
        clips_scored=len(scores.per_clip),
        clips_expected=len(references.captions),
        missing_clips=[clip_id for clip_id in references.captions if clip_id not in captions],
        skipped=scores.skipped,
        evidence_scores=scores.subsets or None,
        evidence_clips={kind: len(clips) for kind, clips in subsets.items()} or None,
        versions=versions(),
        commit=git_commit(),
    )
    return System(
        name=name,
        directory=None,
        result=result,
        predictions=captions,
        history={},
        training={},
        data=references.data,
        regime="scored",
        source="the first caption of each clip" if path is None else printable(path),
        is_human=people,
    )


def _without_first(references: TableReferences) -> References:
    others = {clip_id: texts[1:] for clip_id, texts in references.captions.items()}
    return describe_references(f"{references.description.description} without the first caption of each clip", others)
