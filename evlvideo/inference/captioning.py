"""Caption every clip of a dataset, in one process or several."""

from collections.abc import Iterator, Sequence, Sized
from itertools import zip_longest
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from rich.console import Console
from torch import Tensor
from torch.utils.data import Dataset

from evlvideo.config.generation import GenerationConfig
from evlvideo.data.loading.collate import stack_visual_inputs
from evlvideo.errors import UserError
from evlvideo.inference.pipeline import Outcome, batches_of, run_batches
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.progress import Progress


def generate_captions(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    dataset: Dataset[dict[str, Any]],
    generation: GenerationConfig,
    *,
    num_workers: int = 0,
    console: Console | None = None,
) -> dict[str, str]:
    """Caption clips. Processes share them; call this in every process.

    Args:
        model: the captioner; in eval mode meanwhile.
        processor: its processor.
        dataset: items of one clip each.
        generation: how to decode.
        num_workers: upper bound of processes that decode video.
        console: where to draw a progress bar. If None, only lines are logged.

    Returns:
        clip id → caption of all clips that could be decoded, in the order of the dataset, in every process.

    Raises:
        UserError: no clip could be decoded.
    """
    with Progress("captioning", sum(map(len, _share(dataset, generation))), console=console) as progress:
        captioned = _caption_batches(model, processor, dataset, generation, num_workers=num_workers)
        mine = list(progress.track(captioned, count=len))
    batches = _in_turn(gather_object([mine]))
    captions = {item.clip_id: item.result[0] for batch in batches for item in batch if item.result is not None}
    if not captions:
        raise UserError("No clip could be decoded, so there is nothing to score; see the log above.")
    return captions


def stream_captions(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    dataset: Dataset[dict[str, Any]],
    generation: GenerationConfig,
    *,
    num_workers: int = 0,
    captions_per_clip: int = 1,
) -> Iterator[Outcome[list[str]]]:
    """Caption clips as :func:`generate_captions` does, and yield each as soon as its batch is done.

    Args:
        model: as there.
        processor: as there.
        dataset: as there.
        generation: as there.
        num_workers: as there.
        captions_per_clip: captions of each clip, the likeliest first; beam search needs at least as many beams.

    Yields:
        the captions of each clip, in the order of the dataset, in every process. Only a few batches are in memory.
    """
    state = PartialState()
    mine = _caption_batches(
        model, processor, dataset, generation, num_workers=num_workers, captions_per_clip=captions_per_clip
    )
    for _ in range(0, len(_batches(dataset, generation)), state.num_processes):
        yield from gather_object(next(mine, []))


def _caption_batches(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    dataset: Dataset[dict[str, Any]],
    generation: GenerationConfig,
    *,
    num_workers: int,
    captions_per_clip: int = 1,
) -> Iterator[list[Outcome[list[str]]]]:
    """Caption this process's share of the batches.

    Batches do not depend on the number of processes, so neither do greedy and beam search. Sampled captions depend on
    the batch size, the number of processes and earlier batches.
    """
    arguments = {**decoding_arguments(generation), "num_return_sequences": captions_per_clip}
    device = next(model.language_projection.parameters()).device

    @torch.no_grad()
    def caption(batch: dict[str, Tensor]) -> list[list[str]]:
        inputs: dict[str, Any] = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        texts = processor.captions(model.generate(**inputs, prompt_ids=processor.prompt_ids(), **arguments))
        return [texts[first : first + captions_per_clip] for first in range(0, len(texts), captions_per_clip)]

    mine = _share(dataset, generation)
    was_training = model.training
    model.eval()
    try:
        yield from run_batches(dataset, mine, caption, collate=stack_visual_inputs, num_workers=num_workers)
    finally:
        model.train(was_training)


def _batches(dataset: Dataset[dict[str, Any]], generation: GenerationConfig) -> list[range]:
    return batches_of(len(cast(Sized, dataset)), generation.batch_size)


def _share(dataset: Dataset[dict[str, Any]], generation: GenerationConfig) -> list[range]:
    """Return this process's batches."""
    state = PartialState()
    return _batches(dataset, generation)[state.process_index :: state.num_processes]


def _in_turn(shares: Sequence[Sequence[list[Outcome[list[str]]]]]) -> Iterator[list[Outcome[list[str]]]]:
    """Put the batches of all processes in the order of the dataset."""
    for of_round in zip_longest(*shares, fillvalue=[]):
        yield from of_round


def decoding_arguments(generation: GenerationConfig) -> dict[str, Any]:
    """Convert a run's decoding to arguments of :meth:`EvlVideoForCaptioning.generate`."""
    lengths = {"max_new_tokens": generation.max_new_tokens, "min_new_tokens": generation.min_new_tokens}
    if generation.do_sample:
        return {**lengths, "do_sample": True, "top_p": generation.top_p, "temperature": generation.temperature}
    if generation.num_beams > 1:
        return {**lengths, "num_beams": generation.num_beams, "length_penalty": generation.length_penalty}
    return lengths
