import numpy as np
import pytest
import torch
from tiny_models import chirp, fill, open_gates

from evlvideo.comparison.page.token_groups import paint_groups, patch_groups
from evlvideo.models.connectors.tomeformer import TomeFormerEncoder


def test_groups_are_numbered_without_gaps_in_the_order_of_the_patches():
    source = torch.zeros(4, 6)  # (M, N), the first token a class token
    for token, row in enumerate([0, 3, 1, 3, 2, 1]):
        source[row, token] = 1
    assert patch_groups(source, prefix_tokens=1).tolist() == [0, 1, 0, 2, 1]
    assert patch_groups(source, prefix_tokens=0).tolist() == [0, 1, 2, 1, 3, 2]


def test_a_tomeformer_s_patches_are_in_as_many_groups_as_it_leaves_tokens():
    from transformers import BertConfig

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(**sizes, max_position_embeddings=17, vocab_size=1)
    tomeformer = open_gates(fill(TomeFormerEncoder(config, merge_r=4))).eval()
    with torch.no_grad():
        merged, source = tomeformer.forward_with_source(chirp(1, 17, 16))
    groups = patch_groups(source[0], prefix_tokens=1)
    assert groups.shape == (16,)
    assert sorted(set(groups.tolist())) == list(range(merged.shape[1] - 1))  # all but the class token


def test_each_group_is_painted_with_the_mean_colour_of_its_patches():
    frame = np.zeros((40, 40, 3), np.uint8)
    frame[:20, :20] = (200, 0, 0)
    frame[:20, 20:] = (100, 0, 0)
    frame[20:] = (0, 0, 50)
    groups = np.array([[0, 0], [1, 2]])
    painted = paint_groups(frame, groups)
    assert painted.shape == (160, 160, 3)
    assert painted.dtype == np.uint8
    assert painted[40, 40].tolist() == painted[40, 120].tolist() == [150, 0, 0]
    assert painted[120, 40].tolist() == painted[120, 120].tolist() == [0, 0, 50]


def test_borders_are_between_groups_only_and_tell_them_apart():
    groups = np.array([[0, 0, 1], [1, 1, 1]])
    painted = paint_groups(np.full((20, 30, 3), 128, np.uint8), groups)
    grey = (painted == 128).all(axis=-1)
    side = painted.shape[0] // 2
    assert grey[side // 2, side - 8 : side + 8].all()  # inside group 0
    assert not grey[side - 1, side // 2]  # where 0 meets 1
    assert not grey[side, side // 2]
    above, below = painted[side - 1, side // 2], painted[side, side // 2]
    assert above.tolist() != below.tolist()
    assert (painted[side // 2, 2 * side] == below).all()  # group 1 has one colour wherever it is


def test_patches_that_are_all_one_group_have_no_border():
    painted = paint_groups(np.full((15, 15, 3), 9, np.uint8), np.zeros((4, 4), int))
    assert (painted == 9).all()


@pytest.mark.parametrize("size", [(7, 5), (224, 224), (33, 64)])
def test_frames_of_any_size_are_painted(size):
    frame = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    groups = np.arange(16).reshape(4, 4)
    painted = paint_groups(frame, groups)
    assert painted.shape == (160, 160, 3)
