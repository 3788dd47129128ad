"""Read reference captions from any annotation file that the datasets' readers know."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from evlvideo.data.annotation.caption_files import read_content
from evlvideo.data.annotation.facts import DATASETS, deviations_of
from evlvideo.data.annotation.readers import jsonl, karpathy, msvd
from evlvideo.data.annotation.readers.msrvtt import read_official
from evlvideo.data.annotation.references import is_official, read_references
from evlvideo.errors import UserError

_WITH_SPLITS = {karpathy.COCO: "coco", karpathy.FLICKR30K: "flickr30k", jsonl.FILE: "jsonl"}
"""File name → dataset, for files that hold all splits and are recognised by their name."""


def load_references(path: Path, split: str | None = None) -> dict[str, list[str]]:
    """Read the references of a file, or of one of its splits.

    Besides the forms of :func:`evlvideo.data.annotation.references.read_references`, of which MSR-VTT's has splits,
    Karpathy's `dataset_coco.json` and `dataset_flickr30k.json` and our own `captions.jsonl` are read, by their names.

    Args:
        path: the file.
        split: `train`, `validate` or `test`, if the file has it. Defaults to all clips.

    Raises:
        UserError: the file cannot be read, has no known form, or does not have the split.
    """
    if dataset := _WITH_SPLITS.get(path.name):
        names = list(DATASETS[dataset].clips())
        if split not in names:
            raise UserError(f"{path} holds several splits, and the split is {split!r}; allowed: {', '.join(names)}.")
        references = {
            clip.clip_id: list(clip.captions) for clip in DATASETS[dataset].read(path.parent, path.parent, split)
        }
        if not references:
            raise UserError(f"{path} holds no clips of the split {split!r}; name another one.")
        return references
    if split is None:
        return read_references(path)
    if not (clips := splits_of(path)):
        raise UserError(f"{path} holds no splits, but the split is {split!r}; leave it out.")
    if split not in clips.values():
        listed = ", ".join(f"{name} ({count} clips)" for name, count in Counter(clips.values()).items())
        raise UserError(f"{path} has no split {split!r}; it has {listed}.")
    return {clip_id: texts for clip_id, texts in read_references(path).items() if clips[clip_id] == split}


def has_splits(path: Path) -> bool:
    """Return whether a file holds splits that can be named.

    Raises:
        UserError: the file cannot be read.
    """
    return path.name in _WITH_SPLITS or bool(splits_of(path))


def splits_of(path: Path) -> dict[str, str]:
    """Return clip → split of MSR-VTT's official JSON, or nothing for a file of another form.

    Raises:
        UserError: the file cannot be read.
    """
    if path.name in (*_WITH_SPLITS, msvd.DESCRIPTIONS) or not is_official(read_content(path)):
        return {}
    return {clip.clip_id: split for clip, split in read_official(path, path.parent)}


def msrvtt_splits() -> dict[str, str]:
    """Map the clips of MSR-VTT to their captioning split, from their numbering."""
    names = [(name, count) for name, count in DATASETS["msrvtt"].clips().items() if count is not None]
    in_order = [name for name, count in names for _ in range(count)]
    return {f"video{number}": name for number, name in enumerate(in_order)}


def part_of_msrvtt(references: Mapping[str, Sequence[str]]) -> list[str]:
    """List how references differ in number from MSR-VTT's test split, if their clips are clips of it.

    Files do not say what they are a part of. Other splits are not told by their clips, since small datasets number
    theirs likewise from video0.
    """
    of = msrvtt_splits()
    of_test = bool(references) and all(of.get(clip_id) == "test" for clip_id in references)
    return deviations_of("msrvtt", "test", references) if of_test else []
