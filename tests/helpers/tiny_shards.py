"""Tar shards written by the tests."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write_shard(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write members in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def picture(shade: int) -> bytes:
    """A small image of one grey, as PNG."""
    content = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), shade, np.uint8)).save(content, "PNG")
    return content.getvalue()


def samples(numbers: range) -> dict[str, bytes]:
    """Images whose grey is their number, and captions that say it."""
    return {
        name: content
        for number in numbers
        for name, content in {
            f"{number:06d}.png": picture(number),
            f"{number:06d}.txt": f"picture {number}\n".encode(),
        }.items()
    }
