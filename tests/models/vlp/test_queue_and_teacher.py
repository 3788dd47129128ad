"""The queue of features and the momentum teacher."""

import torch
from torch import Tensor, nn

from evlvideo.models.vlp.momentum import follow, teacher_of
from evlvideo.models.vlp.queue import FeatureQueue


def numbered(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)


def queue_of(places: int) -> FeatureQueue:
    queue = FeatureQueue(places, 1, torch.Generator())
    queue.images.zero_()
    queue.texts.zero_()
    return queue


def test_the_queue_starts_with_the_same_unit_vectors_everywhere() -> None:
    first, second = (FeatureQueue(5, 8, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.images, second.images)
    torch.testing.assert_close(first.texts.norm(dim=1), torch.ones(5))
    assert not torch.equal(first.images, first.texts)


def test_new_features_replace_the_oldest_and_wrap() -> None:
    queue = queue_of(5)
    for numbers in ((1, 2, 3), (4, 5, 6), (7,)):
        queue.push(numbered(*numbers), -numbered(*numbers))
    assert queue.images.flatten().tolist() == [6, 7, 3, 4, 5]
    assert torch.equal(queue.texts, -queue.images)
    assert queue.place == 2


def test_a_batch_larger_than_the_queue_leaves_its_last_features() -> None:
    queue = queue_of(3)
    queue.push(numbered(1, 2), numbered(1, 2))
    queue.push(numbered(*range(3, 11)), numbered(*range(3, 11)))
    one_by_one = queue_of(3)
    for number in range(1, 11):
        one_by_one.push(numbered(number), numbered(number))
    assert torch.equal(queue.images, one_by_one.images)
    assert queue.place == one_by_one.place


def test_a_queue_of_no_places_keeps_nothing() -> None:
    queue = queue_of(0)
    queue.push(numbered(1, 2), numbered(1, 2))
    assert queue.images.shape == (0, 1)


def test_a_teacher_follows_by_its_momentum_and_takes_no_gradient() -> None:
    model = nn.ModuleDict({"kept": nn.Linear(2, 2), "left": nn.Linear(2, 2)})
    holder = nn.Module()
    holder.kept, holder.left = model["kept"], model["left"]
    teacher = teacher_of(holder, without=("left",))
    before = teacher.kept.weight.clone()
    with torch.no_grad():
        holder.kept.weight.add_(1.0)
    follow(teacher, holder, 0.9)
    torch.testing.assert_close(teacher.kept.weight, before + 0.1)
    assert [name for name, _ in teacher.named_parameters()] == ["kept.weight", "kept.bias"]
    assert not any(weight.requires_grad for weight in teacher.parameters())
    assert holder.left.weight.requires_grad
