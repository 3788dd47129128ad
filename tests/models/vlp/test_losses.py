"""Losses of vision-language pre-training, against their formulas."""

import pytest
import torch
from torch.nn import functional as F

from evlvideo.models.vlp.losses import (
    IGNORED,
    language_loss,
    masked_language_loss,
    matching_loss,
    paired_contrast,
    soft_contrast,
)
from evlvideo.models.vlp.masking import mask_words


def test_contrast_mixes_the_own_pair_with_the_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    similarities, teacher = torch.randn(2, 3, 7, generator=generator)
    own = torch.tensor([2, 0, 5])
    targets = 0.4 * teacher.softmax(dim=1) + 0.6 * F.one_hot(own, 7)
    expected = -(similarities.log_softmax(dim=1) * targets).sum(dim=1).mean()
    torch.testing.assert_close(soft_contrast(similarities, teacher, own, 0.4), expected)


def test_contrast_without_a_teacher_is_cross_entropy() -> None:
    similarities = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    found = soft_contrast(similarities, torch.zeros(4, 6), torch.arange(4), 0.0)
    torch.testing.assert_close(found, F.cross_entropy(similarities, torch.arange(4)))


def test_contrast_gives_the_teacher_no_gradient() -> None:
    similarities, teacher = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    soft_contrast(similarities, teacher, torch.arange(2), 0.5).backward()
    assert similarities.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_are_float32(dtype: torch.dtype) -> None:
    similarities = torch.full((2, 3), 300.0, dtype=dtype)
    assert soft_contrast(similarities, similarities, torch.arange(2), 0.4).dtype == torch.float32
    features = F.normalize(torch.ones(2, 4), dim=-1).to(dtype)
    assert paired_contrast(features, features, torch.tensor(100.0)).dtype == torch.float32
    assert language_loss(torch.zeros(1, 3, 5, dtype=dtype), torch.ones(1, 3).long(), 0.1).dtype == torch.float32


def test_matching_counts_the_first_pairs_as_right() -> None:
    logits = torch.tensor([[-9.0, 9.0], [9.0, -9.0], [9.0, -9.0]])
    assert matching_loss(logits, 1) < 1e-6
    assert matching_loss(logits, 3) > 5


def test_masked_words_have_the_teachers_words_as_soft_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 1, 4, 6, generator=generator)
    labels = torch.tensor([[IGNORED, 3, IGNORED, 5]])
    masked = logits[0, [1, 3]]
    hard = F.cross_entropy(masked, torch.tensor([3, 5]))
    soft = -(masked.log_softmax(dim=-1) * teacher[0, [1, 3]].softmax(dim=-1)).sum(dim=-1).mean()
    torch.testing.assert_close(masked_language_loss(logits, labels, teacher, 0.4), 0.6 * hard + 0.4 * soft)
    torch.testing.assert_close(masked_language_loss(logits, labels, None, 0.0), hard)


def test_a_batch_without_masked_words_costs_nothing() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = masked_language_loss(logits, torch.full((2, 3), IGNORED), logits.detach(), 0.4)
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_language_predicts_the_next_token() -> None:
    logits = torch.full((1, 3, 4), -20.0)
    logits[0, 0, 2] = logits[0, 1, 3] = 20.0
    assert language_loss(logits, torch.tensor([[1, 2, 3]]), 0.0) < 1e-6
    assert language_loss(logits, torch.tensor([[1, 2, IGNORED]]), 0.1) > 0.1


def test_words_are_masked_as_in_bert() -> None:
    ids = torch.randint(5, 50, (200, 40), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, 30:] = 2, 0
    masked = mask_words(
        ids, share=0.15, mask_id=4, vocabulary=50, kept=(0, 2), generator=torch.Generator().manual_seed(1)
    )
    chosen = masked.labels != IGNORED
    assert not chosen[:, 0].any()
    assert not chosen[:, 30:].any()
    assert torch.equal(masked.labels[chosen], ids[chosen])
    assert torch.equal(masked.input_ids[~chosen], ids[~chosen])
    assert chosen[:, 1:30].float().mean() == pytest.approx(0.15, abs=0.02)
    assert (masked.input_ids[chosen] == 4).float().mean() == pytest.approx(0.8, abs=0.05)
    assert (masked.input_ids[chosen] == ids[chosen]).float().mean() == pytest.approx(0.1, abs=0.04)
