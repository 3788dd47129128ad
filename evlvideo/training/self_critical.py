"""Self-critical sequence training (SCST): captions are sampled, scored, and made more or less likely.

Source: Rennie et al., CVPR 2017. Notation: `B` clips, `S` samples and `K` reference captions of each, `R = B·S`, `L`
tokens, `P` soft tokens, `V` vocabulary.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from evlvideo.config import ScstConfig
from evlvideo.data.collate import visual_inputs
from evlvideo.errors import UserError
from evlvideo.models.captioner import caption_loss
from evlvideo.models.processing import IGNORED
from evlvideo.training.baselines import BASELINES, advantages
from evlvideo.training.collapse import bad_ending_share, repetition_share, signs_of_collapse
from evlvideo.training.policy_loss import (
    divergence,
    drawing_log_probabilities,
    entropy,
    masked_mean,
    of_samples,
    policy_loss,
)
from evlvideo.training.rewards import Reward
from evlvideo.training.rollout import Rollout, roll_out
from evlvideo.training.trainer import CaptionTrainer

logger = logging.getLogger(__name__)

_NO_ADVANTAGE = 1e-6


class SelfCriticalTrainer(CaptionTrainer):
    """Trains on the reward of sampled captions, against a baseline.

    A step encodes its clips once, lets the language model read their soft prompts once, draws all captions from there
    without gradient, scores them, and recomputes their log-probabilities by a teacher-forced pass with gradient, which
    goes on from the same soft prompts. A step's captions are all drawn before the first is trained on, so that its loss
    is a mean over the tokens of all its batches and processes. Where a step has several batches, each is encoded again
    when its turn comes, since the memory of all would not be there; what the frozen tower made of it is kept.

    Dropout is off, so that what is sampled from is what is trained.

    Args:
        reward: scores captions.
        scst: samples, baseline and further terms of the loss.
        kwargs: those of :class:`CaptionTrainer`. Items of `train_dataset` are clips; with cross-entropy in the loss
            they are captions.
    """

    def __init__(self, *, reward: Reward, scst: ScstConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reward = reward
        self.scst = scst
        # Every batch's loss is its share of the whole step's.
        self.loss_is_scaled_for_ga = True
        self._batches: list[dict[str, Any]] = []
        self._statistics: dict[str, list[float]] = defaultdict(list)
        for module in self.captioner.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self._start: dict[str, Tensor] = {}
        if scst.kl_weight:
            weights = self.captioner.named_parameters()
            self._start = {name: weight.detach().clone() for name, weight in weights if weight.requires_grad}

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor | int | None]:
        """Take the batches of one optimizer step."""
        self._batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        return self._batches, items

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward pass of one batch; the first of a step draws the captions of all.

        Not when the batches are taken: a resumed run has its random state back only after that.
        """
        if "rollout" not in inputs:
            self.roll_out(self._batches)
        return super().training_step(model, inputs, num_items_in_batch)

    def roll_out(self, batches: list[dict[str, Any]]) -> None:
        """Draw and score captions for the batches of one step, in place.

        Each batch gets its `rollout`, `sampled_tokens` and `target_tokens`, over which the step's losses are averaged,
        and, where it is one of several and nothing is trained in the tower, `features` in the place of `pixel_values`.
        """
        alone = len(batches) == 1
        captioner = self.captioner
        for batch in batches:
            if not alone and not captioner.config.needs_frames and "pixel_values" in batch:
                batch["features"] = captioner.vision_tower(batch.pop("pixel_values"))
            with torch.set_grad_enabled(alone), self.accelerator.autocast():
                prompt = captioner.read_prompt(captioner.encode(**visual_inputs(batch)))
                batch["rollout"] = roll_out(
                    captioner, self.processor, self.reward, self.scst, prompt, batch["clip_ids"], keep_prompt=alone
                )
        counts = torch.tensor([[batch["rollout"].mask.sum(), _targets(batch)] for batch in batches])
        sampled, targets = self.accelerator.reduce(counts.sum(dim=0).to(self.args.device), "sum")
        for batch in batches:
            batch["sampled_tokens"], batch["target_tokens"] = sampled, targets

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The batch's share of the step's loss; a batch without captions is a step of its own."""
        if "rollout" not in inputs:
            self.roll_out([inputs])
        rollout: Rollout = inputs["rollout"]
        baseline = BASELINES[self.scst.baseline](rollout.rewards, rollout.greedy_rewards)
        advantage = advantages(rollout.rewards, baseline).flatten()  # (R)
        with self.accelerator.autocast():
            samples, references = self._logits(model, inputs, rollout)  # (R, L, V), (B·K, L', V)
        drawn, temperature = rollout.tokens, self.scst.temperature
        log_probabilities = drawing_log_probabilities(samples, drawn, temperature, self.scst.top_p)  # (R, L, V)
        tokens, weight = inputs["sampled_tokens"], self.scst.cross_entropy_weight
        loss = policy_loss(of_samples(log_probabilities, drawn), rollout.mask, advantage, tokens)
        terms: dict[str, float] = {}
        if references is not None:
            cross_entropy = caption_loss(references, inputs["labels"], inputs["target_tokens"])
            loss = (1 - weight) * loss + weight * cross_entropy
            terms["cross_entropy"] = float(cross_entropy.detach() * inputs["target_tokens"] / _targets(inputs))
        if self._start:
            # Of all tokens: the two models' nuclei differ, and what is in one alone would be infinitely far.
            now, start = (
                drawing_log_probabilities(logits, drawn, temperature)
                for logits in (samples, self._start_logits(inputs, rollout))
            )
            kl = divergence(now, start, rollout.mask, tokens)
            loss = loss + self.scst.kl_weight * kl
            terms["kl"] = float(kl.detach() * tokens / rollout.mask.sum())
        self.check_finite(loss, inputs["clip_ids"])
        self._note(
            **self._of_captions(rollout, advantage),
            entropy=masked_mean(entropy(log_probabilities.detach()), rollout.mask),
            **terms,
        )
        # Processes' gradients are averaged, and their losses are shares.
        loss = loss * self.accelerator.num_processes
        return (loss, {}) if return_outputs else loss

    def _logits(self, model: nn.Module, inputs: dict[str, Any], rollout: Rollout) -> tuple[Tensor, Tensor | None]:
        """One teacher-forced pass over the samples and, with cross-entropy, reference captions of each clip.

        Returns:
            logits that predict the samples, `(R, L, V)`, and those that predict the references, `(B·K, L' + 1, V)`, the
            last one beyond their end; `None` without.
        """
        clips, samples, length = len(inputs["clip_ids"]), self.scst.num_samples, rollout.tokens.shape[1]
        ids, masks = self._texts_of_samples(rollout)
        opening = ids.shape[1] - length
        if self.scst.cross_entropy_weight:
            ids = _beside(ids, inputs["input_ids"], clips, self.processor.pad_token_id)
            masks = _beside(masks, inputs["attention_mask"], clips, 0)
        given = visual_inputs(inputs) if rollout.prompt is None else {"prompt": rollout.prompt}
        # Of all texts, and of the last soft token, which predicts their first.
        kept = ids.shape[1] + 1
        logits: Tensor = model(**given, input_ids=ids, attention_mask=masks, logits_to_keep=kept).logits
        by_clip = logits.unflatten(0, (clips, -1))  # (B, S + K, kept, V)
        predicting = by_clip[:, :samples, opening : opening + length].flatten(0, 1)
        if by_clip.shape[1] == samples:
            return predicting, None
        return predicting, by_clip[:, samples:, : inputs["labels"].shape[1] + 1].flatten(0, 1)

    def _texts_of_samples(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Samples behind the opening token and the prompt, `(R, O + L)`, and their mask."""
        ids = [self.processor.bos_token_id]
        prompt = self.processor.prompt_ids()
        if prompt is not None:
            ids += prompt.tolist()
        opening = torch.tensor(ids).to(rollout.tokens).expand(len(rollout.tokens), -1)
        mask = torch.cat([torch.ones_like(opening), rollout.mask.long()], dim=1)
        return torch.cat([opening, rollout.tokens], dim=1), mask

    @torch.no_grad()
    def _start_logits(self, inputs: dict[str, Any], rollout: Rollout) -> Tensor:
        """What the model that the run started from predicts of the samples, `(R, L, V)`."""
        ids, mask = self._texts_of_samples(rollout)
        length = rollout.tokens.shape[1]
        given = {**visual_inputs(inputs), "input_ids": ids, "attention_mask": mask, "logits_to_keep": length + 1}
        with self.accelerator.autocast():
            logits: Tensor = functional_call(self.captioner, self._start, kwargs=given).logits
        return logits[:, :-1]

    def _of_captions(self, rollout: Rollout, advantage: Tensor) -> dict[str, float]:
        """What the samples of a batch are like."""
        rewards = rollout.rewards
        return {
            "reward": float(rewards.nanmean()),
            "reward_std": float(
                (rewards - rewards.nanmean(dim=1, keepdim=True)).square().nanmean(dim=1).sqrt().nanmean()
            ),
            "greedy_reward": float(rollout.greedy_rewards.nanmean()),
            "unscored_samples": float(rewards.isnan().sum()),
            "zero_advantage_share": float((advantage.abs() < _NO_ADVANTAGE).float().mean()),
            "sample_tokens": float(rollout.mask.sum(dim=1).float().mean()),
            "unended_share": 1 - sum(rollout.ended) / len(rollout.ended),
            "repetition": repetition_share(rollout.captions),
            "bad_endings": bad_ending_share(rollout.captions),
        }

    def _note(self, **statistics: float) -> None:
        for name, value in statistics.items():
            # A mean of nothing, where no caption could be scored, is no number.
            if not math.isnan(value):
                self._statistics[name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the means since the last training line of what the samples of all processes were like.

        Raises:
            UserError: the samples show that training has gone wrong, and the run is to stop then.
        """
        signs: list[str] = []
        if "loss" in logs:
            gathered: dict[str, list[float]] = defaultdict(list)
            for of_process in gather_object([dict(self._statistics)]):
                for name, values in of_process.items():
                    gathered[name] += values
            logs.update({name: sum(values) / len(values) for name, values in gathered.items()})
            self._statistics.clear()
            signs = signs_of_collapse(logs)
        super().log(logs, start_time)
        if signs:
            self._name_collapse(signs)

    def _name_collapse(self, signs: list[str]) -> None:
        found = f"Training may have collapsed at step {self.state.global_step}: {'; '.join(signs)}."
        if self.scst.stop_on_collapse:
            raise UserError(
                f"{found} The run stops (scst.stop_on_collapse). Its checkpoints are in {self.args.output_dir}; lower "
                "training.learning_rate, keep near the start with scst.kl_weight or scst.cross_entropy_weight, or "
                "start from a model that captions better."
            )
        logger.warning(found)


def _targets(batch: dict[str, Any]) -> int:
    """Targets of a batch's reference captions."""
    return int(batch["labels"].ne(IGNORED).sum()) if "labels" in batch else 0


def _beside(samples: Tensor, references: Tensor, clips: int, filler: int) -> Tensor:
    """`(B·S, L)` and `(B·K, L')` clip by clip, filled on the right to one length: `(B·(S + K), max(L, L'))`."""
    length = max(samples.shape[1], references.shape[1])
    both = [F.pad(group, (0, length - group.shape[1]), value=filler) for group in (samples, references)]
    return torch.cat([group.unflatten(0, (clips, -1)) for group in both], dim=1).flatten(0, 1)
