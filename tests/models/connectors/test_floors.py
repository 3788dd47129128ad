"""Connectors that do next to nothing."""

import torch
from tiny_connectors import BERT, GRID, NUM_TOKENS, TOWER, VISION_DIM
from tiny_models import chirp

from evlvideo.models.connectors.average_pool import AveragePool, AveragePoolOptions
from evlvideo.models.connectors.base import NoOptions
from evlvideo.models.connectors.linear import EveryToken


def test_every_token_comes_out_as_it_is() -> None:
    x = chirp(2, 3, NUM_TOKENS, VISION_DIM)
    assert EveryToken(BERT, TOWER, NoOptions())(x) is x
    assert EveryToken(BERT, TOWER, NoOptions()).num_output_tokens(NUM_TOKENS) == NUM_TOKENS


def test_patches_are_averaged_by_squares_and_the_class_token_is_kept() -> None:
    x = chirp(2, 3, NUM_TOKENS, VISION_DIM)
    pooled = AveragePool(BERT, TOWER, AveragePoolOptions(side=2))(x)
    assert torch.equal(pooled[:, :, 0], x[:, :, 0])
    patches = x[:, :, 1:].unflatten(2, GRID)
    torch.testing.assert_close(pooled[:, :, 1], patches[:, :, :2, :2].mean(dim=(2, 3)))
    torch.testing.assert_close(pooled[:, :, 2], patches[:, :, :2, 2:].mean(dim=(2, 3)))
    torch.testing.assert_close(pooled[:, :, 3], patches[:, :, 2:, :2].mean(dim=(2, 3)))


def test_a_tower_without_a_class_token_gives_a_square_alone() -> None:
    pool = AveragePool(BERT, TOWER, AveragePoolOptions(side=3))
    assert pool(chirp(1, 2, 16, VISION_DIM)).shape == (1, 2, 9, VISION_DIM)
    assert (pool.num_output_tokens(16), pool.num_output_tokens(17)) == (9, 10)
