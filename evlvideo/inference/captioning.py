"""Captions of every clip of a data set, by one process or several."""

from collections.abc import Iterator, Sequence, Sized
from itertools import zip_longest
from typing import Any, NamedTuple, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset

from evlvideo.config.generation import GenerationConfig
from evlvideo.data.loading.collate import CaptionCollator, visual_inputs
from evlvideo.data.loading.loader import leave_signals_to_parent
from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor


class CaptionedItem(NamedTuple):
    """What came of a clip."""

    clip_id: str
    captions: list[str]
    """The likeliest first; none where the clip could not be decoded."""
    bad: str | None
    """Why it could not."""


def generate_captions(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    dataset: Dataset[dict[str, Any]],
    generation: GenerationConfig,
    *,
    num_workers: int = 0,
) -> dict[str, str]:
    """Caption clips; several processes share them, and all of them have to call this.

    Args:
        model: the captioner; put in eval mode, and back.
        processor: of the model.
        dataset: items of one clip each, as :class:`evlvideo.data.loading.caption_dataset.CaptionDataset` has them.
        generation: how to decode.
        num_workers: processes that decode video.

    Returns:
        clip id → caption, of all clips that could be decoded, in the order of the data set, in every process.

    Raises:
        UserError: not one clip could be decoded.
    """
    mine = list(_caption_batches(model, processor, dataset, generation, num_workers=num_workers))
    batches = _in_turn(gather_object([mine]))
    found = {item.clip_id: item.captions[0] for batch in batches for item in batch if item.bad is None}
    if not found:
        raise UserError("Not one of the clips could be decoded, so there is nothing to score; see the log above.")
    return found


def stream_captions(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    dataset: Dataset[dict[str, Any]],
    generation: GenerationConfig,
    *,
    num_workers: int = 0,
    captions_per_clip: int = 1,
) -> Iterator[CaptionedItem]:
    """Caption clips as :func:`generate_captions` does, and give each as soon as its batch is done.

    Args:
        model: as there.
        processor: as there.
        dataset: as there.
        generation: as there.
        num_workers: as there.
        captions_per_clip: captions of each clip; a search needs as many beams.

    Yields:
        what came of each clip, in the order of the data set, in every process. No more than some batches are in memory.
    """
    state = PartialState()
    mine = _caption_batches(
        model, processor, dataset, generation, num_workers=num_workers, captions_per_clip=captions_per_clip
    )
    for _ in range(-(-_batches(dataset, generation) // state.num_processes)):
        yield from gather_object(next(mine, []))


@torch.no_grad()
def _caption_batches(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    dataset: Dataset[dict[str, Any]],
    generation: GenerationConfig,
    *,
    num_workers: int = 0,
    captions_per_clip: int = 1,
) -> Iterator[list[CaptionedItem]]:
    """Caption this process's share of a data set: of its batches, one in as many as there are processes.

    What a batch holds does not depend on the number of processes, and so no caption does that a search finds. Those
    that are drawn at random depend on the order in which they are drawn, and with it on the batch size, on the number
    of processes and on what was captioned before.
    """
    state = PartialState()
    mine = range(state.process_index, _batches(dataset, generation), state.num_processes)
    loader = DataLoader(
        dataset,
        batch_sampler=_Batches(mine, generation.batch_size, len(cast(Sized, dataset))),
        collate_fn=_Collator(processor),
        # A worker makes whole batches; one alone leaves nothing to do beside it.
        num_workers=min(num_workers, len(mine)) if len(mine) > 1 else 0,
        pin_memory=torch.cuda.is_available(),
        # A loader draws a seed for its workers; with a generator of its own, it takes none of training's randomness.
        generator=torch.Generator(),
    )
    leave_signals_to_parent(loader)
    device = next(model.language_projection.parameters()).device
    arguments = {**decoding_arguments(generation), "num_return_sequences": captions_per_clip}
    was_training = model.training
    model.eval()
    try:
        for reasons, batch in loader:
            texts: list[str] = []
            if batch:
                shown: dict[str, Any] = {
                    name: value.to(device, non_blocking=True) for name, value in visual_inputs(batch).items()
                }
                texts = processor.captions(model.generate(**shown, prompt_ids=processor.prompt_ids(), **arguments))
            of_clips = iter(
                [texts[first : first + captions_per_clip] for first in range(0, len(texts), captions_per_clip)]
            )
            yield [CaptionedItem(name, [] if bad else next(of_clips), bad) for name, bad in reasons]
    finally:
        model.train(was_training)


class _Batches(Sequence[list[int]]):
    """Places of the clips of some batches, made as they are asked for."""

    def __init__(self, numbers: range, batch_size: int, clips: int) -> None:
        self.numbers, self.batch_size, self.clips = numbers, batch_size, clips

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: Any) -> Any:
        first = self.numbers[place] * self.batch_size
        return list(range(first, min(first + self.batch_size, self.clips)))


class _Collator:
    """A batch, and beside it the names of all its clips, each with why it is bad, or `None`."""

    def __init__(self, processor: EvlVideoProcessor) -> None:
        self.collate = CaptionCollator(processor)

    def __call__(self, items: Sequence[dict[str, Any]]) -> tuple[list[tuple[str, str | None]], dict[str, Any]]:
        return [(item["clip_id"], item.get("bad")) for item in items], self.collate(items)


def _batches(dataset: Dataset[dict[str, Any]], generation: GenerationConfig) -> int:
    return -(-len(cast(Sized, dataset)) // generation.batch_size)


def _in_turn(shares: Sequence[Sequence[list[CaptionedItem]]]) -> Iterator[list[CaptionedItem]]:
    """Batches of all processes in the order of the data set."""
    for of_round in zip_longest(*shares, fillvalue=[]):
        yield from of_round


def decoding_arguments(generation: GenerationConfig) -> dict[str, Any]:
    """A run's decoding as arguments of :meth:`EvlVideoForCaptioning.generate`."""
    lengths = {"max_new_tokens": generation.max_new_tokens, "min_new_tokens": generation.min_new_tokens}
    if generation.do_sample:
        return {**lengths, "do_sample": True, "top_p": generation.top_p, "temperature": generation.temperature}
    if generation.num_beams > 1:
        return {**lengths, "num_beams": generation.num_beams, "length_penalty": generation.length_penalty}
    return lengths
