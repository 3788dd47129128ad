"""The clips and references that all rows of a table are scored on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evlvideo.comparison.rows.system import System
from evlvideo.config.data import DataConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip, evidence_subsets
from evlvideo.data.annotation.facts import DATASETS, facts_of
from evlvideo.data.annotation.splits import dataset_root, read_split
from evlvideo.errors import UserError
from evlvideo.results.records import References, describe_references
from evlvideo.results.reference_files import load_references, splits_of

SplitOf = Callable[[], Mapping[str, str]]
"""Gives clip → split, of clips beyond those of the table, as far as they are known."""


@dataclass(frozen=True, slots=True)
class TableReferences:
    """What the captions of a table are scored against."""

    dataset: str
    """The data set, or the file's name where it is none that is known."""
    split: str | None
    description: References
    captions: Mapping[str, Sequence[str]]
    """Clip → references."""
    subsets: Mapping[str, Sequence[str]]
    """Evidence → clips, where the annotation has it."""
    data: DataConfig | None
    """Where the clips are; `None` where that is not known."""
    split_of: SplitOf
    """For clips that are none of the table's: which split they are of."""


def references_of_runs(runs: Sequence[System]) -> TableReferences:
    """Read the references that runs were scored with, through the first run that says where they are.

    Raises:
        UserError: no run says it, or the annotation cannot be read or is another one by now.
    """
    result = runs[0].result
    data = next((run.data for run in runs if run.data is not None and run.data.dataset == result.dataset), None)
    if data is None:
        raise UserError("no run says where its references are; name their file with --references")
    found = references_of_dataset(data.dataset, result.split or "", Path(data.root) if data.root else None, data)
    check_references(found, runs)
    return found


def references_of_dataset(
    dataset: str, split: str, root: Path | None, data: DataConfig | None = None
) -> TableReferences:
    """Read the references of a data set's split; the media files need not be there.

    Args:
        dataset: a key of :data:`evlvideo.data.annotation.facts.DATASETS`.
        split: one of its splits.
        root: its directory; `mini` needs none.
        data: where its clips are, where that is more than the root.

    Raises:
        UserError: the data set or split is unknown, or its annotation cannot be read.
    """
    facts_of(dataset)
    if root is None and dataset != "mini":
        raise UserError(f"The data set {dataset!r} has no root; name the directory of its annotation with --root.")
    root = dataset_root(dataset, root)
    clips = read_split(dataset, split, root, check_files=False)
    captions = {clip.clip_id: list(clip.captions) for clip in clips}
    return TableReferences(
        dataset=dataset,
        split=split,
        description=describe_references(f"{dataset}:{split}", captions),
        captions=captions,
        subsets=evidence_subsets(clips),
        data=data or DataConfig(dataset=dataset, root=str(root)),
        split_of=msrvtt_splits if dataset == "msrvtt" else lambda: _splits_under(dataset, root),
    )


def references_of_file(path: Path, split: str | None) -> TableReferences:
    """Read a file of references; MSR-VTT's official JSON is known as that data set's.

    Args:
        path: a file that :func:`evlvideo.results.reference_files.load_references` reads.
        split: one of its splits; needed where it has several.

    Raises:
        UserError: the file cannot be read, does not have the split, or has several and none was named.
    """
    captions = load_references(path, split)
    splits = splits_of(path)
    present = list(dict.fromkeys(splits.values()))
    if split is None and len(present) > 1:
        raise UserError(f"{path} holds several splits: {', '.join(present)}; name the one to compare on with --split.")
    split = split or (present[0] if present else None)
    official = _official_msrvtt_split(captions)
    return TableReferences(
        dataset="msrvtt" if official else path.name,
        split=official or split,
        description=describe_references(str(path), captions),
        captions=captions,
        subsets={},
        data=DataConfig(dataset="msrvtt", root=str(path.parent)) if official else None,
        split_of=msrvtt_splits if official else lambda: splits,
    )


def check_references(references: TableReferences, runs: Sequence[System]) -> None:
    """Make sure that references are those that runs were scored with.

    Raises:
        UserError: they are not.
    """
    ours = references.description
    for run in runs:
        theirs = run.result.references
        if theirs.sha256 != ours.sha256:
            raise UserError(
                f"{run.name} was scored with other references ({theirs.description}, {theirs.captions:,} captions, "
                f"digest {theirs.sha256[:12]}) than {ours.description} holds ({ours.captions:,} captions, digest "
                f"{ours.sha256[:12]}). Evaluate the run again, or name the references that it was scored with."
            )


def msrvtt_splits() -> dict[str, str]:
    """MSR-VTT's clips → the captioning split that each is of, from its numbering."""
    names = [(name, count) for name, count in DATASETS["msrvtt"].clips().items() if count is not None]
    in_order = [name for name, count in names for _ in range(count)]
    return {f"video{number}": name for number, name in enumerate(in_order)}


def _official_msrvtt_split(captions: Mapping[str, Sequence[str]]) -> str | None:
    """The split of MSR-VTT that references are, by their clips and how many captions each has; `None` for others."""
    of = msrvtt_splits()
    found = {of.get(clip_id) for clip_id in captions}
    name = found.pop() if len(found) == 1 else None
    facts = DATASETS["msrvtt"]
    whole = name is not None and facts.clips()[name] == len(captions)
    even = all(len(texts) == facts.captions_per_clip for texts in captions.values())
    return name if whole and even else None


def _splits_under(dataset: str, root: Path) -> dict[str, str]:
    """Clip → split of all splits of a data set that can be read."""
    found: dict[str, str] = {}
    for name in DATASETS[dataset].clips():
        try:
            clips: Sequence[CaptionedClip] = read_split(dataset, name, root, check_files=False)
        except UserError:
            continue
        found |= {clip.clip_id: name for clip in clips}
    return found
