"""Gathers the systems of a table: runs and captions from elsewhere, scored on the same clips and references."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evlvideo.comparison.rows.references import (
    TableReferences,
    check_references,
    references_of_dataset,
    references_of_file,
    references_of_runs,
)
from evlvideo.comparison.rows.runs import read_runs
from evlvideo.comparison.rows.scoring import (
    ScoringRequest,
    TokenizedCaptions,
    printable,
    read_requested,
    score_predictions,
    tokenize_table,
)
from evlvideo.comparison.rows.seeds import SeedGroup, group_seeds
from evlvideo.comparison.rows.system import System, check_scored_alike
from evlvideo.errors import UserError
from evlvideo.evaluation.human import HUMAN
from evlvideo.metrics.meteor import MeteorProcess
from evlvideo.metrics.tokenizers.tokenize import default_tokenizer
from evlvideo.results.reference_files import has_splits

_NOTHING = (
    "There are no runs to compare; name at least one run directory, such as runs/msrvtt-image, or captions of another "
    "system with --predictions NAME=FILE, or answers with --answers NAME=FILE."
)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The systems of a table."""

    systems: Sequence[System]
    """Runs, captions from elsewhere, human captions."""
    groups: Sequence[SeedGroup]
    """The same, by row."""
    words: TokenizedCaptions | None
    """Their captions and references, tokenized. `None` if the references cannot be read."""
    against: str | None
    """The row that the others are tested against. `None` if there is none."""
    remarks: Sequence[str]
    """Remarks on what is missing."""


def gather_systems(
    run_directories: Sequence[Path],
    split: str | None,
    request: ScoringRequest,
    against: str | None = None,
    *,
    over_seeds: bool = False,
) -> Gathered:
    """Read runs, and score captions from elsewhere in the same way.

    If there are only runs, references that cannot be read are not an error but a remark.

    Args:
        run_directories: runs, in the order of their rows.
        split: the split that all were scored on.
        request: what to score beside the runs.
        against: the row that the others are tested against. Defaults to the first run, or else to the first file
            of captions. Partial rows and the human row pair with no other.
        over_seeds: whether to group runs that differ in their seed alone.

    Raises:
        UserError: there is nothing to compare, or not all of it was or can be scored the same way.
    """
    _check_asked(run_directories, request)
    found = read_runs(run_directories, split or "test") if run_directories else []
    # Facts of the whole table come from the first. Baselines have a decoding of their own.
    runs = sorted(found, key=lambda run: run.regime != "trained")
    check_scored_alike(runs)
    groups = group_seeds(runs) if over_seeds else [SeedGroup.of_one(run) for run in runs]
    _refuse_equal_names(groups, request)
    if request:
        return _score(groups, runs, _references(runs, split, request), request, against)
    chosen = _choose(_pairing(groups), [group.name for group in groups], against)
    try:
        references = _references(runs, split, request)
        words = tokenize_table(references, _captions(runs, references), runs[0].result.tokenizer)
    except UserError as error:
        if request.references is not None or request.dataset is not None:
            raise
        return Gathered(runs, groups, None, chosen, [f"The references are not at hand: {error}"])
    return Gathered(runs, groups, words, chosen, [])


def _check_asked(run_directories: Sequence[Path], request: ScoringRequest) -> None:
    if not run_directories and not request:
        raise UserError(_NOTHING)
    if request.references is not None and request.dataset is not None:
        raise UserError("Name --references or --dataset, not both.")
    if request.root is not None and request.dataset is None:
        raise UserError(f"--root {request.root} is the directory of a dataset; name it with --dataset.")
    if not run_directories and request.references is None and request.dataset is None:
        raise UserError(
            "There are no runs that say what captions are scored against; name a file with --references, or a dataset "
            "with --dataset NAME --root DIR."
        )


def _refuse_equal_names(groups: Sequence[SeedGroup], request: ScoringRequest) -> None:
    taken = {name for group in groups for name in (group.name, *(run.name for run in group.systems))}
    shared = sorted(name for name in taken if name in request.predictions or (request.human and name == HUMAN))
    if shared:
        raise UserError(
            f"{', '.join(shared)} is the name of a run and of other captions; give the captions another name."
        )


def _references(runs: Sequence[System], split: str | None, request: ScoringRequest) -> TableReferences:
    """Read the references that are named, or else those of the runs."""
    if runs:
        split = runs[0].result.split
    if request.references is not None:
        named = split if not runs or has_splits(request.references) else None
        found = references_of_file(request.references, named)
    elif request.dataset is not None:
        found = references_of_dataset(request.dataset, split or "test", request.root, check_counts=request.check_counts)
    else:
        found = references_of_runs(runs)
        return replace(found, subset_frequencies=request.subset_frequencies or found.subset_frequencies)
    check_references(found, runs)
    # Equal references are the same whatever their file is called.
    like = runs[0].result if runs else found
    asked = request.subset_frequencies or like.subset_frequencies
    return replace(found, dataset=like.dataset, split=like.split, subset_frequencies=asked)


def _pairing(groups: Sequence[SeedGroup]) -> list[str]:
    return [group.name for group in groups if group.comparable]


def _choose(pairing: Sequence[str], known: Collection[str], against: str | None) -> str | None:
    """Choose the row that others are tested against among those that pair."""
    if against is None:
        return pairing[0] if pairing else None
    if against not in pairing:
        reason = "is scored on other clips or references than the others" if against in known else "is no row"
        raise UserError(f"--against {against!r} {reason}; allowed: {', '.join(pairing) or 'none'}.")
    return against


def _score(
    groups: Sequence[SeedGroup],
    runs: Sequence[System],
    references: TableReferences,
    request: ScoringRequest,
    against: str | None,
) -> Gathered:
    checked = read_requested(request, references)
    whole = [name for name in request.predictions if len(checked[name].captions) == len(references.captions)]
    # Before the scoring, which takes minutes.
    chosen = _choose([*_pairing(groups), *whole], {*(group.name for group in groups), *checked}, against)
    tokenizer = _tokenizer(runs, request)
    with MeteorProcess() as meteor:
        # METEOR loads its tables while texts are tokenized.
        captions = {name: of.captions for name, of in checked.items()}
        words = tokenize_table(references, {**_captions(runs, references), **captions}, tokenizer)
        scored = score_predictions(checked, request, references, words, meteor)
    remarks = [
        f"{name} ({printable(request.predictions[name])}): {'; '.join(of.left_out)}."
        for name, of in checked.items()
        if of.left_out
    ]
    # The human row last, since it has fewer references.
    scored.sort(key=lambda system: system.is_human)
    check_scored_alike([*runs, *scored])
    return Gathered([*runs, *scored], [*groups, *map(SeedGroup.of_one, scored)], words, chosen, remarks)


def _tokenizer(runs: Sequence[System], request: ScoringRequest) -> str:
    if not runs:
        return request.tokenizer or default_tokenizer()
    of_runs = runs[0].result.tokenizer
    if request.tokenizer not in (None, of_runs):
        raise UserError(
            f"The tokenizer is {request.tokenizer!r}, but the runs are scored with {of_runs!r}; leave it out, or "
            "evaluate the runs again."
        )
    return of_runs


def _captions(runs: Sequence[System], references: TableReferences) -> Mapping[str, Mapping[str, str]]:
    """Return the captions of runs for clips that the references have."""
    return {
        run.name: {clip_id: text for clip_id, text in run.predictions.items() if clip_id in references.captions}
        for run in runs
    }
