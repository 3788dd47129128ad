"""Scores captions that come from elsewhere: predictions of other systems, and human captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from evlvideo.comparison.rows.predictions import CheckedPredictions, read_checked_predictions
from evlvideo.comparison.rows.references import TableReferences
from evlvideo.comparison.rows.system import System
from evlvideo.errors import UserError
from evlvideo.evaluation.human import HUMAN, SOURCE, HumanCaptions, human_captions
from evlvideo.evaluation.result import make_result
from evlvideo.metrics.meteor import MeteorProcess
from evlvideo.metrics.names import METRICS
from evlvideo.metrics.scoring import score_tokenized, tokenize_together
from evlvideo.metrics.tokenized_references import TokenizedReferences


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """What to score beside the runs of a table, and against which references."""

    predictions: Mapping[str, Path] = field(default_factory=dict)
    """System → file of its captions."""
    references: Path | None = None
    """A file of references. Defaults to those of `dataset` or of the runs."""
    dataset: str | None = None
    """A dataset whose references are used."""
    root: Path | None = None
    """Directory of `dataset`."""
    check_counts: bool = True
    """Whether `dataset` must have as many clips and captions as published."""
    human: bool = False
    """Whether to add the human row: the first caption of each clip, scored against the others."""
    allow_partial: bool = False
    """Whether to score incomplete files as far as they go."""
    subset_frequencies: str | None = None
    """One of :data:`evlvideo.metrics.names.SUBSET_SCORES`. Defaults to that of the runs, or of the dataset."""
    tokenizer: str | None = None
    """The tokenizer of captions and references. Defaults to that of the runs, or to the machine's."""

    def __bool__(self) -> bool:
        """Whether there is anything to score."""
        return bool(self.predictions) or self.human


@dataclass(frozen=True)
class TokenizedCaptions:
    """Tokenized captions and references of a table."""

    references: TokenizedReferences
    captions: Mapping[str, Mapping[str, str]]
    """System → clip → caption."""

    def references_of(self, human: bool) -> TokenizedReferences:
        """Return the references of a system, or of the human row."""
        return self._human_references if human else self.references

    @cached_property
    def _human_references(self) -> TokenizedReferences:
        others = {clip_id: texts[1:] for clip_id, texts in self.references.words.items()}
        return TokenizedReferences(others, self.references.tokenizer, self.references.remarks)


def parse_prediction_files(given: Sequence[str]) -> dict[str, Path]:
    """Parse `NAME=FILE`. The name defaults to that of the file without its ending.

    Raises:
        UserError: a name or file is empty, or a name is used twice.
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
    """Return the name of a file, which may hold undecodable bytes, as text."""
    return str(name).encode("utf-8", "replace").decode("utf-8")


def read_requested(request: ScoringRequest, references: TableReferences) -> dict[str, CheckedPredictions]:
    """Read all captions to be scored, the human ones first.

    Raises:
        UserError: a file cannot be read or is incomplete, or a clip has too few captions for the human row.
    """
    checked = read_checked_predictions(request.predictions, references, request.allow_partial)
    if not request.human:
        return checked
    if HUMAN in checked:
        raise UserError(f"{HUMAN!r} is the name of the human row; give the predictions another name.")
    return {HUMAN: CheckedPredictions(_human(references).captions, ()), **checked}


def tokenize_table(
    references: TableReferences, captions: Mapping[str, Mapping[str, str]], tokenizer: str
) -> TokenizedCaptions:
    """Tokenize the references and the captions of all systems in one pass.

    Raises:
        UserError: the tokenizer cannot run.
    """
    words, tokenized = tokenize_together(list(captions.values()), references.captions, tokenizer)
    return TokenizedCaptions(tokenized, dict(zip(captions, words, strict=True)))


def score_predictions(
    checked: Mapping[str, CheckedPredictions],
    request: ScoringRequest,
    references: TableReferences,
    words: TokenizedCaptions,
    meteor: MeteorProcess,
) -> list[System]:
    """Score tokenized captions.

    Args:
        checked: system → captions.
        request: origin of the captions.
        references: what they are scored against.
        words: the same captions and the references, tokenized.
        meteor: a running METEOR.
    """
    return [
        _score(name, captions.captions, request.predictions.get(name), references, words, meteor)
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
    human = path is None
    subsets = {
        kind: [clip_id for clip_id in clips if clip_id in captions] for kind, clips in references.subsets.items()
    }
    scores = score_tokenized(
        words.captions[name],
        words.references_of(human),
        METRICS,
        subsets,
        meteor,
        subset_frequencies=references.subset_frequencies,
    )
    result = make_result(
        scores,
        name=name,
        dataset=references.dataset,
        split=references.split,
        references=_human(references).described if human else references.description,
        clip_ids=references.captions,
        deviations=references.deviations,
        subsets=subsets,
        subset_frequencies=references.subset_frequencies,
    )
    return System(
        name=name,
        directory=None,
        result=result,
        predictions=captions,
        training_log={},
        training={},
        data=references.data,
        regime="scored",
        source=SOURCE if path is None else printable(path),
        is_human=human,
    )


def _human(references: TableReferences) -> HumanCaptions:
    return human_captions(references.captions, references.description.description)
