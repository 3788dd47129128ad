import copy
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from rich.console import Console
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence
from toy_run import CONNECTOR_SIZES, LANGUAGE_SIZES, VISION, VISION_SIZES, Toy, make_trainer
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast, TrainingArguments

from evlvideo.config.generation import GenerationConfig
from evlvideo.config.scst import ScstConfig
from evlvideo.config.training import LearningRatesConfig
from evlvideo.data.loading.collate import visual_inputs
from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.trainable import is_lora
from evlvideo.training.run import train
from evlvideo.training.scst.policy_loss import sampled_tokens_mask
from evlvideo.training.scst.rollout import Rollout
from evlvideo.training.scst.trainer import SelfCriticalTrainer

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


def rolled_out(trainer: SelfCriticalTrainer, size: int) -> Rollout:
    """Captions of a batch."""
    inputs = batch_of(trainer, size)
    trainer.roll_out([inputs])
    rollout: Rollout = inputs["rollout"]
    return rollout


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


def test_rewards_are_asked_once_for_the_samples_of_each_clip_and_the_greedy_captions(toy: Toy, tmp_path: Path) -> None:
    reward = LengthReward()
    trainer = trainer_of(toy, tmp_path, reward, num_samples=3)
    batch = batch_of(trainer, 2)
    first, second = batch["clip_ids"]
    trainer.compute_loss(trainer.model, batch)
    assert [call[1] for call in reward.calls] == [[first] * 3 + [second] * 3 + [first, second]]


def test_rewards_are_told_which_captions_ended(toy: Toy, tmp_path: Path) -> None:
    reward = LengthReward()
    trainer = trainer_of(toy, tmp_path, reward, num_samples=20)
    rollout = rolled_out(trainer, 2)
    ((captions, _, ended, _),) = reward.calls
    assert captions[:40] == rollout.captions
    assert ended[:40] == [trainer.captioner.config.end_token_id in row for row in rollout.tokens.tolist()]
    assert len(set(ended)) == 2


@pytest.mark.parametrize("baseline", ["greedy", "loo", "mean"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_loss_is_that_of_the_formula(toy: Toy, tmp_path: Path, baseline: str, temperature: float) -> None:
    reward = LengthReward()
    trainer = trainer_of(toy, tmp_path, reward, num_samples=3, baseline=baseline, temperature=temperature)
    inputs = batch_of(trainer, 2)
    loss = trainer.compute_loss(trainer.model, inputs)

    samples = inputs["rollout"].tokens
    earned = torch.tensor(reward.calls[0][3])
    rewards, greedy = earned[:6].reshape(2, 3), earned[6:]
    soft_prompt = trainer.captioner.encode(**visual_inputs(inputs))
    total, tokens = 0.0, 0
    for clip in range(2):
        for place in range(3):
            others = [rewards[clip, other] for other in range(3) if other != place]
            against = {"greedy": greedy[clip], "loo": sum(others) / 2, "mean": rewards[clip].mean()}[baseline]
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
    toy: Toy, tmp_path: Path, temperature: float
) -> None:
    draws = 4000
    trainer = trainer_of(toy, tmp_path, LengthReward(), num_samples=draws, temperature=temperature, max_new_tokens=1)
    torch.manual_seed(0)
    inputs = batch_of(trainer, 1)
    trainer.roll_out([inputs])
    vocabulary = trainer.captioner.config.text_config.vocab_size
    samples = inputs["rollout"].tokens
    frequency = torch.bincount(samples[:, 0], minlength=vocabulary) / draws

    soft_prompt = trainer.captioner.encode(**visual_inputs(inputs)).expand(vocabulary, -1, -1)
    every_token = torch.arange(vocabulary).unsqueeze(1)
    probability = log_probabilities(trainer, soft_prompt, every_token, temperature)[:, 0].exp()
    assert probability.sum().item() == pytest.approx(1, abs=1e-4)
    chance = (probability * (1 - probability) / draws).sqrt()
    assert ((frequency - probability).abs() < 5 * chance + 1 / draws).all()
    assert (frequency - probability).abs().sum() < 2 * chance.sum()


def test_no_token_is_cut_off_by_transformers_defaults(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, LengthReward(), num_samples=500, temperature=50.0, max_new_tokens=1)
    assert len(rolled_out(trainer, 1).tokens.unique()) > 200  # of 420; transformers' top_k would leave 50


def test_a_step_makes_better_samples_likelier(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, LengthReward(), num_samples=6)
    inputs = batch_of(trainer, 1)
    step = gradient(trainer, inputs)
    samples, rewards = inputs["rollout"].tokens, inputs["rollout"].rewards[0]
    mask = sampled_tokens_mask(samples, trainer.captioner.config.end_token_id)

    def gain() -> Tensor:
        with torch.no_grad():
            soft_prompt = trainer.captioner.encode(**visual_inputs(inputs)).expand(6, -1, -1)
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
    rollouts: list[Rollout] = []
    original = trainer.compute_loss

    def compute_loss(model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        rollouts.append(inputs["rollout"])
        return original(model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer, "compute_loss", compute_loss)
    monkeypatch.setattr(trainer, "evaluate", lambda *args, **kwargs: {"eval_cider": 0.0})
    trainer.train()
    line = next(entry for entry in trainer.state.log_history if "loss" in entry)

    sampled = [torch.tensor(call[3][:16]).reshape(4, 4) for call in reward.calls]
    greedy = [torch.tensor(call[3][16:]) for call in reward.calls]
    tokens = [rollout.tokens for rollout in rollouts]
    end = trainer.captioner.config.end_token_id
    assert len(sampled) == len(tokens) == 2

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
    trainer.means.add("reward", 4.0, 2)
    trainer.log({"loss": 0.0})
    trainer.means.add("reward", 5.0, 1)
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


def test_a_clip_is_encoded_and_its_prompt_read_once_a_step(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, LengthReward(), num_samples=3, max_new_tokens=4)
    encoded: list[int] = []
    read: list[tuple[int, ...]] = []
    trainer.captioner.connector.register_forward_pre_hook(lambda module, inputs: encoded.append(len(inputs[0])))
    layers = trainer.captioner.language_model.model.decoder.layers
    layers[0].register_forward_pre_hook(lambda module, inputs: read.append(tuple(inputs[0].shape[:2])))
    inputs = batch_of(trainer, 2)
    trainer.compute_loss(trainer.model, inputs)
    assert encoded == [2]
    soft_tokens, length = inputs["prompt"].embeddings.shape[1], inputs["rollout"].tokens.shape[1]
    drawn = [(2 * (3 + 1), 2), *[(2 * (3 + 1), 1)] * (length - 1)]
    assert read == [(2, soft_tokens - 1), *drawn, (2 * 3, 1 + length)]


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"contextualizer": "in_tower"},
        {"fusion": "concat", "contextualizer": "merged"},
        {"connector": "videochat", "connector_options": {"relation_blocks": 1, "relation_heads": 4}},
    ],
)
def test_accumulated_batches_have_the_gradient_of_one(toy: Toy, tmp_path: Path, model: dict[str, Any]) -> None:
    config = toy.config(
        tmp_path,
        run={"stage": "scst"},
        model=model,
        scst={"candidates": "beams", "kl_weight": 0.1, "cross_entropy_weight": 0.3},
    )
    trainer = make_trainer(config, SpellingReward())
    assert isinstance(trainer, SelfCriticalTrainer)
    move_from_start(trainer)
    items = [trainer.train_dataset[place] for place in range(0, 40, 10)]  # type: ignore[index]
    whole = gradient(trainer, trainer.data_collator(items))

    trainer.model.zero_grad()
    batches = [trainer.data_collator(items[:1]), trainer.data_collator(items[1:])]
    trainer.roll_out(batches)
    assert len({int(batch["rollout"].mask.sum()) for batch in batches}) == 2
    for batch in batches:
        trainer.compute_loss(trainer.model, batch).backward()
    for name, weight in trainer.captioner.named_parameters():
        if name in whole:
            torch.testing.assert_close(weight.grad, whole[name], atol=1e-5, rtol=1e-3, msg=name)


def move_from_start(trainer: SelfCriticalTrainer) -> None:
    """To where the divergence from the start has a gradient."""
    with torch.no_grad():
        trainer.captioner.language_projection.weight.mul_(1.2)


def test_the_loss_is_shared_with_cross_entropy(toy: Toy, tmp_path: Path) -> None:
    weight = 0.3
    trainer = trainer_of(toy, tmp_path, SpellingReward(), candidates="beams", cross_entropy_weight=weight)
    inputs = batch_of(trainer, 3)
    assert "labels" in inputs
    found = trainer.compute_loss(trainer.model, inputs)
    texts = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
    cross_entropy = trainer.captioner(**visual_inputs(inputs), **texts).loss
    trainer.scst = replace(trainer.scst, cross_entropy_weight=0.0)
    policy = trainer.compute_loss(trainer.model, batch_of(trainer, 3))
    torch.testing.assert_close(found, (1 - weight) * policy + weight * cross_entropy)
    trainer.log({"loss": 0.0})
    assert trainer.state.log_history[-1]["cross_entropy"] == pytest.approx(cross_entropy.item(), rel=1e-4)


def test_the_divergence_is_finite_where_the_nuclei_differ(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, SpellingReward(), top_p=0.5, kl_weight=0.5)
    move_from_start(trainer)
    found = gradient(trainer, batch_of(trainer, 4))
    assert all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize("model", [{}, {"contextualizer": "in_tower"}, {"lora_r": 2}])
def test_the_divergence_is_from_the_model_that_the_run_started_from(
    toy: Toy, tmp_path: Path, model: dict[str, Any]
) -> None:
    config = toy.config(
        tmp_path, run={"stage": "scst"}, model=model, scst={"candidates": "beams", "kl_weight": 0.5, "num_samples": 2}
    )
    trainer = make_trainer(config, lambda captions, clip_ids, ended: [1.0] * len(captions))
    assert isinstance(trainer, SelfCriticalTrainer)
    start = copy.deepcopy(trainer.captioner)
    assert trainer.compute_loss(trainer.model, batch_of(trainer, 2)).item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for weight in trainer.captioner.parameters():
            if weight.requires_grad:
                weight.add_(0.02 * torch.randn_like(weight))
    inputs = batch_of(trainer, 2)
    loss = trainer.compute_loss(trainer.model, inputs)

    rollout = inputs["rollout"]
    opening = torch.full((len(rollout.tokens), 1), trainer.processor.bos_token_id)
    text = torch.cat([opening, rollout.tokens], dim=1)
    now, then = (
        Categorical(
            logits=captioner(**visual_inputs(inputs), input_ids=text, attention_mask=torch.ones_like(text)).logits[
                :, -text.shape[1] : -1
            ]
        )
        for captioner in (trainer.captioner, start)
    )
    expected = kl_divergence(now, then)[rollout.mask].mean()
    assert expected > 0.001
    torch.testing.assert_close(loss, 0.5 * expected, atol=1e-5, rtol=1e-3)


def test_lora_is_trained_self_critically(toy: Toy, tmp_path: Path) -> None:
    config = toy.config(
        tmp_path, run={"stage": "scst"}, model={"lora_r": 2}, training={"max_steps": 2, "eval_steps": 2}
    )
    trainer = make_trainer(config, LengthReward())
    before = {name: weight.clone() for name, weight in trainer.captioner.named_parameters()}
    trainer.train()
    changed = {name for name, weight in trainer.captioner.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == {name for name, weight in trainer.captioner.named_parameters() if weight.requires_grad}
    assert any(is_lora(name) for name in changed)


def test_a_collapse_is_named_and_the_run_goes_on(toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = trainer_of(toy, tmp_path, lambda captions, clip_ids, ended: [0.0] * len(captions))
    trainer.compute_loss(trainer.model, batch_of(trainer, 2))
    trainer.log({"loss": 0.0})
    assert "100% of samples have no advantage" in caplog.text
    assert "may not have learned to caption" in caplog.text


def test_a_collapse_stops_the_run_where_it_is_to(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, lambda captions, clip_ids, ended: [1.0] * len(captions), stop_on_collapse=True)
    trainer.compute_loss(trainer.model, batch_of(trainer, 2))
    with pytest.raises(UserError, match=r"samples of a clip are all the same.*scst\.stop_on_collapse"):
        trainer.log({"loss": 0.0})
    assert trainer.state.log_history  # the line is written all the same


@pytest.mark.needs_cuda
@pytest.mark.parametrize(
    ("precision", "accumulated", "scst"),
    [
        ("fp32", 1, {}),
        ("bf16", 1, {}),
        ("bf16", 2, {"candidates": "beams", "baseline": "greedy"}),
        ("bf16", 1, {"temperature": 0.9, "top_p": 0.9}),
        ("bf16", 2, {"kl_weight": 0.1, "cross_entropy_weight": 0.1}),
    ],
)
def test_steps_on_a_gpu(toy: Toy, tmp_path: Path, precision: str, accumulated: int, scst: dict[str, Any]) -> None:
    config = toy.config(
        tmp_path / "run",
        run={"stage": "scst"},
        model={"fusion": "mean", "contextualizer": "in_tower"},
        training={
            "max_steps": 2,
            "eval_steps": 2,
            "precision": precision,
            "batch_size": 2,
            "gradient_accumulation_steps": accumulated,
        },
        scst=scst,
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
            learning_rates=LearningRatesConfig(),
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
        soft_prompt = trainer.captioner.encode(**visual_inputs(inputs)).expand(len(rows), -1, -1)
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
                trainer.args.seed = seed
                found = _flat(gradient(trainer, dict(inputs)))
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
