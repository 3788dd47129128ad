"""What stored features depend on: the tower, the frames, how they are decoded and scaled, the clips and their files."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.media.file_identity import identify_all
from evlvideo.errors import UserError
from evlvideo.files import read_json, write_json

KEY_NAME = "key.json"
ALL_FRAMES = "all"
MEAN_FRAME = "mean"


@dataclass(frozen=True)
class FeatureKey:
    """What features depend on, beside the clips."""

    tower: str
    """Fingerprint of the vision tower."""
    num_frames: int
    sampling: str
    keep_aspect: bool
    image_size: int
    image_mean: list[float]
    image_std: list[float]
    backend: str
    """What decodes; see :data:`evlvideo.data.video.decode.BACKENDS`."""
    decoding_version: int
    """See :data:`evlvideo.data.video.decode.DECODING_VERSION`."""
    transform_version: int
    """See :data:`evlvideo.data.loading.transforms.TRANSFORM_VERSION`."""
    frames: str
    """`all`: features of every frame, `(T, N, D)`. `mean`: their mean alone, `(1, N, D)`."""
    computed_in: str
    """Type in which the tower computed, as `training.precision` calls it."""
    stored_in: str
    """Type of the numbers in the files."""

    def differences(self, other: "FeatureKey") -> list[str]:
        """What is not the same, for people."""
        ours, theirs = asdict(self), asdict(other)
        return [
            f"{name} is {_short(theirs[name])} there and {_short(value)} here"
            for name, value in ours.items()
            if theirs[name] != value
        ]

    def types_of(self, other: "FeatureKey") -> "FeatureKey":
        """This key, with the types of another: a run reads features of any type."""
        return replace(self, computed_in=other.computed_in, stored_in=other.stored_in)

    def readable_of(self, other: "FeatureKey") -> "FeatureKey":
        """The key that a run with this key asks of a store that has another: from all frames, it can take the mean."""
        frames = ALL_FRAMES if other.frames == ALL_FRAMES else self.frames
        return replace(self.types_of(other), frames=frames)

    def write(self, directory: Path) -> None:
        """Write the key of a store."""
        write_json(directory / KEY_NAME, asdict(self))

    @classmethod
    def read(cls, directory: Path) -> "FeatureKey":
        """Read the key of a store.

        Raises:
            UserError: there is none, or it is of another version of this program, which says less or more.
        """
        stored = read_json(directory / KEY_NAME)
        names = set(cls.__dataclass_fields__)
        found = set(stored) if isinstance(stored, dict) else set()
        if found != names:
            lacking, unknown = ", ".join(sorted(names - found)), ", ".join(sorted(found - names))
            raise UserError(
                f"{directory / KEY_NAME} is not a key of this version of evlvideo"
                + (f"; it does not say {lacking}" if lacking else "")
                + (f"; it says {unknown}" if unknown else "")
                + ". Make the features again in another directory, or remove this one."
            )
        return cls(**stored)


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)


@dataclass(frozen=True, eq=False)
class ClipKeys:
    """A store's clips as numbers of 64 bits, so that a million of them takes 24 MB."""

    ids: np.ndarray
    """Of their names."""
    times: np.ndarray
    """Of where in their files they begin and end."""
    files: np.ndarray
    """Of their files; see :func:`evlvideo.data.media.file_identity.identify`."""

    @classmethod
    def of(cls, clips: Sequence[CaptionedClip]) -> "ClipKeys":
        """Read what makes clips themselves, their files included."""
        ids = np.fromiter((id_key(clip.clip_id) for clip in clips), np.uint64, len(clips))
        times = np.fromiter(map(time_key, clips), np.uint64, len(clips))
        return cls(ids, times, identify_all((clip.video for clip in clips), len(clips)))


def id_key(clip_id: str) -> int:
    """A name as a number; that two of ten million names have the same has a chance of 1 in 400,000."""
    return _number(clip_id.encode("utf-8", "surrogatepass"))


def time_key(clip: CaptionedClip) -> int:
    """Where a clip begins and ends in its file, as a number; 0 for a whole file."""
    if clip.start_seconds is None and clip.end_seconds is None:
        return 0
    times: Iterable[float] = (np.nan if time is None else time for time in (clip.start_seconds, clip.end_seconds))
    return _number(struct.pack("<2d", *times))


def _number(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")
