"""Keep the clips of shards that are not complete yet, so that a stopped extraction loses at most some seconds.

A part is a file like a shard, with some of a shard's clips: `part-SHARD-NUMBER.safetensors`. Parts are removed once
their shard is written, and nothing but the extraction reads them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evlvideo.files import replacing

BAD = "bad"
"""Key of the file's metadata that holds why clips have no features, by clip id, as JSON."""


@dataclass
class Outcomes:
    """What came of some clips."""

    features: dict[str, Tensor] = field(default_factory=dict)
    """Features by clip id, each `(T, N, D)`."""
    bad: dict[str, str] = field(default_factory=dict)
    """Reasons why clips have none, by clip id."""

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.features) + len(self.bad)

    def __contains__(self, clip_id: object) -> bool:
        """Return whether a clip is among them."""
        return clip_id in self.features or clip_id in self.bad

    def add(self, other: "Outcomes") -> None:
        """Add those of other clips."""
        self.features |= other.features
        self.bad |= other.bad


def write_outcomes(path: Path, outcomes: Outcomes) -> None:
    """Write a file of clips, whole or not at all."""
    with replacing(path) as temporary:
        save_file(outcomes.features, temporary, metadata={BAD: json.dumps(outcomes.bad)})


def write_part(directory: Path, shard: int, outcomes: Outcomes) -> None:
    """Write a further part of a shard. One process writes those of a shard."""
    number = max((int(path.stem.split("-")[2]) for path in part_files(directory, shard)), default=-1) + 1
    write_outcomes(directory / f"part-{shard:05d}-{number:05d}.safetensors", outcomes)


def read_parts(directory: Path, shard: int) -> Outcomes:
    """Read the parts of a shard. One that cannot be read is removed, and its clips are encoded again."""
    found = Outcomes()
    for path in part_files(directory, shard):
        try:
            with safe_open(path, "pt") as file:
                found.bad |= json.loads(file.metadata()[BAD])
                found.features |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        except (OSError, SafetensorError, TypeError, KeyError, ValueError):
            path.unlink(missing_ok=True)
    return found


def remove_parts(directory: Path, shard: int) -> None:
    """Remove the parts of a shard."""
    for path in part_files(directory, shard):
        path.unlink(missing_ok=True)


def part_files(directory: Path, shard: int) -> list[Path]:
    """List the parts of a shard, in the order of their numbers."""
    return sorted(directory.glob(f"part-{shard:05d}-*.safetensors"))


def shards_with_parts(directory: Path) -> set[int]:
    """List the shards that have parts."""
    return {int(path.name.split("-")[1]) for path in directory.glob("part-*-*.safetensors")}
