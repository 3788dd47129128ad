"""Estimates of the self-critical stage are those of its trainer's real step."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from toy_run import Toy, make_trainer

from evlvideo.config.run import RunConfig
from evlvideo.estimate import activations, run_costs
from evlvideo.estimate.activations import saved_bytes
from evlvideo.estimate.counting import count_multiply_adds
from evlvideo.estimate.run_costs import estimate_run
from evlvideo.training.scst.trainer import SelfCriticalTrainer

FORMS: dict[str, dict[str, Any]] = {
    "mean": {"fusion": "mean"},
    "in_tower": {"fusion": "mean", "contextualizer": "in_tower"},
    "merged": {"fusion": "mean_tokens", "contextualizer": "merged"},
}
NEVER = 10**6
"""An EOS token that no caption has, so that all run to their last token."""


def some_reward(captions: Sequence[str], clip_ids: Sequence[str], ended: Sequence[bool]) -> list[float]:
    return [len(caption) * 0.37 % 1 for caption in captions]


def config_of(toy: Toy, directory: Path, form: str, **scst: Any) -> RunConfig:
    scst = {"num_samples": 3, "max_new_tokens": 9, **scst}
    return toy.config(directory, run={"stage": "scst"}, model=FORMS[form], scst=scst)


def trainer_and_batch(config: RunConfig) -> tuple[SelfCriticalTrainer, dict[str, Any]]:
    trainer = make_trainer(config, some_reward)
    assert isinstance(trainer, SelfCriticalTrainer)
    trainer.captioner.config.end_token_id = NEVER
    items = [trainer.train_dataset[place] for place in range(config.training.batch_size)]  # type: ignore[index]
    return trainer, trainer.data_collator(items)


@pytest.mark.parametrize(
    ("form", "changes"),
    [*((form, {}) for form in FORMS), *((form, {"kl_weight": 0.1}) for form in ("mean", "in_tower"))],
)
def test_training_and_sampling_equal_a_count_of_a_real_step(
    toy: Toy, tmp_path: Path, form: str, changes: dict[str, Any]
) -> None:
    config = config_of(toy, tmp_path, form, **changes)
    trainer, batch = trainer_and_batch(config)
    trainer._batches = [batch]
    counted, _ = count_multiply_adds(lambda: trainer.training_step(trainer.model, batch))
    costs = estimate_run(config)
    assert costs.sampling_clip is not None
    assert costs.training_batch.total + config.training.batch_size * costs.sampling_clip.total == counted


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("changes", [{}, {"cross_entropy_weight": 0.2}, {"kl_weight": 0.1}])
def test_what_is_kept_is_what_a_real_step_keeps(
    toy: Toy, tmp_path: Path, form: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain() -> AbstractContextManager[None]:
        return sdpa_kernel(SDPBackend.MATH)

    monkeypatch.setattr(activations, "_FusedAttention", plain)
    # Remembered estimates are with fused attention.
    monkeypatch.setattr(run_costs, "_estimate", run_costs._estimate.__wrapped__)
    config = config_of(toy, tmp_path, form, **changes)
    trainer, batch = trainer_and_batch(config)
    if "input_ids" in batch:  # with cross-entropy, the step reads references too, which are shorter here
        monkeypatch.setattr(run_costs, "MAX_TEXT_TOKENS", batch["input_ids"].shape[1])
    real = saved_bytes(trainer.captioner, lambda: trainer.compute_loss(trainer.model, batch), None)
    # Beside them, a real step keeps the tokens and its few numbers for each of them.
    assert estimate_run(config).memory.activations == pytest.approx(real, rel=0.005)


def test_the_weights_that_a_divergence_compares_with_are_in_memory(toy: Toy, tmp_path: Path) -> None:
    plain, compared = (estimate_run(config_of(toy, tmp_path, "mean", kl_weight=weight)) for weight in (0.0, 0.1))
    trainer, _ = trainer_and_batch(config_of(toy, tmp_path, "mean", kl_weight=0.1))
    held = sum(weight.numel() * weight.element_size() for weight in trainer._start.values())
    assert (plain.memory.start, compared.memory.start) == (0, held) and held > 0
    assert compared.memory.total >= plain.memory.total + held


def test_captioning_is_that_of_an_evaluation(toy: Toy, tmp_path: Path) -> None:
    sampled, plain = config_of(toy, tmp_path, "mean"), toy.config(tmp_path, model=FORMS["mean"])
    assert estimate_run(sampled).captioning_clip == estimate_run(plain).captioning_clip
    assert estimate_run(plain).sampling_clip is None and estimate_run(plain).sampling_cache == 0
