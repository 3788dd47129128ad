"""Captions that self-critical training draws."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_run import Toy, make_trainer

from evlvideo.models.language import SoftPrompt
from evlvideo.training.scst.policy_loss import log_probabilities_inside, of_samples
from evlvideo.training.scst.rollout import Rollout, roll_out
from evlvideo.training.scst.trainer import SelfCriticalTrainer


class Noted:
    """A reward that notes what it was asked."""

    def __init__(self) -> None:
        self.captions: list[str] = []

    def __call__(self, captions: Sequence[str], clip_ids: Sequence[str], ended: Sequence[bool]) -> list[float]:
        self.captions = list(captions)
        return [float(len(caption)) for caption in captions]


def trainer_of(toy: Toy, directory: Path, reward: Any, **scst: Any) -> SelfCriticalTrainer:
    trainer = make_trainer(toy.config(directory, run={"stage": "scst"}, scst=scst), reward)
    assert isinstance(trainer, SelfCriticalTrainer)
    return trainer


def prompt_of(trainer: SelfCriticalTrainer, clips: int = 2) -> SoftPrompt:
    dataset: Any = trainer.train_dataset
    pixel_values = torch.stack([dataset[place]["pixel_values"] for place in range(clips)])
    return trainer.captioner.read_prompt(trainer.captioner.encode(pixel_values))


def drawn(trainer: SelfCriticalTrainer, prompt: SoftPrompt, seed: int = 0) -> Rollout:
    clips = range(len(prompt.embeddings))
    names, seeds = [f"clip{place}" for place in clips], [1000 * seed + place for place in clips]
    return roll_out(trainer.captioner, trainer.processor, trainer.reward, trainer.scst, prompt, names, seeds)


def log_probabilities(trainer: SelfCriticalTrainer, prompt: SoftPrompt, samples: Tensor) -> Tensor:
    opening = torch.full((len(samples), 1), trainer.processor.bos_token_id)
    text = torch.cat([opening, samples], dim=1)
    logits = trainer.captioner(
        prompt=prompt, input_ids=text, attention_mask=torch.ones_like(text), logits_to_keep=text.shape[1]
    ).logits[:, :-1]
    return of_samples(log_probabilities_inside(logits), samples)


def test_the_greedy_caption_beside_samples_is_the_greedy_caption(toy: Toy, tmp_path: Path) -> None:
    reward = Noted()
    trainer = trainer_of(toy, tmp_path, reward, num_samples=4, temperature=2.0)
    prompt = prompt_of(trainer, 3)
    alone = trainer.captioner.generate(prompt=prompt, max_new_tokens=10)
    for seed in range(3):
        rollout = drawn(trainer, prompt, seed)
        assert reward.captions[12:] == trainer.processor.captions(alone)
        assert rollout.captions == reward.captions[:12]
        assert len(set(rollout.captions)) > 4
        assert rollout.greedy_rewards.tolist() == [len(caption) for caption in reward.captions[12:]]


def test_candidates_by_beams_are_all_that_the_search_finds(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, Noted(), num_samples=4, candidates="beams")
    prompt = prompt_of(trainer)
    expected = trainer.captioner.generate(prompt=prompt, max_new_tokens=10, num_beams=4, num_return_sequences=4)
    rollout = drawn(trainer, prompt)
    assert torch.equal(rollout.tokens, expected)
    assert rollout.rewards.tolist() == torch.tensor([len(text) for text in rollout.captions]).reshape(2, 4).tolist()


@pytest.mark.parametrize("candidates", ["sampling", "beams"])
def test_one_sample_is_enough_for_a_greedy_baseline(toy: Toy, tmp_path: Path, candidates: str) -> None:
    trainer = trainer_of(toy, tmp_path, Noted(), num_samples=1, baseline="greedy", candidates=candidates)
    assert drawn(trainer, prompt_of(trainer)).rewards.shape == (2, 1)


def test_samples_are_in_the_nucleus(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, Noted(), num_samples=300, top_p=0.8, max_new_tokens=1)
    prompt = prompt_of(trainer, 1)
    vocabulary = trainer.captioner.config.text.vocab_size
    every = log_probabilities(trainer, prompt, torch.arange(vocabulary)[:, None])[:, 0].exp()
    likeliest = every.argsort(descending=True)
    nucleus = likeliest[: int((every[likeliest].cumsum(0) < 0.8).sum()) + 1]
    found = drawn(trainer, prompt).tokens.unique()
    assert 1 < len(found) < len(every)
    assert set(found.tolist()) <= set(nucleus.tolist())


def test_drawing_leaves_no_gradient_and_the_prompt_as_it_was(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, Noted())
    prompt = prompt_of(trainer)
    length = prompt.cache.get_seq_length()
    rollout = drawn(trainer, prompt)
    assert not rollout.rewards.requires_grad
    assert prompt.cache.get_seq_length() == length and prompt.embeddings.requires_grad
