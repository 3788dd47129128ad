"""All systems of a table: runs and captions from elsewhere, scored on the same clips with the same references."""

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
    HUMAN,
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
from evlvideo.metrics.meteor import MeteorProcess
from evlvideo.metrics.tokenizers.tokenize import default_tokenizer
from evlvideo.results.reference_files import has_splits

_NOTHING = (
    "There are no runs to compare; name at least one run directory, such as runs/msrvtt-image, or captions of another "
    "system with --predictions NAME=FILE."
)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was scored here."""

    systems: Sequence[System]
    """Runs, captions from elsewhere, people."""
    rows: Sequence[SeedGroup]
    """The same, as they stand in the table."""
    words: TokenizedCaptions | None
    """Their captions and references, tokenised; `None` where the references cannot be read."""
    against: str | None
    """The row that the others are tested against; `None` where there is none."""
    remarks: Sequence[str]
    """Sentences on what is missing."""


def gather_systems(
    run_directories: Sequence[Path],
    split: str | None,
    others: ScoringRequest,
    against: str | None = None,
    *,
    over_seeds: bool = False,
) -> Gathered:
    """Read runs, and score captions from elsewhere as the runs were.

    Where there are only runs, references that cannot be read are no error: a remark says so.

    Args:
        run_directories: runs, in the order of their rows.
        split: the split that all were scored on.
        others: what is scored here beside the runs.
        against: the row that the others are tested against; where nothing is named, the first run, or without runs the
            first file of captions. Rows of a part of the clips, and people's own, pair with no other.
        over_seeds: whether runs that differ in their seed alone have one row.

    Raises:
        UserError: there is nothing to compare, or not all of it was scored the same way or can be; what of it is said.
    """
    _check_asked(run_directories, others)
    found = read_runs(run_directories, split or "test") if run_directories else []
    # What is said of the whole table is taken from the first; other systems that were run here have their own decoding.
    runs = sorted(found, key=lambda run: run.regime != "trained")
    check_scored_alike(runs)
    rows = group_seeds(runs) if over_seeds else [SeedGroup.of_one(run) for run in runs]
    _refuse_equal_names(rows, others)
    if others:
        return _score(rows, runs, _references(runs, split, others), others, against)
    chosen = _choose(_pairing(rows), [row.name for row in rows], against)
    try:
        references = _references(runs, split, others)
        words = tokenize_table(references, _captions(runs, references), runs[0].result.tokenizer)
    except UserError as error:
        if others.references is not None or others.dataset is not None:
            raise
        return Gathered(runs, rows, None, chosen, [f"The references are not at hand: {error}"])
    return Gathered(runs, rows, words, chosen, [])


def _check_asked(run_directories: Sequence[Path], others: ScoringRequest) -> None:
    if not run_directories and not others:
        raise UserError(_NOTHING)
    if others.references is not None and others.dataset is not None:
        raise UserError("Name --references or --dataset, not both.")
    if others.root is not None and others.dataset is None:
        raise UserError(f"--root {others.root} is the directory of a data set; name it with --dataset.")
    if not run_directories and others.references is None and others.dataset is None:
        raise UserError(
            "There are no runs that say what captions are scored against; name a file with --references, or a data set "
            "with --dataset NAME --root DIR."
        )


def _refuse_equal_names(rows: Sequence[SeedGroup], others: ScoringRequest) -> None:
    taken = {name for row in rows for name in (row.name, *(run.name for run in row.runs))}
    shared = sorted(name for name in taken if name in others.predictions or (others.human and name == HUMAN))
    if shared:
        raise UserError(f"{', '.join(shared)} is the name of a run and of other captions; name the captions otherwise.")


def _references(runs: Sequence[System], split: str | None, others: ScoringRequest) -> TableReferences:
    """The references of the table: those named, or else the runs'."""
    if runs:
        split = runs[0].result.split
    if others.references is not None:
        named = split if not runs or has_splits(others.references) else None
        found = references_of_file(others.references, named)
    elif others.dataset is not None:
        found = references_of_dataset(others.dataset, split or "test", others.root)
    else:
        return references_of_runs(runs)
    check_references(found, runs)
    # What references say makes them the same, whatever their file is called.
    result = runs[0].result if runs else found
    return replace(found, dataset=result.dataset, split=result.split)


def _pairing(rows: Sequence[SeedGroup]) -> list[str]:
    return [row.name for row in rows if row.comparable]


def _choose(pairing: Sequence[str], known: Collection[str], against: str | None) -> str | None:
    """The row that others are tested against, of those that pair."""
    if against is None:
        return pairing[0] if pairing else None
    if against not in pairing:
        reason = "is scored on other clips or references than the others" if against in known else "is no row"
        raise UserError(f"--against {against!r} {reason}; allowed: {', '.join(pairing) or 'none'}.")
    return against


def _score(
    rows: Sequence[SeedGroup],
    runs: Sequence[System],
    references: TableReferences,
    others: ScoringRequest,
    against: str | None,
) -> Gathered:
    checked = read_requested(others, references)
    whole = [name for name in others.predictions if len(checked[name].captions) == len(references.captions)]
    # Before what takes minutes.
    chosen = _choose([*_pairing(rows), *whole], {*(row.name for row in rows), *checked}, against)
    tokenizer = runs[0].result.tokenizer if runs else default_tokenizer()
    with MeteorProcess() as meteor:
        # METEOR reads its tables while texts are tokenised.
        captions = {name: of.captions for name, of in checked.items()}
        words = tokenize_table(references, {**_captions(runs, references), **captions}, tokenizer)
        scored = score_predictions(checked, others, references, words, meteor)
    remarks = [
        f"{name} ({printable(others.predictions[name])}): {'; '.join(of.left_out)}."
        for name, of in checked.items()
        if of.left_out
    ]
    # People last, since their references are fewer.
    scored.sort(key=lambda system: system.is_human)
    check_scored_alike([*runs, *scored])
    return Gathered([*runs, *scored], [*rows, *map(SeedGroup.of_one, scored)], words, chosen, remarks)


def _captions(runs: Sequence[System], references: TableReferences) -> Mapping[str, Mapping[str, str]]:
    """The captions of runs, of clips that the references have."""
    return {
        run.name: {clip_id: text for clip_id, text in run.predictions.items() if clip_id in references.captions}
        for run in runs
    }
