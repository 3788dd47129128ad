"""The clips and references on which all rows of a table are scored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evlvideo.comparison.rows.system import System
from evlvideo.config.data import DataConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip, evidence_subsets
from evlvideo.data.annotation.facts import DATASETS, deviations_of, facts_of
from evlvideo.data.annotation.splits import dataset_root, read_split
from evlvideo.errors import UserError
from evlvideo.results.records import References, describe_references
from evlvideo.results.reference_files import load_references, msrvtt_splits, part_of_msrvtt, splits_of

SplitOf = Callable[[], Mapping[str, str]]
"""Returns clip → split for clips that are not in the table, as far as known."""


@dataclass(frozen=True, slots=True)
class TableReferences:
    """The references that the captions of a table are scored against."""

    dataset: str
    """The dataset, or the name of the file if it is not a known one."""
    split: str | None
    description: References
    captions: Mapping[str, Sequence[str]]
    """Clip → references."""
    subsets: Mapping[str, Sequence[str]]
    """Evidence → clips, if the annotation has it."""
    data: DataConfig | None
    """Where the clips are. `None` if unknown."""
    split_of: SplitOf
    """Finds the split of clips that are not in the table."""
    deviations: Sequence[str] = ()
    """How the clips or captions differ in number from the published split."""
    subset_frequencies: str = "split"
    """How captions are scored on the subsets."""


def references_of_runs(runs: Sequence[System]) -> TableReferences:
    """Read the references that runs were scored with, through the first run whose config has their location.

    Raises:
        UserError: no run has it, or the annotation cannot be read or has changed since.
    """
    result = runs[0].result
    data = next((run.data for run in runs if run.data is not None and run.data.dataset == result.dataset), None)
    if data is None:
        raise UserError("no run says where its references are; name their file with --references")
    root = Path(data.root) if data.root else None
    found = references_of_dataset(data.dataset, result.split or "", root, data, check_counts=data.check_counts)
    check_references(found, runs)
    return replace(found, subset_frequencies=result.subset_frequencies)


def references_of_dataset(
    dataset: str, split: str, root: Path | None, data: DataConfig | None = None, *, check_counts: bool = True
) -> TableReferences:
    """Read the references of a split of a dataset. The media files may be missing.

    Args:
        dataset: a key of :data:`evlvideo.data.annotation.facts.DATASETS`.
        split: one of its splits.
        root: its directory. Not needed for a rendered dataset.
        data: where its clips are. Defaults to the root alone.
        check_counts: whether there must be as many clips and captions as the published dataset has.

    Raises:
        UserError: the dataset or split is unknown, or its annotation cannot be read.
    """
    facts = facts_of(dataset)
    root = dataset_root(dataset, root)
    if split in facts.without_captions:
        raise UserError(f"{dataset}:{split} has no captions to score on; its server has them. Name another split.")
    clips = read_split(dataset, split, root, check_files=False, check_counts=check_counts)
    captions = {clip.clip_id: list(clip.captions) for clip in clips}
    return TableReferences(
        dataset=dataset,
        split=split,
        description=describe_references(f"{dataset}:{split}", captions),
        captions=captions,
        subsets=evidence_subsets(clips),
        data=data or DataConfig(dataset=dataset, root=str(root), check_counts=check_counts),
        split_of=msrvtt_splits if dataset == "msrvtt" else lambda: _splits_under(dataset, root),
        deviations=deviations_of(dataset, split, captions),
        subset_frequencies=facts.subset_frequencies,
    )


def references_of_file(path: Path, split: str | None) -> TableReferences:
    """Read a file of references. Recognises the official JSON of MSR-VTT.

    Args:
        path: a file that :func:`evlvideo.results.reference_files.load_references` reads.
        split: one of its splits. Required if it has several.

    Raises:
        UserError: the file cannot be read, lacks the split, or has several and none was named.
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
        deviations=part_of_msrvtt(captions),
    )


def check_references(references: TableReferences, runs: Sequence[System]) -> None:
    """Check that runs were scored with these references.

    Raises:
        UserError: they were not.
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


def _official_msrvtt_split(captions: Mapping[str, Sequence[str]]) -> str | None:
    """Recognise a split of MSR-VTT by its clips and their number of captions. `None` for other references."""
    of = msrvtt_splits()
    found = {of.get(clip_id) for clip_id in captions}
    name = found.pop() if len(found) == 1 else None
    facts = DATASETS["msrvtt"]
    whole = name is not None and facts.clips()[name] == len(captions)
    even = all(len(texts) == facts.captions_per_clip for texts in captions.values())
    return name if whole and even else None


def _splits_under(dataset: str, root: Path) -> dict[str, str]:
    """Map clips to splits, for all splits of a dataset that can be read."""
    found: dict[str, str] = {}
    for name in DATASETS[dataset].clips():
        try:
            clips: Sequence[CaptionedClip] = read_split(dataset, name, root, check_files=False, check_counts=False)
        except UserError:
            continue
        found |= {clip.clip_id: name for clip in clips}
    return found
