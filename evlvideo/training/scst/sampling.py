"""Captions drawn at random, each clip's from a random stream of its own.

By the Gumbel-max trick: the likeliest token after noise is a sample, and without noise it is the greedy choice.
torch's multinomial draws the same way, but all rows from one stream, and makes the program wait for the device twice.
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
    """Sample captions, and the greedy one in the same go.

    Args:
        captioner: the model.
        scst: how many samples of each clip, at what temperature, from what nucleus, and how long.
        prompt: of `B` clips.
        seeds: one of each clip.
        prompt_ids: tokens that every caption continues, `(L)`.

    Returns:
        new tokens, `(B·(S + 1), ≤ max_new_tokens)`, of each clip the samples and then the greedy caption.
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
        seeds: one of each clip.
        captions: of a clip.
        device: of the logits.
    """

    def __init__(self, seeds: Sequence[int], captions: int, device: torch.device) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.captions = captions

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """`(B · captions, V)` → the same."""
        by_clip = scores.unflatten(0, (-1, self.captions))  # (B, S + 1, V)
        for of_clip, generator in zip(by_clip, self.generators, strict=True):
            noisy = of_clip[:-1]
            # Minus the logarithm of an exponential variable, which is never 0, is a Gumbel variable.
            noisy -= torch.empty_like(noisy).exponential_(generator=generator).log_()
        return scores
