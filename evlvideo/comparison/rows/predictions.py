"""Reads files of predictions and checks that they hold one caption for every clip of a table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evlvideo.comparison.rows.references import TableReferences
from evlvideo.data.annotation.caption_files import read_pairs
from evlvideo.errors import UserError, first_ten, look_alikes
from evlvideo.metrics.tokenizers.tokenize import clean


@dataclass(frozen=True, slots=True)
class CheckedPredictions:
    """Captions of clips of the table, one each."""

    captions: dict[str, str]
    """Clip → caption, in the order of the references."""
    left_out: tuple[str, ...]
    """What the file lacks or has in excess. Empty if it is complete."""


def read_checked_predictions(
    files: Mapping[str, Path], references: TableReferences, allow_partial: bool
) -> dict[str, CheckedPredictions]:
    """Read the captions of systems and check them against the clips of the references.

    Args:
        files: system → its file, in any form of :mod:`evlvideo.data.annotation.caption_files`.
        references: the clips.
        allow_partial: keep what can be scored of incomplete files. A clip with several captions is left out, since
            nothing tells which of them is meant.

    Raises:
        UserError: a file cannot be read or has no caption of any clip; or, without `allow_partial`, clips without
            caption, with several or with an empty one, or captions of other clips. All files' problems are listed.
    """
    checked, problems = {}, []
    for name, path in files.items():
        captions, found = _check(read_pairs(path), references)
        checked[name] = CheckedPredictions(captions, tuple(found))
        if found and (not allow_partial or not captions):
            nothing = [] if captions else ["not one clip can be scored"]
            problems.append(f"{name} ({path}):\n" + "\n".join(f"  - {problem}" for problem in [*nothing, *found]))
    if problems:
        where = f"{references.dataset}:{references.split}" if references.split else references.dataset
        raise UserError(
            f"Captions do not match the {len(references.captions):,} clips of {where}, of which each needs one:\n"
            + "\n".join(problems)
            + "\nFix the files"
            + ("." if allow_partial else ", or score what can be scored with --allow-partial, which marks the rows.")
        )
    return checked


def _check(pairs: Sequence[tuple[str, str]], references: TableReferences) -> tuple[dict[str, str], list[str]]:
    """Return what can be scored, and the problems with the rest."""
    counts = Counter(clip_id for clip_id, _ in pairs)
    given = dict(pairs)
    wanted = references.captions
    repeated = [clip_id for clip_id, count in counts.items() if count > 1]
    extra = [clip_id for clip_id in given if clip_id not in wanted]
    empty = [clip_id for clip_id, caption in given.items() if clip_id in wanted and not clean(caption)]
    missing = [clip_id for clip_id in wanted if clip_id not in given]
    problems = []
    if missing:
        problems.append(f"{_counted(missing, 'clip has', 'clips have')} no caption: {first_ten(missing)}")
    if extra:
        problems.append(
            f"{_counted(extra, 'caption is', 'captions are')} of no clip of the split: {first_ten(extra)}"
            f"{_other_splits(extra, references)}{look_alikes(missing, extra)}"
        )
    if repeated:
        listed = first_ten([f"{clip_id} ({counts[clip_id]})" for clip_id in repeated])
        problems.append(f"{_counted(repeated, 'clip has', 'clips have')} more than one caption: {listed}")
    if empty:
        problems.append(f"{_counted(empty, 'caption is', 'captions are')} empty: {first_ten(empty)}")
    unusable = {*repeated, *empty}
    kept = {clip_id: given[clip_id] for clip_id in wanted if clip_id in given and clip_id not in unusable}
    return kept, problems


def _other_splits(extra: Sequence[str], references: TableReferences) -> str:
    """Say which splits clips belong to, as far as known."""
    split_of = references.split_of()
    found = Counter(split_of[clip_id] for clip_id in extra if clip_id in split_of)
    if not found:
        return ""
    listed = ", ".join(f"{count:,} of the split {split!r}" for split, count in found.items())
    return f" ({listed}; the table is on {references.split!r})"


def _counted(items: Sequence[str], one: str, many: str) -> str:
    return f"{len(items):,} {one if len(items) == 1 else many}"
