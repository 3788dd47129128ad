"""Captions of every clip of a data set, by one process or several."""

from collections.abc import Sized
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset, Subset

from evlvideo.config import GenerationConfig
from evlvideo.data.collate import CaptionCollator, visual_inputs
from evlvideo.data.worker_signals import leave_signals_to_parent
from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor


@torch.no_grad()
def generate_captions(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    dataset: Dataset[dict[str, Any]],
    generation: GenerationConfig,
    *,
    num_workers: int = 0,
) -> dict[str, str]:
    """Caption clips.

    Args:
        model: the captioner; put in eval mode, and back.
        processor: of the model.
        dataset: items of one clip each, as :class:`evlvideo.data.datasets.CaptionDataset` has them.
        generation: how to decode.
        num_workers: processes that decode video.

    Returns:
        clip id → caption, of all clips that could be decoded, in every process.

    Raises:
        UserError: not one clip could be decoded.
    """
    state = PartialState()
    mine = range(state.process_index, len(cast(Sized, dataset)), state.num_processes)
    loader = DataLoader(
        Subset(dataset, mine),
        batch_size=generation.batch_size,
        collate_fn=CaptionCollator(processor),
        num_workers=num_workers,
        # A loader draws a seed for its workers; with a generator of its own, it takes none of training's randomness.
        generator=torch.Generator(),
    )
    leave_signals_to_parent(loader)
    device = next(model.language_projection.parameters()).device
    was_training = model.training
    model.eval()
    captions: list[tuple[str, str]] = []
    for batch in filter(None, loader):
        shown: dict[str, Any] = {name: value.to(device) for name, value in visual_inputs(batch).items()}
        tokens = model.generate(
            **shown,
            prompt_ids=processor.prompt_ids(),
            **decoding_arguments(generation),
        )
        captions += zip(batch["clip_ids"], processor.captions(tokens), strict=True)
    model.train(was_training)
    found: dict[str, str] = dict(gather_object(captions))
    if not found:
        raise UserError("Not one of the clips could be decoded, so there is nothing to score; see the log above.")
    return found


def decoding_arguments(generation: GenerationConfig) -> dict[str, Any]:
    """A run's decoding as arguments of :meth:`EvlVideoForCaptioning.generate`."""
    lengths = {"max_new_tokens": generation.max_new_tokens, "min_new_tokens": generation.min_new_tokens}
    if generation.do_sample:
        return {**lengths, "do_sample": True, "top_p": generation.top_p, "temperature": generation.temperature}
    if generation.num_beams > 1:
        return {**lengths, "num_beams": generation.num_beams, "length_penalty": generation.length_penalty}
    return lengths
