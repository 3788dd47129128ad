"""SmolVLM's connector gives what transformers' own SmolVLM and Idefics3 give."""

import pytest
import torch
from tiny_connectors import BERT, NUM_TOKENS, TOWER, VISION_DIM, changes
from tiny_models import MakeModel, chirp, fill
from torch import nn
from transformers import Idefics3Config, LlamaConfig, SmolVLMConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMConnector

from evlvideo.errors import UserError
from evlvideo.models.connectors.base import TowerShape
from evlvideo.models.connectors.pixel_shuffle import PixelShuffle, PixelShuffleOptions
from evlvideo.models.trainable import trained_part

WIDTH = 40
"""Of the toy's language model."""


def theirs(kind: type[nn.Module], factor: int) -> nn.Module:
    """transformers' connector between the toy's tower and its language model."""
    config = {Idefics3Connector: Idefics3Config, SmolVLMConnector: SmolVLMConfig}[kind](
        vision_config={"hidden_size": VISION_DIM},
        text_config=LlamaConfig(hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=4),
        scale_factor=factor,
    )
    return fill(kind(config)).eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", [Idefics3Connector, SmolVLMConnector])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_soft_prompt_is_transformers(make_model: MakeModel, kind: type[nn.Module], factor: int) -> None:
    expected = theirs(kind, factor)
    model = make_model(**changes("pixel_shuffle", connector_options={"scale_factor": factor}, fusion="concat"))
    model.language_projection.weight.copy_(expected.modality_projection.proj.weight)
    model.language_projection.bias.zero_()
    features = chirp(2, 3, NUM_TOKENS, VISION_DIM)
    patches = model.ln_vision(features)[:, :, 1:].flatten(0, 1)  # the class token is dropped
    ours = model.features_to_prompt(features)
    assert ours.shape == (2, 3 * 16 // factor**2, WIDTH)
    torch.testing.assert_close(ours, expected(patches).unflatten(0, (2, 3)).flatten(1, 2))


@pytest.mark.parametrize("factor", [2, 3, 6])
def test_values_are_moved_as_transformers_moves_them(factor: int) -> None:
    tower = TowerShape(5, 36, (6, 6), class_token=False)
    x = chirp(2, 3, 36, 5)
    expected = theirs(Idefics3Connector, factor).pixel_shuffle(x.flatten(0, 1), factor).unflatten(0, (2, 3))
    assert torch.equal(PixelShuffle(BERT, tower, PixelShuffleOptions(factor))(x), expected)


def test_rows_and_columns_may_differ() -> None:
    connector = PixelShuffle(BERT, TowerShape(1, 9, (2, 4), class_token=True), PixelShuffleOptions())
    # Class token, then two rows of patches.
    x = torch.tensor([-1, 0, 1, 2, 3, 10, 11, 12, 13]).view(1, 1, 9, 1)
    assert connector(x).tolist() == [[[[0, 1, 10, 11], [2, 3, 12, 13]]]]
    assert connector.num_output_tokens(9) == 2


@pytest.mark.parametrize(
    ("grid", "factor", "allowed"),
    [((14, 14), 4, "1, 2, 7, 14"), ((7, 7), 2, "1, 7"), ((27, 27), 2, "1, 3, 9, 27"), ((4, 6), 4, "1, 2")],
)
def test_a_factor_that_does_not_fit_is_told_with_those_that_do(
    grid: tuple[int, int], factor: int, allowed: str
) -> None:
    tower = TowerShape(VISION_DIM, grid[0] * grid[1] + 1, grid, class_token=True)
    with pytest.raises(UserError, match=rf"scale_factor is {factor}, .*{grid[0]} × {grid[1]}.*allowed: {allowed}\.$"):
        PixelShuffle(BERT, tower, PixelShuffleOptions(factor))


def test_all_that_is_trained_has_the_learning_rate_of_projections(make_model: MakeModel) -> None:
    model = make_model(**changes("pixel_shuffle"))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {trained_part(name) for name in trained} == {"projections"}
    assert not list(PixelShuffle(BERT, TOWER, PixelShuffleOptions()).parameters())
