"""Draw some of a split's clips."""

from hashlib import blake2b

import numpy as np

from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.errors import UserError


def sample_clips(clips: ClipTable, count: int, name: str) -> ClipTable:
    """Draw clips at random, in the order of the annotation.

    The draw depends on the clips' ids alone. So it is the same for every seed and order of the annotation, and a larger
    sample holds every smaller one. The first clips of an annotation are often of one film, topic or source.

    Args:
        clips: all clips.
        count: number of clips to draw.
        name: name of the clips in the error.

    Raises:
        UserError: there are fewer clips.
    """
    if count > len(clips):
        raise UserError(
            f"{count:,} clips of {name} are asked for, but it has {len(clips):,}; ask for fewer, or for all."
        )
    keys = np.fromiter(map(_key, clips.ids), np.uint64, len(clips))
    return clips.take(np.sort(np.argsort(keys, kind="stable")[:count]))


def _key(clip_id: str) -> int:
    # Of another kind than the hashes that identify clips, and the same in every process.
    digest = blake2b(clip_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"sample")
    return int.from_bytes(digest.digest(), "little")
