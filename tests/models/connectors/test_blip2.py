"""BLIP-2's Q-Former gives what transformers' own BLIP-2 gives."""

import pytest
import torch
from tiny_connectors import BERT, NUM_TOKENS, TOWER, VISION_DIM, changes
from tiny_models import MakeModel, chirp, fill
from torch import Tensor
from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2QFormerConfig, Blip2VisionConfig, OPTConfig

from evlvideo.models.connectors.blip2 import Blip2, Blip2Options


@pytest.fixture(scope="module")
def blip2() -> Blip2ForConditionalGeneration:
    """Transformers' BLIP-2 of the toy's sizes, with weights by formula."""
    vision = Blip2VisionConfig(
        hidden_size=VISION_DIM,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=96,
        image_size=32,
        patch_size=8,
        layer_norm_eps=1e-5,
    )
    qformer = Blip2QFormerConfig(
        hidden_size=40, num_hidden_layers=4, num_attention_heads=4, intermediate_size=80, encoder_hidden_size=VISION_DIM
    )
    text = OPTConfig(
        hidden_size=40, word_embed_proj_dim=40, num_hidden_layers=1, num_attention_heads=4, ffn_dim=80, vocab_size=120
    )
    config = Blip2Config(vision_config=vision, qformer_config=qformer, text_config=text, num_query_tokens=5)
    return fill(Blip2ForConditionalGeneration(config)).eval()


@torch.no_grad()
def test_soft_prompt_is_transformers_blip2s(make_model: MakeModel, blip2: Blip2ForConditionalGeneration) -> None:
    bert = {"hidden_size": 40, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 80}
    model = make_model(**changes("blip2", bert_config=bert))
    model.ln_vision.load_state_dict(blip2.vision_model.post_layernorm.state_dict())
    model.connector.queries.copy_(blip2.query_tokens)
    model.connector.qformer.load_state_dict(blip2.qformer.state_dict())
    model.language_projection.load_state_dict(blip2.language_projection.state_dict())

    kept: list[Tensor] = []
    handle = blip2.vision_model.post_layernorm.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    expected = blip2.get_image_features(chirp(2, 3, 32, 32)).pooler_output
    handle.remove()
    features = next(tokens for tokens in kept if tokens.dim() == 3)  # the class token alone is normed a second time
    ours = model.features_to_prompt(features.unsqueeze(1))
    assert ours.shape == (2, 5, 40)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_queries_may_look_at_all_frames_together() -> None:
    options = Blip2Options(num_queries=5, all_frames=True)
    connector = fill(Blip2(BERT, TOWER, options)).eval()
    x = chirp(2, 3, NUM_TOKENS, VISION_DIM)
    queries = connector.queries.expand(2, -1, -1)
    expected = connector.qformer(queries, encoder_hidden_states=x.flatten(1, 2)).last_hidden_state
    torch.testing.assert_close(connector(x), expected.unsqueeze(1))


def test_frames_are_taken_one_by_one() -> None:
    connector = fill(Blip2(BERT, TOWER, Blip2Options(num_queries=5))).eval()
    x = chirp(2, 3, NUM_TOKENS, VISION_DIM)
    alone = torch.cat([connector(x[:, [frame]]) for frame in range(3)], dim=1)
    torch.testing.assert_close(connector(x), alone)
