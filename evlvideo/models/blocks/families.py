"""timm's families of ViTs whose blocks can be run one by one: how each begins, and how its blocks are built."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.beit import Beit
from timm.models.beit import Block as BeitBlock
from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, ResPostBlock, VisionTransformer
from timm.models.vision_transformer_relpos import RelPosBlock, ResPostRelPosBlock, VisionTransformerRelPos
from torch import Tensor

FAMILIES = (VisionTransformer, Eva, Beit, VisionTransformerRelPos)
PRE_NORM = (Block, EvaBlock, BeitBlock, RelPosBlock)
POST_NORM = (ResPostBlock, EvaBlockPostNorm, ResPostRelPosBlock)


def stem(vit: Any, images: Tensor) -> tuple[Tensor, Sequence[dict[str, Any]]]:
    """Embed patches, prefix tokens and positions, as the family's `forward_features` begins.

    Its dropouts are left out: the tower is in eval mode.

    Args:
        vit: a model of `FAMILIES`.
        images: `(B·T, 3, height, width)`.

    Returns:
        tokens `(B·T, N, D)`, and the keyword arguments of each block.
    """
    depth, x = len(vit.blocks), vit.patch_embed(images)
    if isinstance(vit, VisionTransformer):
        return vit.norm_pre(vit._pos_embed(x)), [{}] * depth
    if isinstance(vit, Eva):
        x, rope = vit._pos_embed(x)
        by_block = rope if rope is not None and getattr(vit, "rope_mixed", False) else [rope] * depth
        return vit.norm_pre(x), [{"rope": positions} for positions in by_block]
    if vit.cls_token is not None:
        x = torch.cat([vit.cls_token.expand(len(x), -1, -1), x], dim=1)
    if isinstance(vit, Beit):
        if vit.pos_embed is not None:
            x = x + vit.pos_embed
        return x, [{"shared_rel_pos_bias": vit.rel_pos_bias() if vit.rel_pos_bias is not None else None}] * depth
    shared = vit.shared_rel_pos.get_bias() if vit.shared_rel_pos is not None else None
    return x, [{"shared_rel_pos": shared}] * depth


def block_is_post_norm(block: Any) -> bool:
    """Whether a block norms the output of its attention instead of the input."""
    return isinstance(block, POST_NORM)
