"""Keys of stored features: the tower, the sampling, decoding and scaling of frames, the clips and their files."""

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
    """Everything that features depend on, except the clips."""

    tower: str
    """Fingerprint of the vision tower."""
    num_frames: int
    sampling: str
    keep_aspect: bool
    image_size: int
    image_mean: list[float]
    image_std: list[float]
    backend: str
    """Decoder; see :data:`evlvideo.data.video.decode.BACKENDS`."""
    decoding_version: int
    """See :data:`evlvideo.data.video.decode.DECODING_VERSION`."""
    transform_version: int
    """See :data:`evlvideo.data.loading.transforms.TRANSFORM_VERSION`."""
    frames: str
    """`all`: features of every frame, `(T, N, D)`. `mean`: only their mean, `(1, N, D)`."""
    computed_in: str
    """Dtype that the tower computed in, by its name in `training.precision`."""
    stored_in: str
    """Dtype in the files."""
    pruning: str | None = None
    """How the tower prunes tokens, as JSON; None if it does not, as in stores of earlier versions."""

    def differences(self, other: "FeatureKey") -> list[str]:
        """List the values that differ, for messages."""
        ours, theirs = asdict(self), asdict(other)
        return [
            f"{name} is {_short(theirs[name])} there and {_short(value)} here"
            for name, value in ours.items()
            if theirs[name] != value
        ]

    def types_of(self, other: "FeatureKey") -> "FeatureKey":
        """Return this key with the dtypes of another, since a run reads features of any dtype."""
        return replace(self, computed_in=other.computed_in, stored_in=other.stored_in)

    def readable_of(self, other: "FeatureKey") -> "FeatureKey":
        """Return the key that a run with this key can read from a store with another: any dtype, the mean from all."""
        frames = ALL_FRAMES if other.frames == ALL_FRAMES else self.frames
        return replace(self.types_of(other), frames=frames)

    def write(self, directory: Path) -> None:
        """Write the key to a store."""
        write_json(directory / KEY_NAME, asdict(self))

    @classmethod
    def read(cls, directory: Path) -> "FeatureKey":
        """Read the key of a store.

        Raises:
            UserError: there is none, or it was written by a version with other fields.
        """
        stored = read_json(directory / KEY_NAME)
        names = set(cls.__dataclass_fields__)
        found = {*stored, "pruning"} if isinstance(stored, dict) else set()
        if found != names:
            lacking, unknown = ", ".join(sorted(names - found)), ", ".join(sorted(found - names))
            raise UserError(
                f"{directory / KEY_NAME} is not a key of this version of evlvideo"
                + (f"; it lacks {lacking}" if lacking else "")
                + (f"; unknown: {unknown}" if unknown else "")
                + ". Extract the features again to another directory, or remove this one."
            )
        return cls(**stored)


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)


@dataclass(frozen=True, eq=False)
class ClipKeys:
    """A store's clips as 64-bit hashes: 24 MB for a million clips."""

    ids: np.ndarray
    """Hashes of their ids."""
    times: np.ndarray
    """Hashes of their start and end."""
    files: np.ndarray
    """Hashes of their files; see :func:`evlvideo.data.media.file_identity.identify`."""

    @classmethod
    def of(cls, clips: Sequence[CaptionedClip]) -> "ClipKeys":
        """Hash clips, and their files on disk."""
        ids = np.fromiter((id_key(clip.clip_id) for clip in clips), np.uint64, len(clips))
        times = np.fromiter(map(time_key, clips), np.uint64, len(clips))
        return cls(ids, times, identify_all((clip.video for clip in clips), len(clips)))


def id_key(clip_id: str) -> int:
    """Hash an id. Two of ten million ids collide with a probability of 1 in 400,000."""
    return _number(clip_id.encode("utf-8", "surrogatepass"))


def time_key(clip: CaptionedClip) -> int:
    """Hash a clip's start and end in its file; 0 for a whole file."""
    if clip.start_seconds is None and clip.end_seconds is None:
        return 0
    times: Iterable[float] = (np.nan if time is None else time for time in (clip.start_seconds, clip.end_seconds))
    return _number(struct.pack("<2d", *times))


def _number(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")
