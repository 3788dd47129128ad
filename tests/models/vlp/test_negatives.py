"""Hard negatives: their weights, their draws and their generator."""

import pytest
import torch

from evlvideo.models.vlp.negatives import draw_negatives, negative_weights


def test_weights_are_the_softmax_without_the_own_column() -> None:
    similarities = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    weights = negative_weights(similarities, torch.tensor([1, 2]), floor=1e-4)
    softmax = similarities.softmax(dim=1) + 1e-4
    torch.testing.assert_close(weights, softmax * torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))


def test_own_columns_are_never_drawn() -> None:
    own = torch.tensor([2, 0, 3, 1, 4])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_negatives(torch.eye(5)[own] * 9, own, generator) for _ in range(100)])
    assert not (drawn == own).any()
    assert drawn.unique().tolist() == [0, 1, 2, 3, 4]


def test_similar_columns_are_drawn_more_often() -> None:
    similarities = torch.tensor([[0.0, 5.0, 0.0, 0.0]]).expand(200, -1)
    drawn = draw_negatives(similarities, torch.zeros(200, dtype=torch.long), torch.Generator().manual_seed(0))
    assert (drawn == 1).float().mean() > 0.9


def test_a_generator_repeats_its_draws_and_leaves_the_global_one() -> None:
    similarities, own = torch.zeros(8, 8), torch.arange(8)
    before = torch.get_rng_state()
    first, second = (draw_negatives(similarities, own, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_sure_row_still_has_negatives(dtype: torch.dtype) -> None:
    similarities = torch.tensor([[1000.0, 0.0, 0.0]], dtype=dtype)
    assert draw_negatives(similarities, torch.tensor([0]), torch.Generator().manual_seed(0)).item() in (1, 2)


def test_a_single_column_has_no_negative() -> None:
    with pytest.raises(ValueError, match="1 column has no negatives"):
        draw_negatives(torch.zeros(1, 1), torch.tensor([0]))
