"""Encodes the images (or clips) and texts of a split for retrieval, and scores the nearest pairs again by matching."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.loading.caption_dataset import CaptionDataset
from evlvideo.data.loading.loader import batch_loader
from evlvideo.errors import UserError, first_ten
from evlvideo.metrics.retrieval.similarities import best_candidates
from evlvideo.models.vlp.hosts.encoder import Encoder
from evlvideo.results.retrieval.features import Matching, RetrievalFeatures


def embed(
    encoder: Encoder, dataset: CaptionDataset, *, batch_size: int, num_workers: int = 0, rerank: int = 0
) -> RetrievalFeatures:
    """Encode a split. All processes must call this; each encodes its share, and all return the whole.

    Args:
        encoder: the model.
        dataset: one clip per item, which gives bad ones instead of failing.
        batch_size: clips, or texts, at once.
        num_workers: processes that decode.
        rerank: nearest candidates of each image and each text that are scored by matching; 0 scores none.

    Raises:
        UserError: clips cannot be decoded, or have no captions.
    """
    clips = dataset.clips
    texts, owner, text_ids = texts_of(clips)
    # Each process matches its share of the queries with any of the images.
    numbers = list(range(len(clips))) if rerank else _share(len(clips))
    rows, tokens = _images(encoder, dataset, numbers, batch_size, num_workers, keep=bool(rerank))
    images = np.stack(rows) if rerank else _gathered(numbers, rows, len(clips))
    captions = _gathered(_share(len(texts)), _texts(encoder, texts, batch_size), len(texts))
    matching: list[Matching | None] = [None, None]
    if rerank:
        of_images = best_candidates(images, captions, rerank)
        of_texts = best_candidates(captions, images, rerank)
        matching = [
            _matching(
                of_images, lambda image: encoder.match(tokens[image][None], [texts[i] for i in of_images[image]])
            ),
            _matching(
                of_texts,
                lambda text: encoder.match(
                    torch.stack([tokens[i] for i in of_texts[text]]), [texts[text]] * len(of_texts[text])
                ),
            ),
        ]
    return RetrievalFeatures(
        images, captions, [clip.clip_id for clip in clips], text_ids, np.array(owner, dtype=np.int64), *matching
    )


def texts_of(clips: Sequence[CaptionedClip]) -> tuple[list[str], list[int], list[str]]:
    """List the captions of clips, each with the index of its clip and a name.

    Raises:
        UserError: a clip has no captions.
    """
    if empty := [clip.clip_id for clip in clips if not clip.captions]:
        raise UserError(f"{len(empty)} clips have no captions to find them by: {first_ten(empty)}.")
    found = [
        (caption, number, f"{clip.clip_id}#{place}")
        for number, clip in enumerate(clips)
        for place, caption in enumerate(clip.captions)
    ]
    texts, owner, names = zip(*found, strict=True)
    return list(texts), list(owner), list(names)


def _share(count: int) -> list[int]:
    """Return the numbers of this process's share."""
    state = PartialState()
    return list(range(state.process_index, count, state.num_processes))


def _gathered(numbers: Sequence[int], rows: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Gather the rows of all processes, in the order of their numbers."""
    found = dict(gather_object(list(zip(numbers, rows, strict=True))))
    return np.stack([found[number] for number in range(count)])


def _images(
    encoder: Encoder, dataset: CaptionDataset, numbers: Sequence[int], size: int, workers: int, *, keep: bool
) -> tuple[list[np.ndarray], list[Tensor]]:
    """Encode some clips; return their features, and what texts read of them, on the CPU, if that is kept."""
    batches = [numbers[first : first + size] for first in range(0, len(numbers), size)]
    rows: list[np.ndarray] = []
    kept: list[Tensor] = []
    for pixels in batch_loader(dataset, batches, _stack, num_workers=workers) if batches else ():
        features, tokens = encoder.images(pixels)
        rows.extend(features.cpu().numpy())
        if keep:
            kept.extend(tokens.cpu())
    return rows, kept


def refuse_bad(items: Sequence[dict[str, Any]]) -> None:
    """Check that items could be decoded.

    Raises:
        UserError: some could not.
    """
    if bad := [str(item["clip_id"]) for item in items if "bad" in item]:
        raise UserError(f"Clips cannot be decoded, so that their captions could not find them: {first_ten(bad)}.")


def _stack(items: Sequence[dict[str, Any]]) -> Tensor:
    refuse_bad(items)
    return torch.stack([item["pixel_values"] for item in items])


def _texts(encoder: Encoder, texts: Sequence[str], size: int) -> list[np.ndarray]:
    numbers = _share(len(texts))
    rows: list[np.ndarray] = []
    for first in range(0, len(numbers), size):
        batch = [texts[number] for number in numbers[first : first + size]]
        rows.extend(encoder.text_features(batch).cpu().numpy())
    return rows


def _matching(candidates: np.ndarray, scores_of: Callable[[int], Tensor]) -> Matching:
    """Score the candidates of all queries, a query at a time."""
    numbers = _share(len(candidates))
    rows = [scores_of(number).cpu().numpy() for number in numbers]
    return Matching(candidates, _gathered(numbers, rows, len(candidates)))
