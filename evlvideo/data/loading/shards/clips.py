"""Captioned images and videos in tar shards, for datasets with too many files for a directory.

Reads shards that `img2dataset` and the `webdataset` library write. Reads by index and without that library, because a
resumed run and a mixture by ratio must know which sample an index means. Nothing is unpacked, so names inside a shard
cannot lead out of it.

Each shard has an index file of some 50 bytes a sample (:mod:`evlvideo.data.media.shard_index`), which processes share
in memory. 115 million samples make 6 GB of index files. Indexing takes about a second for 10,000 samples;
`evlvideo data index` does it in many processes. A shuffled walk keeps a window of shards open
(:mod:`evlvideo.data.loading.shards.order`).
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from evlvideo.data.annotation.messages import shown, some
from evlvideo.data.loading.shards.indexing import counts
from evlvideo.data.loading.shards.order import ShardOrder
from evlvideo.data.media.media import TarMember
from evlvideo.data.media.shard_files import MOST_OPEN, ShardFile, whole, with_retries
from evlvideo.data.media.shard_index import Sample, ShardIndex, captions_of, index_file, open_index
from evlvideo.data.video.backends.image import IMAGE_SUFFIXES
from evlvideo.errors import UserError

_LARGEST_GAP_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class ShardClip:
    """A sample of a shard: like a `CaptionedClip`, with its file inside the shard."""

    clip_id: str
    """The shard's name without its suffix, and the sample's key: `00017/000170034`."""
    video: TarMember
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _OpenShard:
    """A shard's file, with its index and the state of the file that the index was checked against."""

    file: ShardFile
    index: ShardIndex
    state: tuple[int, int]


class ShardClips(Sequence[ShardClip]):
    """All samples of some shards, in the order of the shards and of the samples in each.

    Args:
        shards: uncompressed tar files.
        index_root: directory of the index files; see :func:`evlvideo.data.media.shard_index.index_file`.

    Raises:
        UserError: there are no shards, two have the same name, or one cannot be read or has changed.
    """

    def __init__(self, shards: Sequence[Path], index_root: Path | None = None) -> None:
        twice = sorted(name for name, times in Counter(shard.stem for shard in shards).items() if times > 1)
        if not shards:
            raise UserError("There are no shards; name at least one tar file.")
        if twice:
            raise UserError(f"Several shards are called {some(twice)}; their clips would have the same ids.")
        self.shards = list(shards)
        self.index_root = index_root
        self._order = ShardOrder(counts(self.shards, index_root))
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()

    def __len__(self) -> int:
        """Count the samples."""
        return self._order.firsts[-1]

    def in_order(self, place: int, key: int) -> int:
        """Return the index of the sample at a position of a shuffled walk; see :class:`ShardOrder`.

        Args:
            place: position, from 0.
            key: selects the walk.
        """
        return self._order.number(place, key)

    @overload
    def __getitem__(self, number: int) -> ShardClip: ...
    @overload
    def __getitem__(self, number: slice) -> list[ShardClip]: ...
    def __getitem__(self, number: int | slice) -> ShardClip | list[ShardClip]:
        """Return a sample. Reads its caption and its image; a video is read later.

        Raises:
            IndexError: there is no such sample.
            DecodeError: the shard cannot be read at the moment.
            UserError: the shard is missing or has changed.
        """
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        place, row = self._place(number)
        return with_retries(self.shards[place], lambda: self._clip(place, row))

    def clip_id(self, number: int) -> str:
        """Return a sample's id from the shard's index alone.

        Raises:
            IndexError, DecodeError, UserError: as above.
        """
        place, row = self._place(number)
        return _clip_id(self.shards[place], with_retries(self.shards[place], lambda: self._opened(place).index[row]))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out open files, which cannot be pickled."""
        return {**self.__dict__, "_open": OrderedDict()}

    def _place(self, number: int) -> tuple[int, int]:
        """Return the index of a sample's shard, and its index in that shard."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"The index is {number}; the shards have {len(self)} samples.")
        number %= len(self)
        place = self._order.shard(number)
        return place, number - self._order.firsts[place]

    def _clip(self, place: int, row: int) -> ShardClip:
        shard = self.shards[place]
        try:
            opened = self._opened(place)
            sample = opened.index[row]
            text, media = _read(shard, opened.file, sample)
        except OSError:
            self._open.pop(place, None)  # The next attempt opens it again.
            raise
        name = f"{sample.key}.{sample.media_suffix}"
        return ShardClip(
            clip_id=_clip_id(shard, sample),
            video=TarMember(shard, name, sample.media_offset, sample.media_bytes, media),
            captions=captions_of(f"{shard}, {shown(sample.key)}", text, sample.text_suffix),
        )

    def _opened(self, place: int) -> _OpenShard:
        known = self._open.get(place)
        if known is None or known.file.state != known.state:
            shard = self.shards[place]
            file = ShardFile(shard)
            state = file.state
            known = _OpenShard(file, open_index(shard, index_file(shard, self.index_root), state), state)
            self._open[place] = known
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(place)
        return known


def _clip_id(shard: Path, sample: Sample) -> str:
    return f"{shard.stem}/{sample.key}"


def _read(shard: Path, file: ShardFile, sample: Sample) -> tuple[bytes, bytes | None]:
    """Read a sample's caption and its image, if any, at once if they are close to each other."""
    start, size = sample.text_offset, sample.text_bytes
    if f".{sample.media_suffix}" not in IMAGE_SUFFIXES:
        return whole(shard, size, file.read(start, size)), None
    first = min(start, sample.media_offset)
    end = max(start + size, sample.media_offset + sample.media_bytes)
    if end - first > size + sample.media_bytes + _LARGEST_GAP_BYTES:
        content = whole(shard, sample.media_bytes, file.read(sample.media_offset, sample.media_bytes))
        return whole(shard, size, file.read(start, size)), content
    content = whole(shard, end - first, file.read(first, end - first))
    media = sample.media_offset - first
    return content[start - first : start - first + size], content[media : media + sample.media_bytes]


def find_shards(root: Path) -> list[Path]:
    """List the tar files of a directory, in the order of their names, without hidden ones.

    Raises:
        UserError: it is not a directory, or has none.
    """
    shards = sorted(path for path in root.glob("[!.]*.tar")) if root.is_dir() else []
    if not shards:
        raise UserError(f"There are no .tar files in {root}; name the directory that holds the shards.")
    return shards
