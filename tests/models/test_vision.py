"""The frozen tower, and contextualizers between attention and MLP of its blocks."""

import copy
from typing import Any

import pytest
import timm
import torch
from tiny_models import NUM_TOKENS, VISION, VISION_SIZES, chirp, fill, open_gates, pixels
from torch import Tensor, nn

from evlvideo.errors import UserError
from evlvideo.models.tokens.contextualizers import InTowerContextualizer
from evlvideo.models.vision import VisionTower


def tower(name: str = VISION, final_norm: bool = True, **overrides: Any) -> VisionTower:
    built = VisionTower(name, overrides=VISION_SIZES | overrides, final_norm=final_norm)
    fill(built)
    return built


def contextual_tower(
    blocks: list[int] | None = None, max_frames: int | None = None, name: str = VISION, **overrides: Any
) -> VisionTower:
    built = tower(name, **overrides)
    built.insert_contextualizers(blocks, lambda: InTowerContextualizer(built.dim, max_frames=max_frames))
    for module in built.modules():
        if isinstance(module, InTowerContextualizer):
            fill(module)
    return built


def test_features_equal_timms() -> None:
    built = tower()
    images = pixels(2, 3)
    expected = built.vit.forward_features(images.flatten(0, 1)).unflatten(0, (2, 3))
    assert torch.equal(built(images), expected)


@pytest.mark.parametrize("given", [{}, {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}], ids=str)
def test_uint8_pixels_are_normalised_by_the_tower(given: dict[str, list[float]]) -> None:
    built = fill(VisionTower(VISION, overrides=VISION_SIZES, **given))
    frames = torch.arange(2 * 3 * 3 * 32 * 32).mul(7).remainder(256).to(torch.uint8).view(2, 3, 3, 32, 32)
    mean = torch.tensor(given.get("image_mean", built.vit.pretrained_cfg["mean"])).view(3, 1, 1)
    std = torch.tensor(given.get("image_std", built.vit.pretrained_cfg["std"])).view(3, 1, 1)
    before = frames.clone()
    assert torch.equal(built(frames), built((frames / 255 - mean) / std))
    assert torch.equal(frames, before)


def test_pixels_are_normalised_in_float32_whatever_the_towers_dtype() -> None:
    built = tower()
    frames = torch.arange(3 * 32 * 32).remainder(256).to(torch.uint8).view(1, 1, 3, 32, 32)
    half = copy.deepcopy(built).bfloat16()
    normalised = (frames / 255 - 0.5) / 0.5
    assert torch.equal(half(frames), half(normalised.bfloat16()))
    assert normalised.bfloat16().ne((frames.bfloat16() / 255 - 0.5) / 0.5).any()  # the case can tell


def test_shape_of_features() -> None:
    built = tower()
    assert built(pixels(2, 3)).shape == (2, 3, NUM_TOKENS, 48)
    assert (built.num_tokens, built.dim, built.image_size, built.has_class_token) == (NUM_TOKENS, 48, 32, True)


def test_tower_without_a_class_token_says_so() -> None:
    built = tower(class_token=False, global_pool="avg")
    assert not built.has_class_token
    assert built(pixels(1, 2)).shape == (1, 2, built.num_tokens, 48) == (1, 2, 16, 48)


def test_final_norm_can_be_left_out() -> None:
    with_norm, without = tower(), tower(final_norm=False)
    assert not [name for name in without.vit.state_dict() if name.startswith("norm.")]
    normed = with_norm.vit.norm(without(pixels(1, 1)))
    torch.testing.assert_close(with_norm(pixels(1, 1)), normed)


def test_no_weight_takes_a_gradient() -> None:
    assert not [name for name, weight in tower().named_parameters() if weight.requires_grad]


def test_tower_stays_in_eval_mode() -> None:
    built = contextual_tower(drop_path_rate=0.5, proj_drop_rate=0.5)
    built.train()
    assert not [name for name, module in built.named_modules() if module.training]
    assert torch.equal(built(pixels(1, 2)), built(pixels(1, 2)))


def test_training_a_parent_leaves_the_tower_in_eval_mode() -> None:
    parent = nn.ModuleDict({"tower": tower()}).train()
    assert parent.training
    assert not [name for name, module in parent["tower"].named_modules() if module.training]


def test_features_without_contextualizers_have_no_graph() -> None:
    assert not tower()(pixels(1, 2).requires_grad_()).requires_grad


def test_only_contextualizers_get_gradients() -> None:
    built = open_gates(contextual_tower())
    built(pixels(1, 2)).square().sum().backward()
    with_gradient = {name for name, weight in built.named_parameters() if weight.grad is not None}
    assert with_gradient == {name for name, _ in built.named_parameters() if ".temporal_merge." in name}


def test_contextualizers_under_no_grad_keep_no_graph() -> None:
    with torch.no_grad():
        assert not open_gates(contextual_tower())(pixels(1, 2)).requires_grad


def test_closed_contextualizers_change_no_bit() -> None:
    assert torch.equal(contextual_tower()(pixels(2, 3)), tower()(pixels(2, 3)))


def test_contextualizers_leave_the_names_of_weights_untouched() -> None:
    plain = timm.create_model(VISION, num_classes=0, **VISION_SIZES).state_dict()
    ours = contextual_tower().vit.state_dict()
    assert plain.keys() <= ours.keys()
    added = {name.split(".temporal_merge.")[-1] for name in ours.keys() - plain.keys()}
    assert added == {"alpha", "query.weight", "query.bias", "key.weight", "key.bias"}


@pytest.mark.parametrize(("blocks", "where"), [(None, [0, 1]), ([1], [1]), ([], [])])
def test_contextualizers_sit_in_the_chosen_blocks(blocks: list[int] | None, where: list[int]) -> None:
    built = contextual_tower(blocks)
    assert [number for number, block in enumerate(built.vit.blocks) if hasattr(block, "temporal_merge")] == where


def test_a_block_named_twice_has_one_contextualizer(monkeypatch: pytest.MonkeyPatch) -> None:
    built = contextual_tower([1, 1])
    calls: list[Tensor] = []
    monkeypatch.setattr(InTowerContextualizer, "forward", lambda _self, x: calls.append(x) or torch.zeros_like(x))
    built(pixels(1, 2))
    assert len(calls) == 1


EVERY_BLOCK = [
    "vit_base_patch16_224",
    "vit_base_patch16_clip_224",  # a norm before the blocks
    "vit_base_patch14_reg4_dinov2",  # register tokens, layer scale
    "vit_base_patch16_rpn_224",  # norms after attention and MLP
    "deit_tiny_distilled_patch16_224",
    "eva_giant_patch14_clip_224",
    "eva02_tiny_patch14_224",  # rotary positions
    "eva02_enormous_patch14_clip_224",  # norms after attention and MLP
    "vit_small_patch16_rope_mixed_224",  # rotary positions of each block
    "vit_small_patch16_dinov3",  # layer scale
    "beit_base_patch16_224",
    "vit_relpos_base_patch16_cls_224",
    "vit_srelpos_small_patch16_224",  # one position bias for all blocks
    "vit_relpos_base_patch16_rpn_224",  # norms after attention and MLP
]
every_block = pytest.mark.parametrize("name", EVERY_BLOCK)


def features_by_timm(vit: Any, images: Tensor) -> Tensor:
    """timm's own features, with each contextualizer's context added to what its block's attention adds."""
    handles = []
    for block in vit.blocks:
        inputs: list[Tensor] = []

        def add(_module: Any, _arguments: Any, attention: Tensor, block: Any = block, inputs: Any = inputs) -> Tensor:
            stream = (inputs.pop() + attention).unflatten(0, (-1, images.shape[1]))
            return attention + block.temporal_merge(stream.float()).flatten(0, 1).to(attention.dtype)

        if hasattr(block, "temporal_merge"):
            handles.append(block.register_forward_pre_hook(lambda _, given, inputs=inputs: inputs.append(given[0])))
            handles.append(block.drop_path1.register_forward_hook(add))
    features = vit.forward_features(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    for handle in handles:
        handle.remove()
    return features


@every_block
@pytest.mark.parametrize("blocks", [[], None, [1]], ids=str)
def test_every_block_gives_what_timm_gives_bit_for_bit(name: str, blocks: list[int] | None) -> None:
    side = 28 if "patch14" in name else 32
    sizes = {"img_size": side, "embed_dim": 48, "depth": 2, "num_heads": 4}
    built = fill(VisionTower(name, overrides=sizes))
    built.insert_contextualizers(blocks, lambda: InTowerContextualizer(48, num_heads=4, attention_dim=16))
    open_gates(built)
    for tower, images in ((built, pixels(2, 3, side)), (built.bfloat16(), pixels(2, 3, side).bfloat16())):
        for block in tower.vit.blocks:
            getattr(block, "temporal_merge", nn.Identity()).float()
        with torch.no_grad(), tower.autocast():
            assert torch.equal(tower(images), features_by_timm(tower.vit, images).to(tower.dtype))


def test_frames_of_a_clip_see_each_other_and_clips_do_not() -> None:
    built = open_gates(contextual_tower())
    changed = pixels(2, 3)
    changed[0, 0] += chirp(3, 32, 32, offset=1.0)
    difference = (built(changed) - built(pixels(2, 3))).abs().amax(dim=(2, 3))
    assert (difference[0] > 1e-3).all()
    assert not difference[1].any()


def test_number_of_frames_may_differ_from_call_to_call() -> None:
    built = open_gates(contextual_tower())
    images = pixels(2, 4)
    whole = built(images)
    built(images[:, :3])
    assert torch.equal(built(images), whole)


def test_a_copy_has_contextualizers_of_its_own() -> None:
    built = contextual_tower()
    twin = copy.deepcopy(built)
    open_gates(twin)
    assert not torch.allclose(twin(pixels(1, 3)), built(pixels(1, 3)), atol=1e-2)
    assert torch.equal(built(pixels(1, 3)), tower()(pixels(1, 3)))


def test_half_precision_tower_keeps_contextualizers_in_float32() -> None:
    built = open_gates(contextual_tower())
    expected = built(pixels(1, 3))
    for name, weight in built.named_parameters():
        if ".temporal_merge." not in name:
            weight.data = weight.data.bfloat16()
    features = built(pixels(1, 3))
    assert features.dtype == torch.bfloat16
    torch.testing.assert_close(features.float(), expected, rtol=0.1, atol=0.1)


def test_unknown_timm_name_is_a_user_error() -> None:
    with pytest.raises(UserError, match="'vit_of_nobody'"):
        VisionTower("vit_of_nobody")


def test_unknown_override_is_a_user_error() -> None:
    with pytest.raises(UserError, match="deepness"):
        VisionTower(VISION, overrides={"deepness": 3})


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_tower_that_is_no_vit_is_a_user_error(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' is not a ViT.*timm's .*VisionTransformer, Eva"):
        VisionTower(name)


@pytest.mark.parametrize("name", ["vitamin_small_224", "vit_base_mci_224"])
def test_tower_with_another_stem_is_a_user_error(name: str) -> None:
    with (
        pytest.raises(UserError, match=f"'{name}' is not a plain ViT: its patches come from timm's"),
        torch.device("meta"),
    ):
        VisionTower(name)


def test_tower_of_images_that_are_not_square_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"takes images of 64×32 pixels.*vision_overrides\.img_size, such as 32"):
        tower("vit_tiny_patch16_224", img_size=(64, 32))


@pytest.mark.parametrize(
    ("name", "prefix", "class_token"),
    [
        ("vit_base_patch16_reg4_gap_256", 4, False),
        ("vit_base_patch14_reg4_dinov2", 5, True),
        ("vit_base_patch16_siglip_224", 0, False),
        ("deit_tiny_distilled_patch16_224", 2, True),
    ],
)
def test_registers_are_no_class_token(name: str, prefix: int, class_token: bool) -> None:
    with torch.device("meta"):
        built = VisionTower(name)
    assert built.has_class_token == class_token
    assert built.num_tokens == prefix + built.grid[0] * built.grid[1]


@pytest.mark.parametrize("number", [2, -1])
def test_unknown_block_is_a_user_error(number: int) -> None:
    with pytest.raises(UserError, match=f"block {number}; the tower has blocks 0 to 1"):
        tower().insert_contextualizers([0, number], lambda: InTowerContextualizer(48))


def test_parallel_blocks_are_a_user_error() -> None:
    parallel = tower("vit_tiny_patch16_224", block_fn=timm.models.vision_transformer.ParallelScalingBlock)
    with pytest.raises(UserError, match="ParallelScalingBlock has no place between attention and MLP"):
        parallel.insert_contextualizers(None, lambda: InTowerContextualizer(48))


def test_one_image_without_a_frame_axis_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"shape \(2, 3, 32, 32\).*video of one frame"):
        tower()(pixels(2, 1)[:, 0])


def test_more_frames_than_positions_is_a_user_error() -> None:
    with pytest.raises(UserError, match="4 frames"):
        contextual_tower(max_frames=3)(pixels(1, 4))
