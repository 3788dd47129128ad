"""The loop that runs a tower and prunes its tokens."""

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from evlvideo.errors import UserError
from evlvideo.models.blocks.prunable_towers import TimmTower
from evlvideo.models.blocks.pruned_encoding import Encoding, Pruning, encode, encode_pruned, random_scores
from evlvideo.models.tokens.pruning import (
    LOOK_AHEADS,
    PruningSchedule,
    class_attention,
    token_sources,
    tokens_by_block,
)

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 6, "num_heads": 2, "num_classes": 0}
SCHEDULE = PruningSchedule((1, 2, 4), (1, 2, 2), (0.8, 0.6, 0.3))
every_look_ahead = pytest.mark.parametrize("look_ahead", LOOK_AHEADS)


@pytest.fixture(scope="module")
def tower() -> TimmTower:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = timm.create_model("vit_tiny_patch16_224", **SIZES).eval()
        for weight in vit.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return TimmTower(vit)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def guide() -> Tensor:
    return 3 * torch.randn(4, 16, generator=torch.Generator().manual_seed(2))


def run(tower: TimmTower, images: Tensor, guide: Tensor | None, **changes: Any) -> Encoding:
    return encode_pruned(tower, images, guide, Pruning(SCHEDULE, **changes))


def test_tower_alone_is_timms(tower: TimmTower, images: Tensor) -> None:
    assert torch.equal(encode(tower, images), tower.vit.forward_features(images))


@every_look_ahead
def test_blocks_run_on_as_many_tokens_as_counted(
    tower: TimmTower, images: Tensor, guide: Tensor, look_ahead: Any
) -> None:
    encoding = run(tower, images, guide, look_ahead=look_ahead)
    counted = tokens_by_block(SCHEDULE, tower.depth, 16)
    assert [tokens.shape[1] for tokens in encoding.pruned] == [counted[block] for block in SCHEDULE.begin]
    assert encoding.tokens.shape[1] == counted[-1]


@every_look_ahead
def test_an_image_alone_is_as_in_a_batch(tower: TimmTower, images: Tensor, guide: Tensor, look_ahead: Any) -> None:
    together = run(tower, images, guide, look_ahead=look_ahead).tokens
    for image in range(len(images)):
        alone = run(tower, images[image : image + 1], guide[image : image + 1], look_ahead=look_ahead).tokens
        torch.testing.assert_close(alone[0], together[image], rtol=1e-4, atol=1e-5)


@every_look_ahead
def test_the_text_matters(tower: TimmTower, images: Tensor, guide: Tensor, look_ahead: Any) -> None:
    one = run(tower, images, guide, look_ahead=look_ahead).tokens
    other = run(tower, images, guide.roll(1, 0), look_ahead=look_ahead).tokens
    assert not torch.allclose(one, other)


@every_look_ahead
def test_a_share_of_one_leaves_the_text_out(tower: TimmTower, images: Tensor, guide: Tensor, look_ahead: Any) -> None:
    with_text = run(tower, images, guide, look_ahead=look_ahead, vision_share=1.0).tokens
    assert torch.equal(with_text, run(tower, images, None, look_ahead=look_ahead).tokens)


def test_gradient_reaches_folded_tokens_and_neither_guide_nor_scores(
    tower: TimmTower, images: Tensor, guide: Tensor
) -> None:
    guide.requires_grad_()
    images.requires_grad_()
    encoding = run(tower, images, guide)
    prune = encoding.prunes[0]
    assert prune is not None
    assert not prune.scores.requires_grad
    encoding.pruned[0][:, -1].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert guide.grad is None


def test_dropping_leaves_the_folded_token_out(tower: TimmTower, images: Tensor, guide: Tensor) -> None:
    folded, dropped = run(tower, images, guide), run(tower, images, guide, fold=False)
    assert torch.equal(folded.pruned[0][:, :-1], dropped.pruned[0])


def test_random_scores_are_the_same_from_the_same_generator(tower: TimmTower, images: Tensor, guide: Tensor) -> None:
    def once() -> Tensor:
        return run(tower, images, guide, change_scores=random_scores(torch.Generator().manual_seed(3))).tokens

    assert torch.equal(once(), once())
    assert not torch.equal(once(), run(tower, images, guide).tokens)


def test_keeping_all_prunes_and_folds_nothing(tower: TimmTower, images: Tensor, guide: Tensor) -> None:
    encoding = run(tower, images, guide, kept=(16, 16, 16))
    assert encoding.prunes == [None, None, None]
    assert torch.equal(encoding.tokens, encode(tower, images))


def test_sources_tell_where_patches_went(tower: TimmTower, images: Tensor, guide: Tensor) -> None:
    encoding = run(tower, images, guide)
    sources = token_sources(encoding.prunes, 17)
    assert sources.shape == (4, encoding.tokens.shape[1], 17)
    # A folded token's weights sum to a little less than 1.
    torch.testing.assert_close(sources.sum(dim=2), torch.ones(sources.shape[:2]), rtol=0, atol=1e-4)
    assert ((sources > 0).sum(dim=1) >= 1).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_are_in_float32_in_half_precision(
    tower: TimmTower, images: Tensor, guide: Tensor, dtype: torch.dtype
) -> None:
    if dtype is torch.bfloat16:
        with torch.autocast("cpu", dtype):
            encoding = run(tower, images, guide)
    else:
        half = TimmTower(timm.create_model("vit_tiny_patch16_224", **SIZES).eval().to(dtype))
        encoding = run(half, images.to(dtype), guide.to(dtype))
    assert all(prune is not None and prune.scores.dtype is torch.float32 for prune in encoding.prunes)
    assert encoding.tokens.isfinite().all()


def test_schedule_beyond_the_tower_is_refused(tower: TimmTower, images: Tensor, guide: Tensor) -> None:
    deep = replace(SCHEDULE, look_ahead=(1, 2, 3))
    with pytest.raises(UserError, match="looks ahead to block 6, and the tower has blocks 0 to 5"):
        encode_pruned(tower, images, guide, Pruning(deep))


def test_text_of_another_width_is_refused(tower: TimmTower, images: Tensor) -> None:
    with pytest.raises(UserError, match="The text has 8 channels and the tower 16"):
        run(tower, images, torch.zeros(4, 8))


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("vit_base_patch16_siglip_224", {"depth": 1}, "has no class token"),
        ("eva02_tiny_patch14_224", {"depth": 1}, "has rotary positions"),
        ("beit_base_patch16_224", {"depth": 1}, "has relative positions"),
        ("vit_relpos_base_patch16_clsgap_224", {"depth": 1}, "has relative positions"),
    ],
)
def test_towers_whose_scores_would_be_wrong_are_refused(name: str, sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TimmTower(timm.create_model(name, **sizes))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("eva_giant_patch14_224", {"embed_dim": 16, "num_heads": 2, "depth": 6}),
        ("vit_small_patch14_reg4_dinov2", {"img_size": 56, "embed_dim": 16, "num_heads": 2, "depth": 6}),
        ("vit_base_patch16_clip_quickgelu_224", {"embed_dim": 16, "num_heads": 2, "depth": 6}),
    ],
)
def test_attention_of_the_class_token_is_that_of_the_block(name: str, sizes: dict[str, Any]) -> None:
    """As timm computes it when it does not fuse."""
    torch.manual_seed(0)
    vit = timm.create_model(name, num_classes=0, **sizes).eval()
    tower = TimmTower(vit)
    tokens = torch.randn(1, 12, 16)
    attention = vit.blocks[0].attn
    shares = class_attention(tower.query(0, tokens[:, :1]), tower.key(0, tokens), tower.scale(0))[0]
    normed = vit.blocks[0].norm1(tokens)
    assert torch.allclose(shares.sum(), torch.ones(()))
    attention.fused_attn = False
    seen: list[Tensor] = []
    attention.attn_drop.register_forward_hook(lambda module, given, output: seen.append(output))
    attention(normed)
    torch.testing.assert_close(shares, seen[0][0, :, 0].mean(dim=0))
