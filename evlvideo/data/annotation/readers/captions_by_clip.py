"""Group captions by clip, for annotations that list both separately."""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from evlvideo.data.annotation.messages import some
from evlvideo.data.annotation.packed_strings import PackedStringsBuilder
from evlvideo.errors import UserError


class CaptionsByClip:
    """Collects captions one by one and yields them clip by clip. Compares 64-bit hashes of ids.

    Args:
        required: whether every clip needs a caption.
    """

    def __init__(self, *, required: bool = True) -> None:
        self._required = required
        self._texts, self._ids = PackedStringsBuilder(), PackedStringsBuilder()
        self._keys, self._ranks = array("q"), array("q")

    def add(self, clip_id: str, caption: str, rank: int = 0) -> None:
        """Add a caption. Captions of a clip are sorted by rank, then by order of arrival."""
        self._ids.append(clip_id)
        self._keys.append(hash(clip_id))
        self._texts.append(caption)
        self._ranks.append(rank)

    def of_clips(self, path: Path, ids: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Yield the captions of each clip. None can be added after that.

        Args:
            path: the file, for messages.
            ids: all listed clips.

        Raises:
            UserError: a clip is listed twice or lacks captions, or a caption belongs to no listed clip.
        """
        keys = np.fromiter(map(hash, ids), np.int64, len(ids))
        by_key = np.argsort(keys, kind="stable")
        twice = by_key[1:][np.diff(keys[by_key]) == 0]
        if len(twice):
            names = dict.fromkeys(ids[number] for number in np.sort(twice).tolist())
            raise UserError(f"{path} lists {some(names)} more than once; get the file again.")
        clips = self._clips(path, keys, by_key)
        counts = np.bincount(clips, minlength=len(ids))
        bare = np.flatnonzero(counts == 0).tolist() if self._required else []
        if bare:
            raise UserError(f"{path} has no captions of {some(ids[n] for n in bare)}; every clip needs at least one.")
        texts, first = self._texts.strings(), 0
        in_order = np.lexsort((np.asarray(self._ranks), clips))
        for count in counts.tolist():
            yield tuple(texts[number] for number in in_order[first : first + count].tolist())
            first += count

    def _clips(self, path: Path, keys: np.ndarray, by_key: np.ndarray) -> np.ndarray:
        """Return the index of each caption's clip."""
        ours = np.asarray(self._keys)
        if not len(keys):
            clips, known = ours, np.zeros(len(ours), np.bool_)
        else:
            clips = by_key[np.searchsorted(keys, ours, sorter=by_key).clip(max=len(keys) - 1)]
            known = keys[clips] == ours
        if not known.all():
            ids = self._ids.strings()
            unknown = dict.fromkeys(ids[number] for number in np.flatnonzero(~known).tolist())
            raise UserError(
                f"{path} has captions of {some(unknown)}, not among its clips; remove them, or get the file again."
            )
        return clips
