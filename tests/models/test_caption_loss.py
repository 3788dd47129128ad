"""Cross-entropy over the targets of a batch."""

import torch
from tiny_models import chirp
from torch import Tensor

from evlvideo.models.language import caption_loss


def loss_by_loops(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Sum over the targets, and their count; the last soft token predicts the first text token."""
    total, count = torch.zeros(()), 0
    first = logits.shape[1] - labels.shape[1]
    for row in range(labels.shape[0]):
        for index, target in enumerate(labels[row].tolist()):
            if target != -100:
                total = total - logits[row, first + index - 1].log_softmax(dim=-1)[target]
                count += 1
    return total, count


def test_caption_loss_is_the_mean_over_targets() -> None:
    logits, labels = chirp(2, 10, 12, scale=3), torch.tensor([[2, 7, 5, -100], [2, 5, -100, -100]])
    total, count = loss_by_loops(logits, labels)
    assert count == 5
    torch.testing.assert_close(caption_loss(logits, labels), total / 5)


def test_caption_loss_of_accumulated_batches_is_that_of_the_whole() -> None:
    logits, labels = chirp(2, 10, 12, scale=3), torch.tensor([[2, 7, 5, -100], [2, 5, -100, -100]])
    parts = sum(caption_loss(logits[[row]], labels[[row]], torch.tensor(5)) for row in range(2))
    torch.testing.assert_close(parts, caption_loss(logits, labels))


def test_caption_loss_is_computed_in_float32() -> None:
    logits, labels = chirp(2, 6, 12, scale=3).bfloat16(), torch.tensor([[2, 7, 5]] * 2)
    loss = caption_loss(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, caption_loss(logits.float(), labels), rtol=0, atol=0)
