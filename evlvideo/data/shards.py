"""Captioned images and videos in tar shards, for data sets of too many files for a directory.

Shards are those that `img2dataset` and the `webdataset` library write. They are read here by index, without that
library, since a resumed run and a mixture by ratio need to know which sample a number stands for. Nothing is ever
unpacked, so the names inside a shard lead nowhere.

Each shard has an index file of some 50 bytes a sample (:mod:`evlvideo.data.shard_index`), loaded as its samples are
asked for. 115 million samples make 6 GB of index files; making them takes about a second for 10,000 samples, which many
processes can share by calling :func:`evlvideo.data.shard_index.open_index`. A pass in random order opens a file for
each sample: good on local disks, slow on object storage.
"""

import bisect
import io
import itertools
import logging
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
import torch
from torch.utils.data import Dataset

from evlvideo.data.clip import DecodeError
from evlvideo.data.readers.common import shown, some
from evlvideo.data.replacement import MOST_DRAWS, candidates
from evlvideo.data.shard_index import ShardIndex, captions_of, count_samples, open_index
from evlvideo.data.transforms import Transform
from evlvideo.errors import UserError

Decode = Callable[[Path, torch.Generator], np.ndarray]
"""From a file and a source of randomness to RGB frames, uint8 of shape (frames, height, width, 3)."""

logger = logging.getLogger(__name__)

_INDEXES_IN_MEMORY = 128


@dataclass(frozen=True, slots=True)
class TarMember:
    """An image or video inside a shard."""

    shard: Path
    offset: int
    """Its first byte, from the start of the shard."""
    size_bytes: int
    suffix: str
    """What kind of file it is, such as `.jpg`."""

    def read(self) -> bytes:
        """Read it.

        Raises:
            UserError: the shard is gone or cut short.
        """
        return _read(self.shard, self.offset, self.size_bytes)

    def open(self) -> BinaryIO:
        """Open it for reading; it is held in memory."""
        return io.BytesIO(self.read())

    @contextmanager
    def as_file(self) -> Iterator[Path]:
        """Give it a path of its own for a while, for decoders that open paths."""
        with tempfile.NamedTemporaryFile(prefix="evlvideo-", suffix=self.suffix) as file:
            file.write(self.read())
            file.flush()
            yield Path(file.name)


@dataclass(frozen=True, slots=True)
class ShardClip:
    """A sample of a shard: like :class:`evlvideo.data.captioned.CaptionedClip`, with its file inside the shard."""

    clip_id: str
    """The shard's name without its suffix, and the sample's key: `00017/000170034`."""
    video: TarMember
    captions: tuple[str, ...]


class ShardClips(Sequence[ShardClip]):
    """All samples of some shards, by number: the shards in their order, and each in its own.

    Args:
        shards: uncompressed tar files.
        index_root: directory of the index files, where that of the shards cannot be written to.

    Raises:
        UserError: there are no shards, two have the same name, or one cannot be read or has changed.
    """

    def __init__(self, shards: Sequence[Path], index_root: Path | None = None) -> None:
        names = [shard.stem for shard in shards]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if not shards:
            raise UserError("There are no shards; name at least one tar file.")
        if twice:
            raise UserError(f"Several shards are called {some(twice)}; their clips would have the same ids.")
        self.shards = list(shards)
        self.index_root = index_root
        counts = [count_samples(shard, self._index_file(shard)) for shard in self.shards]
        self._firsts = [0, *itertools.accumulate(counts)]
        self._indexes: OrderedDict[int, ShardIndex] = OrderedDict()

    def __len__(self) -> int:
        """Count the samples."""
        return self._firsts[-1]

    @overload
    def __getitem__(self, number: int) -> ShardClip: ...
    @overload
    def __getitem__(self, number: slice) -> list[ShardClip]: ...
    def __getitem__(self, number: int | slice) -> ShardClip | list[ShardClip]:
        """Give a sample; its caption is read now, and its media when they are asked for.

        Raises:
            IndexError: there is no such sample.
            UserError: the shard is gone or has changed.
        """
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"The index is {number}; the shards have {len(self)} samples.")
        number %= len(self)
        place = bisect.bisect_right(self._firsts, number) - 1
        shard = self.shards[place]
        sample = self._index(place)[number - self._firsts[place]]
        text = _read(shard, sample.text_offset, sample.text_bytes)
        return ShardClip(
            clip_id=f"{shard.stem}/{sample.key}",
            video=TarMember(shard, sample.media_offset, sample.media_bytes, f".{sample.media_suffix}"),
            captions=captions_of(f"{shard}, {shown(sample.key)}", text, sample.text_suffix),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave loaded indexes behind when a worker gets a copy."""
        return {**self.__dict__, "_indexes": OrderedDict()}

    def _index_file(self, shard: Path) -> Path:
        return (self.index_root or shard.parent) / f"{shard.name}.index.safetensors"

    def _index(self, place: int) -> ShardIndex:
        if place not in self._indexes:
            shard = self.shards[place]
            self._indexes[place] = open_index(shard, self._index_file(shard))
            if len(self._indexes) > _INDEXES_IN_MEMORY:
                self._indexes.popitem(last=False)
        self._indexes.move_to_end(place)
        return self._indexes[place]


class ShardDataset(Dataset[dict[str, Any]]):
    """Samples of shards as items to train on, like those of :class:`evlvideo.data.datasets.CaptionDataset`.

    There is one item for each sample; of several captions one is drawn. What is random in an item is a function of the
    seed, the walk and the item's index. A sample that cannot be decoded is named once in the log, and another takes
    its place.

    Args:
        clips: the samples.
        decode: takes frames from a file.
        transform: from decoded frames to a tensor, see :mod:`evlvideo.data.transforms`.
        seed: seed of the run.
    """

    def __init__(self, clips: Sequence[ShardClip], *, decode: Decode, transform: Transform, seed: int) -> None:
        self.clips = clips
        self.decode = decode
        self.transform = transform
        self.seed = seed
        # In shared memory, to be seen by all workers.
        self._bad = torch.zeros(len(clips), dtype=torch.bool).share_memory_()

    @property
    def bad_clips(self) -> list[str]:
        """Names of the samples that could not be decoded so far, by any worker."""
        return [self.clips[number].clip_id for number in self._bad.nonzero().flatten().tolist()]

    def __len__(self) -> int:
        """Count the items."""
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Decode and transform one item, as it is on the first walk; see :meth:`item`."""
        return self.item(index, walk=0)

    def item(self, index: int, walk: int) -> dict[str, Any]:
        """Decode and transform one item, as it is on a walk through the data set, from 0.

        It has a `clip_id`, `pixel_values` (frames, 3, height, width), `captions`, and of these a `caption`, at its
        `caption_place`.

        Raises:
            DecodeError: neither the sample nor any drawn in its place can be decoded; the message names it.
            UserError: a shard cannot be read.
        """
        for candidate in candidates(index, len(self), self.seed, walk):
            clip = self.clips[candidate]
            try:
                return self._item(clip, [self.seed, walk, index % len(self)])
            except DecodeError as error:
                if not self._bad[candidate]:
                    logger.warning("%s in %s: %s", clip.clip_id, clip.video.shard, error)
                self._bad[candidate] = True
        raise DecodeError(f"{self.clips[index].clip_id} cannot be decoded, nor any of {MOST_DRAWS} drawn in its place.")

    def _item(self, clip: ShardClip, entropy: list[int]) -> dict[str, Any]:
        decode_seed, transform_seed, caption = np.random.SeedSequence(entropy).generate_state(3, np.uint64).tolist()
        with clip.video.as_file() as path:
            frames = self.decode(path, torch.Generator().manual_seed(decode_seed))
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would reseed the GPU's dropout as well.
            torch.default_generator.manual_seed(transform_seed)
            pixel_values = self.transform(frames)
        return {
            "clip_id": clip.clip_id,
            "pixel_values": pixel_values,
            "captions": list(clip.captions),
            "caption": clip.captions[caption % len(clip.captions)],
            "caption_place": caption % len(clip.captions),
        }


def find_shards(root: Path) -> list[Path]:
    """List the tar files of a directory, in the order of their names.

    Raises:
        UserError: it is not a directory, or has none.
    """
    shards = sorted(root.glob("*.tar")) if root.is_dir() else []
    if not shards:
        raise UserError(f"There are no .tar files in {root}; name the directory that holds the shards.")
    return shards


def _read(shard: Path, offset: int, size_bytes: int) -> bytes:
    try:
        with shard.open("rb") as file:
            file.seek(offset)
            content = file.read(size_bytes)
    except OSError as error:
        raise UserError(f"The shard {shard} cannot be read: {error.strerror or error}.") from error
    if len(content) < size_bytes:
        raise UserError(f"The shard {shard} is cut short; get it again.")
    return content
