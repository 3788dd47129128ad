"""Batches of images and captions, in an order that depends on the seed alone."""

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from accelerate import PartialState

from evlvideo.config.vlp import VlpTrainingConfig
from evlvideo.data.loading.collate import stack_visual_inputs
from evlvideo.data.loading.loader import RestartingBatches, batch_loader
from evlvideo.data.loading.mixture import Mixture
from evlvideo.inference.embedding import refuse_bad
from evlvideo.models.vlp.hosts.words import tokenized

logger = logging.getLogger(__name__)


class PairCollator:
    """Collates items of a caption dataset, or shards, into pairs.

    A batch has `pixel_values` (uint8, `(B, T, 3, H, W)`), `input_ids` and `attention_mask` (`(B, S)`), and `clip_ids`.

    Args:
        tokenizer: of transformers.
        most_tokens: upper bound of `S`.
    """

    def __init__(self, tokenizer: Any, most_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._most_tokens = most_tokens

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make one batch. An item without a caption to train on is with its first."""
        refuse_bad(items)
        captions = [item["caption"] if "caption" in item else item["captions"][0] for item in items]
        return {
            **stack_visual_inputs(items),
            **tokenized(self._tokenizer, captions, self._most_tokens),
            "clip_ids": [item["clip_id"] for item in items],
        }


def steps_of(
    dataset: Mixture,
    collator: Callable[[list[Any]], Any],
    training: VlpTrainingConfig,
    first: int,
    *,
    num_workers: int,
) -> Generator[list[dict[str, Any]]]:
    """Load this process's batches of every step from `first` on: those of an optimizer step at a time.

    Args:
        dataset: items in training order; an epoch has whole steps.
        collator: makes batches.
        training: sizes of batches, and the last step.
        first: step to begin with, from 0.
        num_workers: processes that decode.
    """
    state, size = PartialState(), training.batch_size
    accumulated = training.gradient_accumulation_steps
    items = size * accumulated * state.num_processes
    steps = len(dataset) // items
    step = first
    while step < training.max_steps:
        epoch, place = divmod(step, steps)
        last = min(steps, place + training.max_steps - step)
        dataset.set_epoch(epoch)
        places = [
            items * number + size * (micro * state.num_processes + state.process_index)
            for number in range(place, last)
            for micro in range(accumulated)
        ]
        batches = [range(start, start + size) for start in places]

        def after(taken: int, batches: list[range] = batches) -> Iterable[dict[str, Any]]:
            return batch_loader(dataset, batches[taken:], collator, num_workers=num_workers)

        restarting = RestartingBatches(after(0), after, logger.warning)
        try:
            for _ in range(place, last):
                yield [next(restarting) for _ in range(accumulated)]
        finally:
            restarting.close()
        step += last - place
