"""The two stages of the work, as plain callables that any engine runs: decode rows, caption what was decoded.

Errors are by row: an item of a row that cannot be decoded says why under `bad`, and a row that the model cannot caption
comes out with its error. What is wrong with the machine is raised.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from evlvideo.config.data import DataConfig
from evlvideo.config.run import RunConfig
from evlvideo.corpus.films.length import check_length
from evlvideo.corpus.output import Made
from evlvideo.corpus.rows import Row
from evlvideo.corpus.sources import media_of
from evlvideo.data.loading.transforms import eval_transform
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import TarMember
from evlvideo.data.video.guarded import decode_frames_guarded
from evlvideo.data.video.sampling import SAMPLERS
from evlvideo.errors import UserError
from evlvideo.inference.caption_collection import NOT_SHOWN, NOTHING_SAID
from evlvideo.inference.captioning import caption_prompts, encode_and, named_inputs, seed_batch
from evlvideo.inference.captions import Caption
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor

logger = logging.getLogger(__name__)

Item = dict[str, Any]
"""A row that was decoded: `clip_id`, its id; `pixel_values`, uint8 of shape (T, 3, H, W); `frames`, how many of the T
are different ones. One that cannot be decoded: `clip_id` and `bad`."""


class DecodeRows:
    """Decode rows, each in this process's helper, which costs a row and not the process if it crashes.

    Args:
        data: how many frames, and how they are chosen and scaled.
        image_size: side of the model's images in pixels.
    """

    def __init__(self, data: DataConfig, image_size: int) -> None:
        self._data, self._size = data, image_size
        self._transform = eval_transform(image_size, keep_aspect=data.keep_aspect)

    def __call__(self, rows: Sequence[Row]) -> list[Item]:
        """Decode rows in their order."""
        return [self.item(row) for row in rows]

    def item(self, row: Row) -> Item:
        """Decode a row.

        Raises:
            UserError: the helper does not start.
        """
        try:
            return {"clip_id": row.id, **self._decoded(row)}
        except DecodeError as error:
            return {"clip_id": row.id, "bad": str(error)}

    def _decoded(self, row: Row) -> Item:
        if "\\udc" in row.path:
            raise DecodeError(f"{row.path}: {NOT_SHOWN}.")
        media = media_of(row.path)
        try:
            decoded = decode_frames_guarded(
                media,
                self._choose,
                self._size,
                keep_aspect=self._data.keep_aspect,
                start_seconds=row.start,
                end_seconds=row.end,
            )
        except UserError as error:
            # A shard that is missing or was cut is no reason to end the work; a helper that does not start is.
            if isinstance(media, TarMember) and str(media.shard) in str(error):
                raise DecodeError(str(error)) from error
            raise
        if row.start is None or row.end is None:
            until = decoded.metadata.duration_seconds if row.end is None else row.end
            if too_long := check_length(row.path, until - (row.start or 0.0)):
                raise DecodeError(too_long)
        return {"pixel_values": self._transform(decoded.frames), "frames": len(set(decoded.indices))}

    def _choose(self, frames: int, seconds: np.ndarray) -> list[int]:
        # Without a generator: no row depends on its place among others.
        return SAMPLERS[self._data.eval_sampling](frames, seconds, self._data.num_frames, None)


def collate_items(items: Sequence[Item]) -> dict[str, Any]:
    """Make a batch of items that could be decoded: `pixel_values` (B, T, 3, H, W), B `clip_ids`, and B `frames`."""
    return {**named_inputs(items), "frames": [item["frames"] for item in items]}


class CaptionBatches:
    """Caption batches. If the device has no memory for one, it is halved, down to a row, which is then an error.

    Args:
        model: the captioner; in eval mode from now on.
        processor: its processor, with the prompt.
        config: decoding, and the seed of what is sampled, by batch.
        captions_per_row: captions of each row, the likeliest first.
    """

    def __init__(
        self, model: EvlVideoForCaptioning, processor: EvlVideoProcessor, config: RunConfig, captions_per_row: int = 1
    ) -> None:
        self._model = model.eval()
        self._caption = caption_prompts(
            model,
            processor,
            config.generation,
            captions_per_clip=captions_per_row,
            observe=partial(seed_batch, config.seed),
            scored=True,
        )

    def __call__(self, batch: Mapping[str, Any]) -> list[Made]:
        """Caption a batch of :func:`collate_items`."""
        try:
            captioned = encode_and(self._model, self._caption, batch)
        except torch.OutOfMemoryError as error:
            # Told, and left, before the next attempt: its traceback holds what was computed.
            reason = str(error).splitlines()[0]
        else:
            return [_made(captions, frames) for captions, frames in zip(captioned, batch["frames"], strict=True)]
        torch.cuda.empty_cache()
        rows = len(batch["frames"])
        if rows == 1:
            return [Made(frames=batch["frames"][0], error=f"The model has no memory for it: {reason}")]
        logger.warning("There is no memory for %d rows at once (%s); trying half of them", rows, reason)
        halves = slice(0, rows // 2), slice(rows // 2, rows)
        return [made for half in halves for made in self({name: values[half] for name, values in batch.items()})]


def _made(captions: Sequence[Caption], frames: int) -> Made:
    said = [caption for caption in captions if caption.text]
    if not said:
        return Made(frames=frames, error=NOTHING_SAID)
    scores = tuple(caption.score for caption in said if caption.score is not None)
    return Made(tuple(caption.text for caption in said), scores, frames)
