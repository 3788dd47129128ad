"""Self-critical sequence training (SCST): captions are sampled, scored, and made more or less likely.

Source: Rennie et al., CVPR 2017. Notation: `B` clips, `S` samples of each, `R = B·S`, `L` tokens, `P` soft tokens.
"""

import math
from collections import defaultdict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evlvideo.config import ScstConfig
from evlvideo.data.collate import visual_inputs
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.training.baselines import BASELINES, advantages
from evlvideo.training.policy_loss import masked_mean, policy_loss, sampled_tokens_mask, token_statistics
from evlvideo.training.rewards import Reward, checked_rewards
from evlvideo.training.trainer import CaptionTrainer

_NO_ADVANTAGE = 1e-6


class Candidates(NamedTuple):
    """Captions of a batch, as tokens and as rewards."""

    tokens: Tensor
    """New tokens, `(R, L)`."""
    mask: Tensor
    """Which of them were sampled, the ending included, `(R, L)`."""
    rewards: Tensor
    """`(R)`, NaN for what could not be scored."""


class SelfCriticalTrainer(CaptionTrainer):
    """Trains on the reward of sampled captions, against a baseline.

    A step encodes each clip once, samples captions without gradient, scores them, and recomputes their
    log-probabilities by a teacher-forced pass with gradient. Dropout is off, so that what is sampled from is what is
    trained.

    Args:
        reward: scores captions.
        scst: samples and baseline.
        kwargs: those of :class:`CaptionTrainer`, with a `train_dataset` of one clip an item.
    """

    def __init__(self, *, reward: Reward, scst: ScstConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reward = reward
        self.scst = scst
        self._statistics: dict[str, list[float]] = defaultdict(list)
        for module in self.captioner.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The policy loss of one batch."""
        captioner = self.captioner
        clip_ids: list[str] = inputs["clip_ids"]
        soft_prompt = captioner.encode(**visual_inputs(inputs))  # (B, P, E)
        samples = self._sample(captioner, soft_prompt.detach(), clip_ids)
        rewards = samples.rewards.unflatten(0, (len(clip_ids), -1))  # (B, S)
        greedy = self._greedy_rewards(captioner, soft_prompt.detach(), clip_ids)
        advantage = advantages(rewards, BASELINES[self.scst.baseline](rewards, greedy)).flatten()  # (R)

        length = samples.tokens.shape[1]
        opening = self._opening(len(samples.tokens), samples.tokens)
        logits = model(
            soft_prompt=soft_prompt,
            input_ids=torch.cat([opening, samples.tokens], dim=1),
            attention_mask=torch.cat([torch.ones_like(opening), samples.mask.long()], dim=1),
            logits_to_keep=length + 1,
        ).logits[:, :-1]  # (R, L, V)
        tokens = token_statistics(logits, samples.tokens, self.scst.temperature)
        loss = policy_loss(tokens.log_probability, samples.mask, advantage)
        self.check_finite(loss, clip_ids)
        self._note(
            reward=float(rewards.nanmean()),
            reward_std=float((rewards - rewards.nanmean(dim=1, keepdim=True)).square().nanmean(dim=1).sqrt().nanmean()),
            greedy_reward=float(greedy.nanmean()),
            unscored_samples=float(rewards.isnan().sum()),
            zero_advantage_share=float((advantage.abs() < _NO_ADVANTAGE).float().mean()),
            sample_tokens=float(samples.mask.sum(dim=1).float().mean()),
            entropy=masked_mean(tokens.entropy, samples.mask),
        )
        return (loss, {}) if return_outputs else loss

    def _opening(self, captions: int, like: Tensor) -> Tensor:
        """The opening token and the prompt of every caption, `(captions, ·)`."""
        ids = [self.processor.bos_token_id]
        prompt = self.processor.prompt_ids()
        if prompt is not None:
            ids += prompt.tolist()
        return torch.tensor(ids).to(like).expand(captions, -1)

    def _sample(self, captioner: EvlVideoForCaptioning, soft_prompt: Tensor, clip_ids: list[str]) -> Candidates:
        return self._candidates(
            captioner,
            soft_prompt,
            [clip_id for clip_id in clip_ids for _ in range(self.scst.num_samples)],
            do_sample=True,
            temperature=self.scst.temperature,
            num_return_sequences=self.scst.num_samples,
        )

    def _greedy_rewards(self, captioner: EvlVideoForCaptioning, soft_prompt: Tensor, clip_ids: list[str]) -> Tensor:
        """`(B)`; logged whatever the baseline is, since it is what improves."""
        return self._candidates(captioner, soft_prompt, clip_ids).rewards

    def _candidates(
        self, captioner: EvlVideoForCaptioning, soft_prompt: Tensor, clip_ids: list[str], **generation: Any
    ) -> Candidates:
        tokens = captioner.generate(
            soft_prompt=soft_prompt,
            prompt_ids=self.processor.prompt_ids(),
            max_new_tokens=self.scst.max_new_tokens,
            **generation,
        )  # (R, L)
        ended = (tokens == captioner.config.end_token_id).any(dim=1).tolist()
        captions = self.processor.captions(tokens)
        rewards = checked_rewards(self.reward(captions, clip_ids, ended), len(captions), "of this run")
        return Candidates(
            tokens=tokens,
            mask=sampled_tokens_mask(tokens, captioner.config.end_token_id),
            rewards=torch.tensor(
                [math.nan if reward is None else reward for reward in rewards],
                dtype=torch.float32,
                device=tokens.device,
            ),
        )

    def _note(self, **statistics: float) -> None:
        for name, value in statistics.items():
            # A mean of nothing, where no caption could be scored, is no number.
            if not math.isnan(value):
                self._statistics[name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the means since the last training line of what the samples were like."""
        if "loss" in logs:
            logs.update({name: sum(values) / len(values) for name, values in self._statistics.items()})
            self._statistics.clear()
        super().log(logs, start_time)
