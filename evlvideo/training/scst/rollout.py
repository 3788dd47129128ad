"""Captions that the model gives itself: drawn without gradient, and scored.

Notation: `B` clips, `S` candidates of each, `R = B·S`, `L` tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from evlvideo.config.scst import ScstConfig
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.language import SoftPrompt
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.training.scst.policy_loss import sampled_tokens_mask
from evlvideo.training.scst.rewards import Reward, checked_rewards
from evlvideo.training.scst.sampling import sample_captions


@dataclass(frozen=True, slots=True)
class Rollout:
    """Candidates of clips, with their rewards. Tokens are on the model's device, all else is known to the program."""

    tokens: Tensor
    """New tokens, `(R, L)`."""
    mask: Tensor
    """Which of them are a caption's, the ending included, `(R, L)`."""
    lengths: list[int]
    """How many of them are a caption's, `R`."""
    captions: list[str]
    """`R` texts."""
    ended: list[bool]
    """Whether each came to its ending, `R`."""
    rewards: Tensor
    """`(B, S)` on the CPU, NaN for what could not be scored."""
    greedy_rewards: Tensor
    """Of the likeliest token at each place, `(B)` on the CPU; what improves, whatever the baseline is."""

    def by_batch(self, sizes: Sequence[int]) -> list["Rollout"]:
        """Those of one batch after the other, without the columns that are empty there.

        Args:
            sizes: clips of each batch, `B` together.
        """
        return [self._of_clips(first, last) for first, last in pairwise(accumulate(sizes, initial=0))]

    def _of_clips(self, first: int, last: int) -> "Rollout":
        samples = self.rewards.shape[1]
        rows = slice(first * samples, last * samples)
        length = max(self.lengths[rows])
        return Rollout(
            tokens=self.tokens[rows, :length],
            mask=self.mask[rows, :length],
            lengths=self.lengths[rows],
            captions=self.captions[rows],
            ended=self.ended[rows],
            rewards=self.rewards[first:last],
            greedy_rewards=self.greedy_rewards[first:last],
        )


def roll_out(
    captioner: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    reward: Reward,
    scst: ScstConfig,
    prompt: SoftPrompt,
    clip_ids: list[str],
    seeds: Sequence[int],
) -> Rollout:
    """Caption clips, and score the captions in one call of the reward.

    Args:
        captioner: the model.
        processor: of the model.
        reward: scores captions.
        scst: which candidates.
        prompt: of `B` clips.
        clip_ids: `B` names.
        seeds: of what is drawn for each clip, `B`.
    """
    together = _candidates(captioner, processor, scst, prompt, seeds)  # (B, S + 1, L)
    # Here the program waits for the device, once a step.
    host, end = together.cpu(), captioner.config.end_token_id
    host = torch.cat([host[:, :-1].flatten(0, 1), host[:, -1]])  # (R + B, L), samples first
    captions, ended = processor.captions(host), (host == end).any(dim=1).tolist()
    clips = [clip_id for clip_id in clip_ids for _ in range(scst.num_samples)]
    rewards = _as_tensor(reward(captions, [*clips, *clip_ids], ended), len(captions))
    tokens = together[:, :-1].flatten(0, 1)
    return Rollout(
        tokens=tokens,
        mask=sampled_tokens_mask(tokens, end),
        lengths=sampled_tokens_mask(host, end).sum(dim=1).tolist()[: len(clips)],
        captions=captions[: len(clips)],
        ended=ended[: len(clips)],
        rewards=rewards[: len(clips)].unflatten(0, (len(clip_ids), -1)),
        greedy_rewards=rewards[len(clips) :],
    )


def _candidates(
    captioner: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    scst: ScstConfig,
    prompt: SoftPrompt,
    seeds: Sequence[int],
) -> Tensor:
    """New tokens of the candidates of each clip, and behind them of its greedy caption, `(B, S + 1, L)`."""
    clips, prompt_ids, most = len(prompt.embeddings), processor.prompt_ids(), scst.max_new_tokens
    if scst.candidates == "sampling":
        return sample_captions(captioner, scst, prompt, seeds, prompt_ids).unflatten(0, (clips, -1))
    beams = captioner.generate(
        prompt=prompt,
        prompt_ids=prompt_ids,
        max_new_tokens=most,
        num_beams=scst.num_samples,
        num_return_sequences=scst.num_samples,
    )
    greedy = captioner.generate(prompt=prompt, prompt_ids=prompt_ids, max_new_tokens=most)
    length, filler = max(beams.shape[1], greedy.shape[1]), captioner.config.pad_token_id
    both = [F.pad(tokens, (0, length - tokens.shape[1]), value=filler) for tokens in (beams, greedy)]
    return torch.cat([tokens.unflatten(0, (clips, -1)) for tokens in both], dim=1)


def _as_tensor(rewards: object, captions: int) -> Tensor:
    values = checked_rewards(rewards, captions, "of this run")
    return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float32)
