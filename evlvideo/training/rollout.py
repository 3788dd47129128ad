"""Captions that the model gives itself: drawn without gradient, and scored.

Notation: `B` clips, `S` candidates of each, `R = B·S`, `L` tokens.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from evlvideo.config import ScstConfig
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.prompt import SoftPrompt
from evlvideo.training.policy_loss import sampled_tokens_mask
from evlvideo.training.rewards import Reward, checked_rewards


@dataclass(frozen=True, slots=True)
class Rollout:
    """Candidates of a batch of clips, with their rewards."""

    tokens: Tensor
    """New tokens, `(R, L)`."""
    mask: Tensor
    """Which of them are a caption's, the ending included, `(R, L)`."""
    captions: list[str]
    """`R` texts."""
    ended: list[bool]
    """Whether each came to its ending, `R`."""
    rewards: Tensor
    """`(B, S)`, NaN for what could not be scored."""
    greedy_rewards: Tensor
    """Of the likeliest token at each place, `(B)`; what improves, whatever the baseline is."""
    prompt: SoftPrompt | None
    """What the captions were drawn from, with gradient where a step has one batch; else it is encoded again."""


def roll_out(
    captioner: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    reward: Reward,
    scst: ScstConfig,
    prompt: SoftPrompt,
    clip_ids: list[str],
    *,
    keep_prompt: bool,
) -> Rollout:
    """Caption clips, and score the captions in one call of the reward.

    Args:
        captioner: the model.
        processor: of the model.
        reward: scores captions.
        scst: which candidates.
        prompt: of `B` clips.
        clip_ids: `B` names.
        keep_prompt: put the prompt into what is returned.
    """
    read = prompt.detached()
    lengths: dict[str, Any] = {"prompt_ids": processor.prompt_ids(), "max_new_tokens": scst.max_new_tokens}
    if scst.candidates == "beams":
        tokens = captioner.generate(
            prompt=read, num_beams=scst.num_samples, num_return_sequences=scst.num_samples, **lengths
        )
        greedy = captioner.generate(prompt=read, **lengths)
    else:
        together = captioner.generate(
            prompt=read,
            do_sample=True,
            temperature=scst.temperature,
            top_p=scst.top_p,
            num_return_sequences=scst.num_samples + 1,
            logits_processor=LogitsProcessorList([_LastOfEachGreedy(scst.num_samples + 1)]),
            **lengths,
        ).unflatten(0, (len(clip_ids), -1))  # (B, S + 1, L)
        tokens, greedy = together[:, :-1].flatten(0, 1), together[:, -1]

    end = captioner.config.end_token_id
    captions = processor.captions(tokens)
    ended = [(row == end).any().item() for group in (tokens, greedy) for row in group]
    clips = [clip_id for clip_id in clip_ids for _ in range(scst.num_samples)]
    rewards = _as_tensor(
        reward([*captions, *processor.captions(greedy)], [*clips, *clip_ids], ended), len(ended), tokens
    )
    return Rollout(
        tokens=tokens,
        mask=sampled_tokens_mask(tokens, end),
        captions=captions,
        ended=ended[: len(tokens)],
        rewards=rewards[: len(tokens)].unflatten(0, (len(clip_ids), -1)),
        greedy_rewards=rewards[len(tokens) :],
        prompt=prompt if keep_prompt else None,
    )


class _LastOfEachGreedy(LogitsProcessor):
    """Leaves the last of each clip's captions its likeliest token only, so that it is drawn in one go with the others.

    Args:
        captions: of a clip, this one among them.
    """

    def __init__(self, captions: int) -> None:
        self.captions = captions

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """`(B · captions, V)` → the same."""
        greedy = scores[self.captions - 1 :: self.captions]
        likeliest = greedy.argmax(dim=-1, keepdim=True)
        greedy.fill_(-math.inf).scatter_(1, likeliest, 0.0)  # in place: they are the step's own
        return scores


def _as_tensor(rewards: Any, captions: int, like: Tensor) -> Tensor:
    values = checked_rewards(rewards, captions, "of this run")
    numbers = [math.nan if value is None else value for value in values]
    return torch.tensor(numbers, dtype=torch.float32, device=like.device)
