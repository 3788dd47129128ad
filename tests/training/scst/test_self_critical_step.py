"""What a self-critical step costs, and what it draws however it is shared out."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sync_counter import SyncCounter
from toy_run import Toy, make_trainer

from evlvideo.training.scst.trainer import SelfCriticalTrainer

TOKENS = 12
GENERATION = "utils.py"
"""transformers' generation: it looks at the special tokens at the start, and after every token whether all ended."""


class Reward:
    """Some number for every caption; notes of how many it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, captions: Sequence[str], clip_ids: Sequence[str], ended: Sequence[bool]) -> list[float]:
        self.asked.append(len(captions))
        return [len(caption) * 0.37 % 1 for caption in captions]


def trainer_of(toy: Toy, directory: Path, model: dict[str, Any] | None = None, **scst: Any) -> SelfCriticalTrainer:
    scst = {"num_samples": 3, "max_new_tokens": TOKENS, **scst}
    trainer = make_trainer(toy.config(directory, run={"stage": "scst"}, model=model or {}, scst=scst), Reward())
    assert isinstance(trainer, SelfCriticalTrainer)
    return trainer


def batches_of(trainer: SelfCriticalTrainer, *sizes: int) -> list[dict[str, Any]]:
    items = iter([trainer.train_dataset[place] for place in range(sum(sizes))])  # type: ignore[index]
    return [trainer.data_collator([next(items) for _ in range(size)]) for size in sizes]


def step(trainer: SelfCriticalTrainer, batches: list[dict[str, Any]]) -> None:
    trainer._batches = batches
    for batch in batches:
        trainer.training_step(trainer.model, batch)


def test_all_batches_of_a_step_are_drawn_in_one_go_and_rewarded_in_one_call(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(toy, tmp_path)
    drawn: list[int] = []
    generate = trainer.captioner.language_model.generate

    def noting(*, inputs_embeds: Any, **others: Any) -> Any:
        drawn.append(len(inputs_embeds))
        return generate(inputs_embeds=inputs_embeds, **others)

    monkeypatch.setattr(trainer.captioner.language_model, "generate", noting)
    step(trainer, batches_of(trainer, 2, 2, 1))
    assert drawn == [5 * (3 + 1)]
    assert isinstance(trainer.reward, Reward) and trainer.reward.asked == [5 * (3 + 1)]


def test_a_step_draws_the_same_captions_however_its_batches_are_cut(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, temperature=2.0)

    def captions(*sizes: int) -> list[str]:
        batches = batches_of(trainer, *sizes)
        trainer.args.per_device_train_batch_size = sizes[0]
        trainer.roll_out(batches)
        return [caption for batch in batches for caption in batch["rollout"].captions]

    whole = captions(4)
    assert len(set(whole)) > 6
    assert captions(2, 2) == captions(1, 1, 1, 1) == whole
    trainer.state.global_step += 1
    assert captions(4) != whole


def test_a_clip_that_is_twice_in_a_step_is_drawn_twice(toy: Toy, tmp_path: Path) -> None:
    trainer = trainer_of(toy, tmp_path, temperature=2.0)
    item = trainer.train_dataset[0]  # type: ignore[index]
    batch = trainer.data_collator([item, item])
    trainer.roll_out([batch])
    captions = batch["rollout"].captions
    assert captions[:3] != captions[3:]


@pytest.mark.parametrize("sizes", [(4,), (2, 2)])
def test_a_frozen_tower_sees_every_clip_once_a_step_also_for_the_divergence(
    toy: Toy, tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    trainer = trainer_of(toy, tmp_path, kl_weight=0.1)
    seen: list[int] = []
    trainer.captioner.vision_tower.register_forward_pre_hook(lambda tower, inputs: seen.append(len(inputs[0])))
    step(trainer, batches_of(trainer, *sizes))
    assert seen == list(sizes)


@pytest.mark.parametrize("scst", [{}, {"top_p": 0.9, "kl_weight": 0.1, "cross_entropy_weight": 0.3}])
def test_a_step_waits_for_the_device_only_to_draw_and_to_read_its_captions(
    toy: Toy, tmp_path: Path, scst: dict[str, Any]
) -> None:
    trainer = trainer_of(toy, tmp_path, **scst)
    batches = batches_of(trainer, 2, 2)
    with SyncCounter() as counter:
        step(trainer, batches)
    ours: Counter[str] = Counter()
    for site, count in counter.sites.items():
        ours[site.split()[1]] += 0 if site.startswith(GENERATION) else count
    assert +ours == {
        "_before_ending": 1,  # the tokens, as text; they are in the program's memory then
        "roll_out": 2,  # of the same tokens, which ended and how long they are
    }
    # One for each token that is drawn, so that drawing stops where all captions have ended, and three to start.
    assert counter.count - ours.total() <= 3 + TOKENS
