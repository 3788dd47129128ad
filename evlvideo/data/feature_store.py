"""Outputs of a frozen vision tower on disk, made once and read in the place of videos.

A store is a directory for each split, `DATASET-SPLIT`. It has a key, which says what the features depend on, and shards
of safetensors, each with the features of some clips, `(T, N, D)`, by clip id. A shard is written whole or not at all,
and its number says which clips it is about, so that an extraction that was stopped goes on with the shards that are
missing, in one process or several.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evlvideo.data.clip import DecodeError
from evlvideo.errors import UserError
from evlvideo.files import read_json, replacing, write_json

KEY_NAME = "key.json"
CLIPS_PER_SHARD = 64
_BAD = "bad"
_OPEN_SHARDS = 16


@dataclass(frozen=True)
class FeatureKey:
    """What features depend on."""

    tower: str
    """Fingerprint of the vision tower."""
    num_frames: int
    sampling: str
    keep_aspect: bool
    image_size: int
    image_mean: list[float]
    image_std: list[float]

    def differences(self, other: "FeatureKey") -> list[str]:
        """What is not the same, for people."""
        ours, theirs = asdict(self), asdict(other)
        return [
            f"{name} is {_short(theirs[name])} there and {_short(value)} here"
            for name, value in ours.items()
            if theirs[name] != value
        ]


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)


def split_directory(root: Path, dataset: str, split: str) -> Path:
    """Where the features of a split are."""
    return root / f"{dataset}-{split}"


class FeatureWriter:
    """Writes the features of a split.

    Args:
        directory: of the split.
        key: what they depend on.
        clip_ids: all clips of the split, in order.

    Raises:
        UserError: the directory holds features that depend on something else, or of other clips.
    """

    def __init__(self, directory: Path, key: FeatureKey, clip_ids: Sequence[str]) -> None:
        self.directory = directory
        self.clip_ids = list(clip_ids)
        if (directory / KEY_NAME).exists():
            _check_key(directory, key)
            known = read_json(directory / KEY_NAME)["clips"]
            if known != self.clip_ids:
                raise UserError(
                    f"{directory} holds features of {len(known)} clips that are not the {len(self.clip_ids)} of this "
                    "split; remove it, or name another directory."
                )
        else:
            write_json(directory / KEY_NAME, {**asdict(key), "clips": self.clip_ids})

    def missing_shards(self) -> list[int]:
        """Numbers of the shards that are still to be written."""
        return _missing_shards(self.directory, len(self.clip_ids))

    def clips_of(self, shard: int) -> range:
        """Places of a shard's clips in the split."""
        return range(shard * CLIPS_PER_SHARD, min((shard + 1) * CLIPS_PER_SHARD, len(self.clip_ids)))

    def write(self, shard: int, features: Mapping[str, Tensor], bad: Mapping[str, str]) -> None:
        """Write a shard.

        Args:
            shard: its number.
            features: by clip id, each `(T, N, D)`.
            bad: why a clip has none, by clip id.
        """
        with replacing(_shard(self.directory, shard)) as temporary:
            save_file(dict(features), temporary, metadata={_BAD: json.dumps(dict(bad))})


class _OpenShard(NamedTuple):
    """A shard's file, and why clips have no features in it, by clip id."""

    file: Any
    bad: dict[str, str]


class FeatureReader:
    """Reads the features of a split.

    Args:
        directory: of the split.
        key: what the features have to depend on.

    Raises:
        UserError: there are none, they depend on something else, or the extraction did not end.
    """

    def __init__(self, directory: Path, key: FeatureKey) -> None:
        if not (directory / KEY_NAME).is_file():
            raise UserError(
                f"There are no features in {directory}. Make them with `evlvideo features extract`, or set "
                "data.features to null."
            )
        _check_key(directory, key)
        self.directory = directory
        clips = read_json(directory / KEY_NAME)["clips"]
        missing = _missing_shards(directory, len(clips))
        if missing:
            raise UserError(
                f"The features in {directory} are not complete: {len(missing)} of its shards are missing. Give the "
                "command that makes them again; it goes on where it stopped."
            )
        self._shard_of = {clip_id: place // CLIPS_PER_SHARD for place, clip_id in enumerate(clips)}
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()

    def read(self, clip_id: str) -> Tensor:
        """The features of a clip, `(T, N, D)`.

        Raises:
            DecodeError: the clip could not be decoded when features were made.
            UserError: the clip is not of this split, or its shard is broken.
        """
        reason = self.why_bad(clip_id)
        if reason is not None:
            raise DecodeError(reason)
        features: Tensor = self._shard(self._shard_of[clip_id]).file.get_tensor(clip_id)
        return features

    def why_bad(self, clip_id: str) -> str | None:
        """Why a clip has no features; `None` where it has some.

        Raises:
            UserError: the clip is not of this split, or its shard is broken.
        """
        if clip_id not in self._shard_of:
            raise UserError(f"{self.directory} has no features of {clip_id}; they are of another split or data set.")
        return self._shard(self._shard_of[clip_id]).bad.get(clip_id)

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind when a worker gets a copy."""
        return {**self.__dict__, "_open": OrderedDict()}

    def _shard(self, number: int) -> _OpenShard:
        if number not in self._open:
            path = _shard(self.directory, number)
            try:
                file = safe_open(path, "pt")
            except (OSError, SafetensorError) as error:
                raise UserError(f"{path} cannot be read ({error}); remove it and make the features again.") from error
            self._open[number] = _OpenShard(file, json.loads(file.metadata()[_BAD]))
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]


def _shard(directory: Path, number: int) -> Path:
    return directory / f"features-{number:05d}.safetensors"


def _missing_shards(directory: Path, clips: int) -> list[int]:
    return [number for number in range(-(-clips // CLIPS_PER_SHARD)) if not _shard(directory, number).exists()]


def _check_key(directory: Path, key: FeatureKey) -> None:
    stored = read_json(directory / KEY_NAME)
    try:
        found = FeatureKey(**{name: value for name, value in stored.items() if name != "clips"})
    except TypeError as error:
        raise UserError(f"{directory / KEY_NAME} is not the key of a store of features: {error}.") from error
    differences = key.differences(found)
    if differences:
        raise UserError(
            f"The features in {directory} were made otherwise than this run needs them: {'; '.join(differences)}. "
            "Make them again in another directory, or change the run."
        )
