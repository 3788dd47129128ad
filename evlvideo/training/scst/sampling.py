"""Samples captions, with a random stream for each clip.

Uses the Gumbel-max trick: the likeliest token after adding noise is a sample; without noise it is the greedy choice.
torch's multinomial samples the same way, but all rows from one stream, and waits for the device twice.
Notation: `B` clips, `S` samples of each, `V` vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from evlvideo.config.scst import ScstConfig
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.language import SoftPrompt


def sample_captions(
    captioner: EvlVideoForCaptioning,
    scst: ScstConfig,
    prompt: SoftPrompt,
    seeds: Sequence[int],
    prompt_ids: Tensor | None = None,
) -> Tensor:
    """Sample captions, and decode the greedy one in the same pass.

    Args:
        captioner: the model.
        scst: number of samples per clip, temperature, nucleus and length.
        prompt: soft prompt of `B` clips.
        seeds: one per clip.
        prompt_ids: tokens that every caption continues, `(L)`.

    Returns:
        new tokens, `(B·(S + 1), ≤ max_new_tokens)`: for each clip its samples, then its greedy caption.
    """
    captions = scst.num_samples + 1
    processors = LogitsProcessorList()
    if scst.temperature != 1:
        processors.append(TemperatureLogitsWarper(scst.temperature))
    if scst.top_p < 1:
        processors.append(TopPLogitsWarper(scst.top_p))
    processors.append(_Noise(seeds, captions, prompt.embeddings.device))
    return captioner.generate(
        prompt=prompt.repeated(captions),
        prompt_ids=prompt_ids,
        max_new_tokens=scst.max_new_tokens,
        logits_processor=processors,
    )


class _Noise(LogitsProcessor):
    """Adds Gumbel noise to the logits of all captions of a clip but the last.

    Args:
        seeds: one per clip.
        captions: number of captions per clip.
        device: device of the logits.
    """

    def __init__(self, seeds: Sequence[int], captions: int, device: torch.device) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.captions = captions

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """`(B · captions, V)` → the same."""
        by_clip = scores.unflatten(0, (-1, self.captions))  # (B, S + 1, V)
        for of_clip, generator in zip(by_clip, self.generators, strict=True):
            noisy = of_clip[:-1]
            # Minus the logarithm of an exponential variable (never 0) is a Gumbel variable.
            noisy -= torch.empty_like(noisy).exponential_(generator=generator).log_()
        return scores
