"""LLaVA-1.5's two layers give what transformers' own projector gives."""

import pytest
import torch
from tiny_connectors import BERT, NUM_TOKENS, TOWER, VISION_DIM, changes
from tiny_models import MakeModel, chirp, fill
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, OPTConfig
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors.base import TowerShape
from evlvideo.models.connectors.mlp import Mlp, MlpOptions
from evlvideo.models.trainable import trained_part

WIDTH = 40
"""Of the toy's language model."""


@pytest.fixture(scope="module")
def projector() -> LlavaMultiModalProjector:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=VISION_DIM),
        text_config=LlamaConfig(hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=4),
    )
    return fill(LlavaMultiModalProjector(config)).eval()  # type: ignore[return-value]


@torch.no_grad()
def test_soft_prompt_is_transformers_llavas(make_model: MakeModel, projector: LlavaMultiModalProjector) -> None:
    model = make_model(**changes("mlp", fusion="concat"))
    model.connector.projection.load_state_dict(projector.linear_1.state_dict())
    model.language_projection.load_state_dict(projector.linear_2.state_dict())
    features = chirp(2, 3, NUM_TOKENS, VISION_DIM)
    patches = model.ln_vision(features)[:, :, 1:].flatten(1, 2)  # the class token is dropped
    torch.testing.assert_close(model.features_to_prompt(features), projector(patches))


def test_number_of_weights_is_transformers_llavas(make_model: MakeModel, projector: LlavaMultiModalProjector) -> None:
    model = make_model(**changes("mlp"))
    ours = [*model.connector.parameters(), *model.language_projection.parameters()]
    assert [weight.shape for weight in ours] == [weight.shape for weight in projector.parameters()]


def test_class_token_can_be_kept() -> None:
    x = chirp(2, 3, NUM_TOKENS, VISION_DIM)
    kept = fill(Mlp(BERT, TOWER, MlpOptions(keep_class_token=True), language_width=WIDTH))
    dropped = fill(Mlp(BERT, TOWER, MlpOptions(), language_width=WIDTH))
    assert torch.equal(kept(x)[:, :, 1:], dropped(x))
    assert (kept.num_output_tokens(NUM_TOKENS), dropped.num_output_tokens(NUM_TOKENS)) == (NUM_TOKENS, 16)


def test_registers_are_dropped_and_a_tower_without_a_class_token_keeps_all() -> None:
    with_registers, bare = (TowerShape(VISION_DIM, tokens, (4, 4), class_token=tokens > 16) for tokens in (21, 16))
    for tower in (with_registers, bare):
        connector = Mlp(BERT, tower, MlpOptions(), language_width=WIDTH)
        assert connector(chirp(1, 1, tower.num_tokens, VISION_DIM)).shape == (1, 1, 16, WIDTH)
        assert connector.num_output_tokens(tower.num_tokens) == 16


def test_width_between_the_layers_can_be_chosen(make_model: MakeModel) -> None:
    model = make_model(**changes("mlp", connector_options={"hidden_dim": 7}))
    assert model.language_projection.weight.shape == (WIDTH, 7)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ({"model_type": "llama", "hidden_size": 64}, 64),
        ({"model_type": "gpt2", "n_embd": 20}, 20),
        ({"model_type": "opt", "hidden_size": 32, "word_embed_proj_dim": 16}, 16),  # as in OPT-350m
    ],
)
def test_width_is_that_of_the_language_models_words(text: dict[str, int], width: int) -> None:
    assert EvlVideoConfig(connector="mlp", text_config=text).language_width == width
    assert EvlVideoConfig(connector="mlp").language_width is None
    assert EvlVideoConfig(text_config=OPTConfig(word_embed_proj_dim=8)).language_width == 8


def test_both_layers_have_the_learning_rate_of_projections(make_model: MakeModel) -> None:
    model = make_model(**changes("mlp"))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {trained_part(name) for name in trained} == {"projections"}
