"""Store the outputs of a frozen vision tower on disk, to read them instead of videos.

A store is a directory for each split, `DATASET-SPLIT`. It has a key (what the features depend on), a file of clips, and
safetensors shards, each with the features of some clips, `(T, N, D)`, by clip id. Shards are written atomically, and
the index of a shard determines its clips. So an interrupted extraction continues with the missing shards, in one
process or several. What it has of a shard that is not complete lies in parts (:mod:`.parts`), which readers ignore.
"""

import json
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays
from torch import Tensor

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.loading.features.key import KEY_NAME, ClipKeys, FeatureKey, id_key, time_key
from evlvideo.data.loading.features.parts import (
    BAD,
    Outcomes,
    read_parts,
    remove_parts,
    shards_with_parts,
    write_outcomes,
    write_part,
)
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.file_identity import identify
from evlvideo.errors import UserError
from evlvideo.files import A_DAY, remove_leftovers, replacing

logger = logging.getLogger(__name__)

CLIPS_NAME = "clips.safetensors"
CLIPS_PER_SHARD = 64
_OPEN_SHARDS = 16
_FILES_CHECKED = 64
"""Files of a split that a run hashes to detect replaced videos."""


def split_directory(root: Path, dataset: str, split: str) -> Path:
    """Return the directory of a split's features."""
    return root / f"{dataset}-{split}"


def prepare_store(directory: Path, key: FeatureKey, clips: Sequence[CaptionedClip]) -> None:
    """Begin a store, or check that an existing one has the same key, clips and files.

    One process calls this before any process writes shards. Reads some KiB of every clip's file.

    Raises:
        UserError: the directory holds features with another key, of other clips, or of other files.
    """
    # Others may be writing to the same store.
    remove_leftovers(directory, untouched_seconds=A_DAY)
    ours = ClipKeys.of(clips)
    if (directory / KEY_NAME).exists():
        found = FeatureKey.read(directory)
        _refuse(directory, key.differences(found))
        theirs = _read_clips(directory)
        if not np.array_equal(ours.ids, theirs.ids):
            raise UserError(
                f"{directory} holds features of {len(theirs.ids)} clips that are not the {len(clips)} of this split; "
                "remove it, or name another directory."
            )
        _check_written(directory, clips, ours, theirs)
        _remove_useless_parts(directory, ours, theirs)
    arrays = {field.name: getattr(ours, field.name) for field in fields(ours)}
    with replacing(directory / CLIPS_NAME) as temporary:
        save_arrays(arrays, temporary)
    # Last, since it marks the store as valid.
    key.write(directory)


def _check_written(directory: Path, clips: Sequence[CaptionedClip], ours: ClipKeys, theirs: ClipKeys) -> None:
    """Check that clips with stored features have not changed since."""
    written = np.ones(len(clips), bool)
    for shard in _missing_shards(directory, len(clips)):
        written[_clips_of(shard)] = False
    for what, changed in (("times", ours.times != theirs.times), ("files", ours.files != theirs.files)):
        places = np.flatnonzero(written & changed)
        if len(places):
            names = ", ".join(clips[int(place)].clip_id for place in places[:3])
            shards = sorted({int(place) // CLIPS_PER_SHARD for place in places})
            raise UserError(
                f"The {what} of {len(places)} clips have changed since {directory} was written: {names}"
                f"{', …' if len(places) > 3 else ''}. Remove {_shard(directory, shards[0]).name}"
                f"{f' and {len(shards) - 1} more' if len(shards) > 1 else ''} to make them again, or name another "
                "directory."
            )


def _remove_useless_parts(directory: Path, ours: ClipKeys, theirs: ClipKeys) -> None:
    """Remove parts of complete shards, and of shards with a clip that has changed since."""
    changed = (ours.times != theirs.times) | (ours.files != theirs.files)
    missing = set(_missing_shards(directory, len(changed)))
    for shard in shards_with_parts(directory):
        if shard not in missing or changed[_clips_of(shard)].any():
            remove_parts(directory, shard)


def _clips_of(shard: int) -> slice:
    return slice(shard * CLIPS_PER_SHARD, (shard + 1) * CLIPS_PER_SHARD)


class FeatureWriter:
    """Writes the shards of a split.

    Args:
        directory: directory of the split, prepared by :func:`prepare_store`.
        count: number of clips in the split.
    """

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory
        self.count = count

    def missing_shards(self) -> list[int]:
        """List the indices of the shards that are not written yet."""
        return _missing_shards(self.directory, self.count)

    def clips_of(self, shard: int) -> range:
        """Return the indices of a shard's clips in the split."""
        return range(self.count)[_clips_of(shard)]

    def kept(self, shard: int) -> Outcomes:
        """Read what an interrupted extraction has kept of a shard."""
        return read_parts(self.directory, shard)

    def keep(self, shard: int, outcomes: Outcomes) -> None:
        """Keep clips of a shard that is not complete yet."""
        write_part(self.directory, shard, outcomes)

    def write(self, shard: int, outcomes: Outcomes) -> None:
        """Write a complete shard, and remove its parts."""
        write_outcomes(_shard(self.directory, shard), outcomes)
        remove_parts(self.directory, shard)


class _OpenShard(NamedTuple):
    """A shard's file, and the reasons why clips have no features, by clip id."""

    file: Any
    bad: dict[str, str]


class FeatureReader:
    """Reads the features of a split.

    Args:
        directory: directory of the split.
        key: key of the run. Features of another dtype are read with a warning; the mean of the frames may come from
            features of all frames.

    Raises:
        UserError: there are no features, they have another key, or the extraction is incomplete.
    """

    def __init__(self, directory: Path, key: FeatureKey) -> None:
        if not (directory / KEY_NAME).is_file():
            raise UserError(
                f"There are no features in {directory}. Make them with `evlvideo features extract`, or set "
                "data.features to null."
            )
        found = FeatureKey.read(directory)
        _refuse(directory, key.readable_of(found).differences(found))
        others = key.differences(key.types_of(found))
        if others:
            logger.warning("The features in %s differ from those of the run's tower: %s.", directory, "; ".join(others))
        self.directory = directory
        self._clips = _read_clips(directory)
        missing = _missing_shards(directory, len(self._clips.ids))
        if missing:
            raise UserError(
                f"The features in {directory} are incomplete: {len(missing)} of its shards are missing. Run "
                "`evlvideo features extract` again; it continues where it stopped."
            )
        self._order = np.argsort(self._clips.ids)
        self._sorted = self._clips.ids[self._order]
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()

    def check(self, clips: Sequence[CaptionedClip]) -> None:
        """Check that clips have not changed since the extraction.

        Checks a sample of the files, and skips missing and empty ones: a run with features needs no videos.

        Raises:
            UserError: a clip is not in this split, or its times or its file have changed.
        """
        found = np.fromiter(((id_key(clip.clip_id), time_key(clip)) for clip in clips), np.dtype("u8,u8"), len(clips))
        places = self._order[np.searchsorted(self._sorted, found["f0"]).clip(max=len(self._sorted) - 1)]
        strange = np.flatnonzero(self._clips.ids[places] != found["f0"])
        if len(strange):
            raise self._unknown(clips[int(strange[0])].clip_id)
        changed = np.flatnonzero(found["f1"] != self._clips.times[places])
        if len(changed):
            self._refuse_clip("start or end", clips[int(changed[0])])
        for number in range(0, len(clips), max(1, len(clips) // _FILES_CHECKED)):
            if identify(clips[number].video) not in (0, int(self._clips.files[places[number]])):
                self._refuse_clip("file", clips[number])

    def _refuse_clip(self, what: str, clip: CaptionedClip) -> NoReturn:
        raise UserError(
            f"The {what} of {clip.clip_id} has changed since the features in {self.directory} were extracted. Extract "
            "them again to another directory, or restore the old annotation and videos."
        )

    def read(self, clip_id: str) -> Tensor:
        """Read the features of a clip: `(T, N, D)`, or `(1, N, D)` if the mean of its frames is stored.

        Raises:
            DecodeError: the clip could not be decoded during the extraction.
            UserError: the clip is not in this split, or its shard cannot be read.
        """
        shard = self._shard_of(clip_id)
        reason = shard.bad.get(clip_id)
        if reason is not None:
            raise DecodeError(reason)
        features: Tensor = shard.file.get_tensor(clip_id)
        return features

    def why_bad(self, clip_id: str) -> str | None:
        """Return why a clip has no features, or None if it has some.

        Raises:
            UserError: the clip is not in this split, or its shard cannot be read.
        """
        return self._shard_of(clip_id).bad.get(clip_id)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out open files, which cannot be pickled."""
        return {**self.__dict__, "_open": OrderedDict()}

    def _place(self, clip_id: str) -> int:
        wanted = np.uint64(id_key(clip_id))
        found = int(np.searchsorted(self._sorted, wanted))
        if found == len(self._sorted) or self._sorted[found] != wanted:
            raise self._unknown(clip_id)
        return int(self._order[found])

    def _unknown(self, clip_id: str) -> UserError:
        return UserError(f"{self.directory} has no features of {clip_id}; they are of another split or dataset.")

    def _shard_of(self, clip_id: str) -> _OpenShard:
        number = self._place(clip_id) // CLIPS_PER_SHARD
        if number not in self._open:
            path = _shard(self.directory, number)
            try:
                file = safe_open(path, "pt")
            except (OSError, SafetensorError) as error:
                raise UserError(f"{path} cannot be read ({error}); remove it and make the features again.") from error
            self._open[number] = _OpenShard(file, json.loads(file.metadata()[BAD]))
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]


def _shard(directory: Path, number: int) -> Path:
    return directory / f"features-{number:05d}.safetensors"


def _missing_shards(directory: Path, clips: int) -> list[int]:
    # One listing: looking up 15,000 shards one by one takes minutes on a network file system.
    there = {path.name for path in directory.glob("features-*.safetensors")}
    return [number for number in range(-(-clips // CLIPS_PER_SHARD)) if _shard(directory, number).name not in there]


def _read_clips(directory: Path) -> ClipKeys:
    try:
        return ClipKeys(**load_file(directory / CLIPS_NAME))
    except (OSError, SafetensorError, TypeError) as error:
        raise UserError(
            f"{directory / CLIPS_NAME} cannot be read ({error}); remove {directory} and make the features again."
        ) from error


def _refuse(directory: Path, differences: Sequence[str]) -> None:
    if differences:
        raise UserError(
            f"The features in {directory} do not fit this run: {'; '.join(differences)}. Extract them again to another "
            "directory, or change the run."
        )
