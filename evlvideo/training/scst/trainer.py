"""Self-critical sequence training (SCST): samples captions, scores them, and makes them more or less likely.

Source: Rennie et al., CVPR 2017. Notation: `B` clips, `S` samples and `K` reference captions of each, `R = B·S`, `L`
tokens, `P` soft tokens, `V` vocabulary.
"""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from evlvideo.config.scst import ScstConfig
from evlvideo.data.loading.collate import visual_inputs
from evlvideo.errors import UserError
from evlvideo.models.language import caption_loss
from evlvideo.models.processing import IGNORED
from evlvideo.training.health.collapse import Sign, bad_ending_share, repetition_share, signs_of_collapse
from evlvideo.training.scst.baselines import BASELINES, advantages
from evlvideo.training.scst.policy_loss import masked_sum, policy_loss
from evlvideo.training.scst.rewards import Reward
from evlvideo.training.scst.rollout import Rollout, roll_out
from evlvideo.training.scst.token_terms import token_terms
from evlvideo.training.seeds import sampling_seeds
from evlvideo.training.trainer import CaptionTrainer

logger = logging.getLogger(__name__)

_NO_ADVANTAGE = 1e-6


class SelfCriticalTrainer(CaptionTrainer):
    """Trains on the reward of sampled captions against a baseline.

    A step encodes its clips once and lets the language model read their soft prompts once. It samples the captions of
    all its batches together without gradient, and scores them in one call. Teacher-forced passes with gradient then
    recompute the log-probabilities, batch by batch, from the same soft prompts. If a step has several batches, each is
    encoded again at its turn, to save memory; the frozen tower's output is kept. The loss is a mean over the tokens of
    all batches and processes of the step.

    Dropout is off, so the trained model is the sampled one. The samples depend on the run's seed, the step and the
    clip's position in it, not on how processes and batches share the step out.

    Args:
        reward: scores captions.
        scst: samples, baseline and further terms of the loss.
        kwargs: arguments of :class:`CaptionTrainer`. Items of `train_dataset` are clips, or captions if the loss has
            cross-entropy.
    """

    def __init__(self, *, reward: Reward, scst: ScstConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reward = reward
        self.scst = scst
        # Every batch's loss is its share of the step's loss.
        self.loss_is_scaled_for_ga = True
        self._batches: list[dict[str, Any]] = []
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
        """Run forward and backward on one batch; the first batch of a step samples the captions of all.

        Sampling waits until here because a resumed run restores its random state after the batches are taken.
        """
        if "rollout" not in inputs:
            # transformers sets the mode only below, and a captioner that drafts drafts nothing in this one.
            model.train()
            self.roll_out(self._batches)
        return super().training_step(model, inputs, num_items_in_batch)

    def roll_out(self, batches: list[dict[str, Any]]) -> None:
        """Sample and score captions for the batches of one step, in place.

        Each batch gets its `rollout`, its `advantage`, and the counts that the step's losses are averaged over,
        `sampled_tokens` and `target_tokens`. If the tower trains nothing, `features` replace `pixel_values`. A batch
        that is alone also gets the `prompt` that its captions were sampled from, with gradient.
        """
        captioner, alone = self.captioner, len(batches) == 1
        with torch.set_grad_enabled(alone):
            for batch in batches:
                if not captioner.needs_frames and "pixel_values" in batch:
                    batch["features"] = captioner.vision_tower(batch.pop("pixel_values"))
            prompt = captioner.read_prompt(
                torch.cat([captioner.encode(**visual_inputs(batch)) for batch in batches])  # (B, P, E)
            )
            rollout = roll_out(
                captioner,
                self.processor,
                self.reward,
                self.scst,
                prompt.detached(),
                [clip_id for batch in batches for clip_id in batch["clip_ids"]],
                self._sampling_seeds(batches),
            )
        advantage = self._advantages(rollout)
        self._note_captions(rollout, advantage)
        parts = rollout.by_batch([len(batch["clip_ids"]) for batch in batches])
        shares = advantage.to(rollout.tokens.device).split([len(part.tokens) for part in parts])
        for batch, part, share in zip(batches, parts, shares, strict=True):
            batch.update(rollout=part, advantage=share)
        self._count_tokens(batches)
        if alone:
            batches[0]["prompt"] = prompt

    def _count_tokens(self, batches: list[dict[str, Any]]) -> None:
        """Add to every batch the counts that the step's losses are averaged over, without waiting for the device."""
        counts = {"sampled_tokens": torch.stack([batch["rollout"].mask.sum() for batch in batches]).sum()}
        if self.scst.cross_entropy_weight:
            counts["target_tokens"] = torch.stack([_targets(batch) for batch in batches]).sum()
        of_all_processes = self.accelerator.reduce(counts, "sum")
        for batch in batches:
            batch.update(of_all_processes)

    def _sampling_seeds(self, batches: list[dict[str, Any]]) -> list[int]:
        """Derive one seed per clip from its position among all batches and processes of the step."""
        processes, size = self.args.world_size, self.args.per_device_train_batch_size
        positions = [
            (index * processes + self.args.process_index) * size + position
            for index, batch in enumerate(batches)
            for position in range(len(batch["clip_ids"]))
        ]
        return sampling_seeds(self.args.seed, self.state.global_step, positions)

    def _advantages(self, rollout: Rollout) -> Tensor:
        """Subtract the baseline from each sample's reward, `(R)`, on the CPU."""
        baseline = BASELINES[self.scst.baseline](rollout.rewards, rollout.greedy_rewards)
        return advantages(rollout.rewards, baseline).flatten()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the batch's share of the step's loss; a batch without captions is taken as a whole step."""
        if "rollout" not in inputs:
            self.roll_out([inputs])
        rollout: Rollout = inputs["rollout"]
        samples, references = self._logits(model, inputs, rollout)  # (R, L, V), (B·K, L', V)
        terms = token_terms(
            samples,
            rollout.tokens,
            temperature=self.scst.temperature,
            top_p=self.scst.top_p,
            start=self._start_logits(inputs, rollout) if self._start else None,
        )
        mask, tokens = rollout.mask, inputs["sampled_tokens"]
        loss = policy_loss(terms.log_probability, mask, inputs["advantage"], tokens)
        if references is not None:
            weight, targets = self.scst.cross_entropy_weight, inputs["target_tokens"]
            cross_entropy = caption_loss(references, inputs["labels"], targets)
            loss = (1 - weight) * loss + weight * cross_entropy
            self.means.add("cross_entropy", cross_entropy * targets, _targets(inputs))
        if self._start:
            divergence = masked_sum(terms.divergence, mask)
            loss = loss + self.scst.kl_weight * divergence / tokens
            self.means.add("kl", divergence, mask.sum())
        self.means.add("entropy", masked_sum(terms.entropy, mask), mask.sum())
        self.check_finite(loss, inputs["clip_ids"])
        # Gradients are averaged over processes, but losses are shares of a sum.
        loss = loss * self.accelerator.num_processes
        return (loss, {}) if return_outputs else loss

    def _logits(self, model: nn.Module, inputs: dict[str, Any], rollout: Rollout) -> tuple[Tensor, Tensor | None]:
        """Run one teacher-forced pass over each clip's samples and, with cross-entropy, its reference captions.

        Returns:
            logits that predict the samples, `(R, L, V)`, and those that predict the references, `(B·K, L' + 1, V)`, the
            last one beyond their end; `None` without cross-entropy.
        """
        clips, samples, length = len(inputs["clip_ids"]), self.scst.num_samples, rollout.tokens.shape[1]
        given: dict[str, Any] = {"prompt": inputs["prompt"]} if "prompt" in inputs else {**visual_inputs(inputs)}
        ids, masks = self._texts_of_samples(rollout)
        opening = given["opening_tokens"] = ids.shape[1] + 1 - length
        if not self.scst.cross_entropy_weight:
            logits: Tensor = model(**given, input_ids=ids, attention_mask=masks, logits_to_keep=length).logits
            return logits, None
        ids = _beside(ids, inputs["input_ids"], clips, self.processor.pad_token_id)
        masks = _beside(masks, inputs["attention_mask"], clips, 0)
        # All text positions, and the last soft token, which predicts the first of them.
        kept = ids.shape[1] + 1
        logits = model(**given, input_ids=ids, attention_mask=masks, logits_to_keep=kept).logits
        by_clip = logits.unflatten(0, (clips, -1))  # (B, S + K, kept, V)
        predicting = by_clip[:, :samples, opening : opening + length].flatten(0, 1)
        return predicting, by_clip[:, samples:, : inputs["labels"].shape[1] + 1].flatten(0, 1)

    def _texts_of_samples(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Join a caption's opening and all sampled tokens but the last, `(R, O + L − 1)`, and make the mask."""
        ids = torch.tensor(self.processor.opening_ids())
        opening = ids.to(rollout.tokens, non_blocking=True).expand(len(rollout.tokens), -1)
        mask = torch.cat([torch.ones_like(opening), rollout.mask[:, :-1].long()], dim=1)
        return torch.cat([opening, rollout.tokens[:, :-1]], dim=1), mask

    @torch.no_grad()
    def _start_logits(self, inputs: dict[str, Any], rollout: Rollout) -> Tensor:
        """Compute the logits of the model that the run started from, `(R, L, V)`."""
        ids, mask = self._texts_of_samples(rollout)
        kept = rollout.tokens.shape[1]
        texts = {"input_ids": ids, "attention_mask": mask, "logits_to_keep": kept}
        given: dict[str, Any] = {**visual_inputs(inputs), **texts, "opening_tokens": ids.shape[1] + 1 - kept}
        logits: Tensor = functional_call(self.captioner, self._start, kwargs=given).logits
        return logits

    def _note_captions(self, rollout: Rollout, advantage: Tensor) -> None:
        """Add a step's samples to the running means; all values are in host memory."""
        rewards, greedy, samples = rollout.rewards, rollout.greedy_rewards, len(rollout.captions)
        spread = (rewards - rewards.nanmean(dim=1, keepdim=True)).square().nanmean(dim=1).sqrt()
        for name, values in {"reward": rewards, "reward_std": spread, "greedy_reward": greedy}.items():
            self.means.add(name, values.nansum(), values.isfinite().sum())
        # A count per step, of which every process adds its part.
        self.means.add("unscored_samples", rewards.isnan().sum(), 1 / self.accelerator.num_processes)
        self.means.add("zero_advantage_share", (advantage.abs() < _NO_ADVANTAGE).sum(), samples)
        self.means.add("sample_tokens", sum(rollout.lengths), samples)
        self.means.add("unended_share", rollout.ended.count(False), samples)
        self.means.add("repetition", repetition_share(rollout.captions) * samples, samples)
        self.means.add("bad_endings", bad_ending_share(rollout.captions) * samples, samples)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the means of all processes' samples since the last training line.

        Raises:
            UserError: training has collapsed, and `scst.stop_on_collapse` is set.
        """
        super().log(logs, start_time)
        if "loss" in logs and (signs := signs_of_collapse(logs)):
            self._name_collapse(signs)

    def _name_collapse(self, signs: list[Sign]) -> None:
        found = f"Training may have collapsed at step {self.state.global_step}: {'; '.join(map(str, signs))}."
        if self.scst.stop_on_collapse:
            raise UserError(
                f"{found} The run stops (scst.stop_on_collapse). Its checkpoints are in {self.args.output_dir}; lower "
                "training.learning_rate, keep near the start with scst.kl_weight or scst.cross_entropy_weight, or "
                "start from a model that captions better."
            )
        if self.is_world_process_zero():
            logger.warning(found)


def _targets(batch: dict[str, Any]) -> Tensor:
    """Count the targets of a batch's reference captions."""
    count: Tensor = batch["labels"].ne(IGNORED).sum()
    return count


def _beside(samples: Tensor, references: Tensor, clips: int, filler: int) -> Tensor:
    """Join `(B·S, L)` and `(B·K, L')` clip by clip, padded on the right: `(B·(S + K), max(L, L'))`."""
    length = max(samples.shape[1], references.shape[1])
    both = [F.pad(group, (0, length - group.shape[1]), value=filler) for group in (samples, references)]
    return torch.cat([group.unflatten(0, (clips, -1)) for group in both], dim=1).flatten(0, 1)
