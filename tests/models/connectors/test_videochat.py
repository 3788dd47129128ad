"""VideoChat's relation aggregators, by hand, and its Q-Former with more queries."""

import pytest
import torch
from tiny_connectors import BERT, GRID, NUM_TOKENS, TOWER, VISION_DIM
from tiny_models import VISION, VISION_SIZES, chirp, fill, pixels
from torch import Tensor

from evlvideo.errors import UserError
from evlvideo.models.connectors.videochat import RelationAggregator, VideoChat, VideoChatOptions, VideoRelations
from evlvideo.models.vision import VisionTower

OPTIONS = VideoChatOptions(num_queries=5, extra_queries=3, relation_blocks=2, relation_heads=4)


def aggregator() -> RelationAggregator:
    return fill(RelationAggregator(VISION_DIM, options=OPTIONS, grid=GRID)).eval()


def places_by_hand(patches: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The depthwise convolution of one clip, `(T, rows, columns, D)`, as a sum over its 27 neighbours."""
    frames, rows, columns, _ = patches.shape
    padded = torch.nn.functional.pad(patches, (0, 0, 1, 1, 1, 1, 1, 1))
    total = bias.expand_as(patches).clone()
    for t in range(3):
        for row in range(3):
            for column in range(3):
                part = padded[t : t + frames, row : row + rows, column : column + columns]
                total += part * weight[:, 0, t, row, column]
    return total


@torch.no_grad()
def test_aggregator_is_its_formula() -> None:
    module, token, frames = aggregator(), chirp(1, 1, VISION_DIM), chirp(1, 3, NUM_TOKENS, VISION_DIM, offset=1)
    seen = module.ln_frames(frames)[0]  # (T, N, D)
    places = places_by_hand(seen[:, 1:].unflatten(1, GRID), module.positions.weight, module.positions.bias)
    seen = torch.cat([seen[:, :1], seen[:, 1:] + places.flatten(1, 2)], dim=1).flatten(0, 1)  # (T·N, D)

    q_weight, k_weight, v_weight = module.attention.in_proj_weight.chunk(3)
    q_bias, k_bias, v_bias = module.attention.in_proj_bias.chunk(3)
    query = (module.ln_token(token)[0] @ q_weight.T + q_bias).unflatten(-1, (4, -1))  # (1, heads, D/heads)
    key = (seen @ k_weight.T + k_bias).unflatten(-1, (4, -1))  # (T·N, heads, D/heads)
    value = (seen @ v_weight.T + v_bias).unflatten(-1, (4, -1))
    weights = torch.einsum("qhd,khd->hqk", query, key).div((VISION_DIM / 4) ** 0.5).softmax(-1)
    token = token + module.attention.out_proj(torch.einsum("hqk,khd->qhd", weights, value).flatten(1))
    expected = token + module.fc2(torch.nn.functional.gelu(module.fc1(module.ln_mlp(token))))
    torch.testing.assert_close(module(chirp(1, 1, VISION_DIM), frames), expected, atol=1e-5, rtol=1e-5)


def test_video_token_starts_at_zero_and_stays_there_through_outputs_of_zero() -> None:
    relations = VideoRelations(VISION_DIM, options=OPTIONS, grid=GRID)
    relations.init_weights()
    blocks = [chirp(2, 3, NUM_TOKENS, VISION_DIM, offset=block) for block in range(2)]
    assert torch.equal(relations(blocks), torch.zeros(2, 1, VISION_DIM))


def test_aggregators_read_the_blocks_one_after_the_other() -> None:
    relations = fill(VideoRelations(VISION_DIM, options=OPTIONS, grid=GRID)).eval()
    blocks = [chirp(2, 3, NUM_TOKENS, VISION_DIM, offset=block) for block in range(2)]
    first, second = relations.aggregators
    expected = second(first(relations.token.expand(2, -1, -1), blocks[0]), blocks[1])
    torch.testing.assert_close(relations(blocks), expected)


def test_dropout_is_inside_the_mlp() -> None:
    module, token, frames = aggregator(), chirp(1, 1, VISION_DIM), chirp(1, 3, NUM_TOKENS, VISION_DIM)
    once = module(token, frames)
    assert torch.equal(module(token, frames), once)
    assert not torch.equal(module.train()(token, frames), once)
    assert module.dropout.p == 0.5 and module.attention.dropout == 0


def tower_with_relations(count: int = 2) -> tuple[VisionTower, VisionTower]:
    plain, reading = (fill(VisionTower(VISION, overrides=VISION_SIZES)) for _ in range(2))
    reading.insert_relations(fill(VideoRelations(VISION_DIM, options=OPTIONS, grid=reading.grid)), count)
    return plain, reading


def test_tower_gives_its_own_tokens_and_the_video_token_behind_those_of_every_frame() -> None:
    plain, reading = tower_with_relations()
    tokens, own = reading(pixels(2, 3)), plain(pixels(2, 3))
    assert tokens.shape == (2, 3, NUM_TOKENS + 1, VISION_DIM)
    assert torch.equal(tokens[:, :, :-1], own)
    assert all(torch.equal(tokens[:, frame, -1], tokens[:, 0, -1]) for frame in range(3))
    assert not torch.equal(tokens[0, 0, -1], tokens[1, 0, -1])


def test_gradient_reaches_relations_and_not_the_tower() -> None:
    _, reading = tower_with_relations()
    reading(pixels(1, 2)).sum().backward()
    with_gradient = {name for name, weight in reading.named_parameters() if weight.grad is not None}
    assert with_gradient and all(name.startswith("video_relations.") for name in with_gradient)


def test_more_blocks_than_the_tower_has_are_a_user_error() -> None:
    with pytest.raises(UserError, match="relation_blocks is 3; the tower has 2 blocks"):
        tower_with_relations(3)


def test_queries_look_at_the_tokens_of_all_frames_and_once_at_the_video_token() -> None:
    connector = fill(VideoChat(BERT, TOWER, OPTIONS)).eval()
    x = chirp(2, 3, NUM_TOKENS + 1, VISION_DIM)
    x[:, :, -1] = x[:, :1, -1]
    tokens = torch.cat([x[:, :, :-1].reshape(2, 3 * NUM_TOKENS, VISION_DIM), x[:, 0, -1:]], dim=1)
    queries = torch.cat([connector.queries, connector.extra_queries], dim=1).expand(2, -1, -1)
    expected = connector.qformer(queries, encoder_hidden_states=tokens).last_hidden_state
    torch.testing.assert_close(connector(x), expected.unsqueeze(1))
    assert connector.num_output_tokens(NUM_TOKENS) == 8
