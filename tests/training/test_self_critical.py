import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from rich.console import Console
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from torch.distributions import Categorical
from toy_run import CONNECTOR_SIZES, LANGUAGE_SIZES, VISION, VISION_SIZES, Toy, make_trainer
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast, TrainingArguments

from evlvideo.config import GenerationConfig, ScstConfig
from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.training.policy_loss import sampled_tokens_mask
from evlvideo.training.run import train
from evlvideo.training.self_critical import SelfCriticalTrainer

PAD, BOS, END = 1, 2, 3
VOCABULARY = {"a": 0, "<pad>": PAD, "</s>": BOS, "\n": END}
LENGTH = 3


class LengthReward:
    """Half a point for each character; notes what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], list[str], list[bool], list[float]]] = []

    def __call__(self, captions: Sequence[str], clip_ids: Sequence[str], ended: Sequence[bool]) -> list[float]:
        rewards = [len(caption) / 2 for caption in captions]
        self.calls.append((list(captions), list(clip_ids), list(ended), rewards))
        return rewards


class SpellingReward:
    """Some number between 0 and 1 for every caption, which depends on its text and on whether it ended."""

    def __call__(self, captions: Sequence[str], clip_ids: Sequence[str], ended: Sequence[bool]) -> list[float]:
        return [(3 * len(text) + 2 * end + 1) * 0.37 % 1 for text, end in zip(captions, ended, strict=True)]


def trainer_of(toy: Toy, directory: Path, reward: Any, **scst: Any) -> SelfCriticalTrainer:
    config = toy.config(directory, run={"stage": "scst"}, scst=scst, training={"warmup_steps": 0})
    trainer = make_trainer(config, reward)
    assert isinstance(trainer, SelfCriticalTrainer)
    return trainer


def batch_of(trainer: SelfCriticalTrainer, size: int) -> dict[str, Any]:
    dataset: Any = trainer.train_dataset
    return trainer.data_collator([dataset[place] for place in range(size)])


def gradient(trainer: SelfCriticalTrainer, inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Of one loss, by parameter."""
    trainer.model.zero_grad()
    trainer.compute_loss(trainer.model, inputs).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in trainer.captioner.named_parameters()
        if parameter.grad is not None
    }


def log_probabilities(trainer: SelfCriticalTrainer, soft_prompt: Tensor, samples: Tensor, temperature: float) -> Tensor:
    """Of sampled tokens, after the opening token, by a plain pass: `(R, L)`."""
    opening = torch.full((len(samples), 1), trainer.processor.bos_token_id)
    text = torch.cat([opening, samples], dim=1)
    output = trainer.captioner(soft_prompt=soft_prompt, input_ids=text, attention_mask=torch.ones_like(text))
    logits = output.logits[:, -samples.shape[1] - 1 : -1]
    return Categorical(logits=logits / temperature).log_prob(samples)


class Recorded:
    """Notes what the captioner generates."""

    def __init__(self, trainer: SelfCriticalTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens: list[Tensor] = []
        original = trainer.captioner.generate

        def generate(*args: Any, **kwargs: Any) -> Tensor:
            self.tokens.append(original(*args, **kwargs))
            return self.tokens[-1]

        monkeypatch.setattr(trainer.captioner, "generate", generate)


def test_rewards_are_asked_for_the_samples_of_each_clip_and_for_the_greedy_captions(toy: Toy, tmp_path: Path) -> None:
    reward = LengthReward()
    trainer = trainer_of(toy, tmp_path, reward, num_samples=3)
    trainer.compute_loss(trainer.model, batch_of(trainer, 2))
    first, second = (clip.clip_id for clip in toy.clips("train")[:2])
    assert sorted(call[1] for call in reward.calls) == sorted([[first] * 3 + [second] * 3, [first, second]])


def test_rewards_are_told_which_captions_ended(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = LengthReward()
    trainer = trainer_of(toy, tmp_path, reward, num_samples=20)
    recorded = Recorded(trainer, monkeypatch)
    trainer.compute_loss(trainer.model, batch_of(trainer, 2))
    end = trainer.captioner.config.end_token_id
    for tokens, (_, _, ended, _) in zip(recorded.tokens, reward.calls, strict=True):
        assert ended == [end in row for row in tokens.tolist()]
    assert len(set(reward.calls[0][2])) == 2


@pytest.mark.parametrize("baseline", ["greedy", "loo"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_loss_is_that_of_the_formula(
    toy: Toy, tmp_path: Path, baseline: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = LengthReward()
    trainer = trainer_of(toy, tmp_path, reward, num_samples=3, baseline=baseline, temperature=temperature)
    recorded = Recorded(trainer, monkeypatch)
    inputs = batch_of(trainer, 2)
    loss = trainer.compute_loss(trainer.model, inputs)

    samples = next(tokens for tokens in recorded.tokens if len(tokens) == 6)
    rewards = next(torch.tensor(call[3]) for call in reward.calls if len(call[3]) == 6).reshape(2, 3)
    greedy = next(torch.tensor(call[3]) for call in reward.calls if len(call[3]) == 2)
    soft_prompt = trainer.captioner.encode(inputs["pixel_values"])
    total, tokens = 0.0, 0
    for clip in range(2):
        for place in range(3):
            others = [rewards[clip, other] for other in range(3) if other != place]
            against = greedy[clip] if baseline == "greedy" else sum(others) / 2
            row = samples[3 * clip + place]
            row = row[: int(sampled_tokens_mask(row[None], trainer.captioner.config.end_token_id).sum())]
            found = log_probabilities(trainer, soft_prompt[clip, None], row[None], temperature)
            total += float((rewards[clip, place] - against) * found.sum().detach())
            tokens += len(row)
    assert loss.item() == pytest.approx(-total / tokens, rel=1e-4, abs=1e-6)


def test_equal_rewards_train_nothing(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, lambda captions, clip_ids, ended: [0.5] * len(captions))
    found = gradient(trainer, batch_of(trainer, 2))
    assert found and not any(value.any() for value in found.values())


def test_captions_without_reward_train_nothing_and_are_counted(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, lambda captions, clip_ids, ended: [None] * len(captions), num_samples=3)
    found = gradient(trainer, batch_of(trainer, 2))
    assert found and not any(value.any() for value in found.values())
    trainer.log({"loss": 0.0})
    line = trainer.state.log_history[-1]
    assert line["unscored_samples"] == 6
    assert "reward" not in line


@pytest.mark.parametrize("returned", [[1.0], [math.nan] * 6, ["good"] * 6])
def test_rewards_that_are_no_numbers_stop_the_run(toy: Toy, tmp_path: Path, returned: Any) -> None:
    trainer = trainer_of(toy, tmp_path, lambda captions, clip_ids, ended: returned, num_samples=3)
    with pytest.raises(UserError, match="one finite number or None for each caption"):
        trainer.compute_loss(trainer.model, batch_of(trainer, 2))


def test_samples_earn_no_gradient_in_frozen_towers(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, LengthReward())
    names = set(gradient(trainer, batch_of(trainer, 2)))
    assert names == {name for name, weight in trainer.captioner.named_parameters() if weight.requires_grad}


def test_dropout_is_off(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, LengthReward())
    pixel_values = batch_of(trainer, 2)["pixel_values"]
    trainer.captioner.train()
    assert torch.equal(trainer.captioner.encode(pixel_values), trainer.captioner.encode(pixel_values))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_samples_are_drawn_from_the_whole_distribution_at_the_temperature(
    toy: Toy, tmp_path: Path, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = 4000
    reward = LengthReward()
    trainer = trainer_of(toy, tmp_path, reward, num_samples=draws, temperature=temperature, max_new_tokens=1)
    recorded = Recorded(trainer, monkeypatch)
    inputs = batch_of(trainer, 1)
    torch.manual_seed(0)
    trainer.compute_loss(trainer.model, inputs)
    vocabulary = trainer.captioner.config.text_config.vocab_size
    samples = next(tokens for tokens in recorded.tokens if len(tokens) == draws)
    frequency = torch.bincount(samples[:, 0], minlength=vocabulary) / draws

    soft_prompt = trainer.captioner.encode(inputs["pixel_values"]).expand(vocabulary, -1, -1)
    every_token = torch.arange(vocabulary).unsqueeze(1)
    probability = log_probabilities(trainer, soft_prompt, every_token, temperature)[:, 0].exp()
    assert probability.sum().item() == pytest.approx(1, abs=1e-4)
    chance = (probability * (1 - probability) / draws).sqrt()
    assert ((frequency - probability).abs() < 5 * chance + 1 / draws).all()
    assert (frequency - probability).abs().sum() < 2 * chance.sum()


def test_no_token_is_cut_off_by_transformers_defaults(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(toy, tmp_path, LengthReward(), num_samples=500, temperature=50.0, max_new_tokens=1)
    recorded = Recorded(trainer, monkeypatch)
    trainer.compute_loss(trainer.model, batch_of(trainer, 1))
    samples = next(tokens for tokens in recorded.tokens if len(tokens) == 500)
    assert len(samples.unique()) > 200  # of 420; transformers' top_k would leave 50


def test_a_step_makes_better_samples_likelier(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = LengthReward()
    trainer = trainer_of(toy, tmp_path, reward, num_samples=6)
    recorded = Recorded(trainer, monkeypatch)
    inputs = batch_of(trainer, 1)
    step = gradient(trainer, inputs)
    samples = next(tokens for tokens in recorded.tokens if len(tokens) == 6)
    rewards = next(torch.tensor(call[3]) for call in reward.calls if len(call[3]) == 6)
    mask = sampled_tokens_mask(samples, trainer.captioner.config.end_token_id)

    def gain() -> Tensor:
        with torch.no_grad():
            soft_prompt = trainer.captioner.encode(inputs["pixel_values"]).expand(6, -1, -1)
            found = (log_probabilities(trainer, soft_prompt, samples, 1.0) * mask).sum(dim=1)
        return ((rewards - rewards.mean()) * found).sum()

    before = gain()
    with torch.no_grad():
        for name, weight in trainer.captioner.named_parameters():
            if name in step:
                weight -= 1e-3 * step[name]
    assert gain() > before


def test_training_lines_of_the_log_say_what_samples_are_like(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = LengthReward()
    config = toy.config(
        tmp_path,
        run={"stage": "scst"},
        scst={"num_samples": 4, "baseline": "greedy"},
        training={"max_steps": 2, "log_steps": 2, "eval_steps": 100},
    )
    trainer = make_trainer(config, reward)
    assert isinstance(trainer, SelfCriticalTrainer)
    recorded = Recorded(trainer, monkeypatch)
    monkeypatch.setattr(trainer, "evaluate", lambda *args, **kwargs: {"eval_cider": 0.0})
    trainer.train()
    line = next(entry for entry in trainer.state.log_history if "loss" in entry)

    sampled = [torch.tensor(call[3]).reshape(4, 4) for call in reward.calls if len(call[3]) == 16]
    greedy = [torch.tensor(call[3]) for call in reward.calls if len(call[3]) == 4]
    tokens = [found for found in recorded.tokens if len(found) == 16]
    end = trainer.captioner.config.end_token_id
    assert len(sampled) == len(greedy) == len(tokens) == 2

    def mean(values: list[Tensor]) -> Any:
        return pytest.approx(float(torch.stack(values).mean()), rel=1e-5)

    assert line["reward"] == mean([rewards.mean() for rewards in sampled])
    assert line["reward_std"] == mean([rewards.std(dim=1, correction=0).mean() for rewards in sampled])
    assert line["greedy_reward"] == mean([rewards.mean() for rewards in greedy])
    pairs = zip(sampled, greedy, strict=True)
    assert line["zero_advantage_share"] == mean([(one == other[:, None]).float().mean() for one, other in pairs])
    assert line["sample_tokens"] == mean([sampled_tokens_mask(one, end).sum(dim=1).float().mean() for one in tokens])
    assert 0 < line["entropy"] < 6.1  # at most log 420


def test_statistics_of_a_log_line_are_those_since_the_last(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, LengthReward())
    trainer._note(reward=1.0)
    trainer._note(reward=3.0)
    trainer.log({"loss": 0.0})
    trainer._note(reward=5.0)
    trainer.log({"validation_cider": 0.0})
    trainer.log({"loss": 0.0})
    assert [entry.get("reward") for entry in trainer.state.log_history] == [2.0, None, 5.0]


def test_a_run_learns_to_please_its_reward(toy: Toy, tmp_path: Path) -> None:
    config = toy.config(
        tmp_path,
        run={"stage": "scst"},
        scst={"num_samples": 8},
        training={"max_steps": 30, "eval_steps": 100, "warmup_steps": 0, "min_learning_rate": 1e-2},
    )
    trainer = make_trainer(config, LengthReward())
    trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    assert sum(rewards[-5:]) > 1.2 * sum(rewards[:5])


@pytest.mark.needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_steps_on_a_gpu(toy: Toy, tmp_path: Path, precision: str) -> None:
    config = toy.config(
        tmp_path / "run", run={"stage": "scst"}, training={"max_steps": 2, "eval_steps": 2, "precision": precision}
    )
    run = train(config, console=Console(quiet=True))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 2 and all(abs(loss) < 20 for loss in losses)


class TestTinyLanguage:
    """Four tokens and captions of at most three: what SCST estimates can be computed from all of them."""

    @pytest.fixture
    def trainer(self, tmp_path: Path) -> SelfCriticalTrainer:
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=_tokenizer(), bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="<pad>"
        )
        processor = EvlVideoProcessor(tokenizer, image_size=32)
        torch.manual_seed(0)
        tokenizer.save_pretrained(tmp_path / "language")
        _language_model().save_pretrained(tmp_path / "language")
        vision = timm.create_model(VISION, num_classes=0, **VISION_SIZES)
        save_file(vision.state_dict(), tmp_path / "vision.safetensors")
        model = EvlVideoForCaptioning.from_towers(
            EvlVideoConfig(
                vision_tower=VISION,
                vision_overrides=VISION_SIZES,
                vision_weights=str(tmp_path / "vision.safetensors"),
                vision_final_norm=True,
                language_model=str(tmp_path / "language"),
                bert_config=CONNECTOR_SIZES,
                merge_r=4,
                bos_token_id=BOS,
                end_token_id=END,
                pad_token_id=PAD,
            )
        )
        nn.init.normal_(model.language_projection.weight, std=0.3)
        return SelfCriticalTrainer(
            reward=SpellingReward(),
            scst=ScstConfig(num_samples=2, baseline="loo", max_new_tokens=LENGTH),
            model=model,
            args=TrainingArguments(output_dir=str(tmp_path / "run"), report_to=[]),
            processor=processor,
            train_dataset=[],
            eval_dataset=[],
            data_collator=None,
            generation=GenerationConfig(),
            validation_references={},
        )

    @pytest.fixture
    def inputs(self) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(0)
        return {"pixel_values": torch.randn(1, 2, 3, 32, 32, generator=generator), "clip_ids": ["clip"]}

    def exact_gradient(self, trainer: SelfCriticalTrainer, inputs: dict[str, Any]) -> Tensor:
        """Of minus the expected reward, over the expected number of tokens."""
        rows = _every_caption()
        padded = torch.tensor([row + [PAD] * (LENGTH - len(row)) for row in rows])
        mask = sampled_tokens_mask(padded, END)
        soft_prompt = trainer.captioner.encode(inputs["pixel_values"]).expand(len(rows), -1, -1)
        probability = (log_probabilities(trainer, soft_prompt, padded, 1.0) * mask).sum(dim=1).exp()
        assert probability.sum().item() == pytest.approx(1, abs=1e-4)
        captions = trainer.processor.captions(padded)
        rewards = torch.tensor(trainer.reward(captions, ["clip"] * len(rows), [END in row for row in rows]))
        assert rewards.std() > 0.1
        tokens = (probability * mask.sum(dim=1)).sum().detach()
        trainer.model.zero_grad()
        (-(probability * rewards).sum() / tokens).backward()
        return _flat({name: weight.grad for name, weight in trainer.captioner.named_parameters()})

    def test_gradient_approaches_that_of_the_expected_reward(
        self, trainer: SelfCriticalTrainer, inputs: dict[str, Any]
    ) -> None:
        exact = self.exact_gradient(trainer, inputs)
        errors = []
        # A single draw of 64 can be close by luck.
        for samples, draws in ((64, 8), (16_384, 2)):
            trainer.scst.num_samples = samples
            distances = []
            for seed in range(draws):
                torch.manual_seed(seed)
                found = _flat(gradient(trainer, inputs))
                distances.append(float((found - exact).norm() / exact.norm()))
            errors.append(sum(distances) / draws)
        # 256 times the samples: a 16th of the error, where the estimate has no bias.
        assert errors[1] < 0.1
        assert errors[1] < errors[0] / 5


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _language_model() -> OPTForCausalLM:
    sizes = {**LANGUAGE_SIZES, "vocab_size": len(VOCABULARY)}
    model = OPTForCausalLM(OPTConfig(**sizes, bos_token_id=BOS, eos_token_id=END, pad_token_id=PAD))
    for weight in model.parameters():
        if weight.dim() == 2:
            nn.init.normal_(weight, std=0.3)
    return model.eval()


def _every_caption() -> list[list[int]]:
    """All that can be sampled: up to the ending, or to the greatest length."""
    open_ended: list[list[int]] = [[]]
    finished = []
    for _ in range(LENGTH):
        longer = [[*row, token] for row in open_ended for token in VOCABULARY.values()]
        finished += [row for row in longer if row[-1] == END]
        open_ended = [row for row in longer if row[-1] != END]
    return finished + open_ended


def _flat(gradients: dict[str, Tensor | None]) -> Tensor:
    return torch.cat([value.flatten() for _, value in sorted(gradients.items()) if value is not None])


def test_every_caption_of_the_tiny_language_is_enumerated() -> None:
    assert len(_every_caption()) == 1 + 3 + 9 + 27
