"""What pruning needs of each family of towers: timm's ViTs, and transformers' BLIP and CLIP.

Each runs the library's own blocks, so that fused attention and gradient checkpointing stay as they are.
"""

from typing import Any

import torch
from timm.models.beit import Beit
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BlipVisionModel, CLIPVisionModel

from evlvideo.errors import UserError
from evlvideo.models.blocks.families import block_is_post_norm, stem


def _heads(x: Tensor, heads: int) -> Tensor:
    """`(B, N, H·d)` → `(B, H, N, d)`."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class TimmTower:
    """A timm ViT, one with learned positions before its blocks.

    Args:
        vit: a model of timm.

    Raises:
        UserError: it has no class token, or positions inside its blocks, which pruned tokens would lose.
    """

    def __init__(self, vit: Any) -> None:
        _check_timm(vit)
        self.vit = vit
        self.depth = len(vit.blocks)
        self.prefix = int(vit.num_prefix_tokens)
        self.width = int(vit.embed_dim)

    def embed(self, images: Tensor) -> Tensor:
        """Embed patches, prefix and positions."""
        return stem(self.vit, images)[0]

    def run(self, block: int, tokens: Tensor) -> Tensor:
        """Run a block."""
        output: Tensor = self.vit.blocks[block](tokens)
        return output

    def query(self, block: int, class_token: Tensor) -> Tensor:
        """Compute a block's query of the class token."""
        return self._projected(block, class_token, 0)

    def key(self, block: int, tokens: Tensor) -> Tensor:
        """Compute a block's keys."""
        return self._projected(block, tokens, 1)

    def _projected(self, block: int, tokens: Tensor, part: int) -> Tensor:
        layer = self.vit.blocks[block]
        attention = layer.attn
        x = tokens if block_is_post_norm(layer) else layer.norm1(tokens)
        if attention.qkv is None:
            projected = (attention.q_proj, attention.k_proj)[part](x)
        else:
            width = attention.qkv.out_features // 3
            rows = slice(part * width, (part + 1) * width)
            bias = attention.qkv.bias
            if bias is not None:
                bias = bias[rows]
            elif getattr(attention, "q_bias", None) is not None:
                bias = (attention.q_bias, attention.k_bias)[part]
            projected = F.linear(x, attention.qkv.weight[rows], bias)
        normed: Tensor = (attention.q_norm, attention.k_norm)[part](_heads(projected, attention.num_heads))
        return normed

    def scale(self, block: int) -> float:
        """Scale of a block's products."""
        return float(self.vit.blocks[block].attn.scale)

    def finish(self, tokens: Tensor) -> Tensor:
        """Apply the last norm."""
        output: Tensor = self.vit.norm(tokens)
        return output


def _check_timm(vit: Any) -> None:
    name = type(vit).__name__
    if getattr(vit, "cls_token", None) is None:
        raise UserError(
            f"The vision tower, timm's {name}, has no class token, whose attention would score its patches; name a "
            "tower with one, such as vit_base_patch16_224, or prune nothing."
        )
    rotary = getattr(vit, "rope", None) is not None
    if rotary or isinstance(vit, Beit | VisionTransformerRelPos):
        kind = "rotary" if rotary else "relative"
        raise UserError(
            f"The vision tower, timm's {name}, has {kind} positions inside its blocks, which pruned tokens would lose; "
            "name a tower with learned positions, such as vit_base_patch16_224 or eva_giant_patch14_224, or prune "
            "nothing."
        )
    if not all(hasattr(getattr(block, "attn", None), "q_norm") for block in vit.blocks):
        raise UserError(
            f"The vision tower, timm's {name}, has blocks whose attention cannot be scored; name a plain ViT, such as "
            "vit_base_patch16_224, or prune nothing."
        )


class _TransformersTower:
    """A tower of transformers: embeddings, layers with a norm before attention, and a last norm.

    Args:
        model: the tower.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.depth = len(model.encoder.layers)
        self.prefix = 1
        self.width = int(model.config.hidden_size)

    def finish(self, tokens: Tensor) -> Tensor:
        """Apply the last norm to all tokens."""
        output: Tensor = self.model.post_layernorm(tokens)
        return output

    def scale(self, block: int) -> float:
        """Scale of a block's products."""
        return float(self.model.encoder.layers[block].self_attn.scale)


class BlipTower(_TransformersTower):
    """transformers' BLIP tower."""

    model: BlipVisionModel

    def embed(self, images: Tensor) -> Tensor:
        """Embed patches, class token and positions."""
        output: Tensor = self.model.embeddings(images)
        return output

    def run(self, block: int, tokens: Tensor) -> Tensor:
        """Run a block."""
        output: Tensor = self.model.encoder.layers[block](tokens)
        return output

    def query(self, block: int, class_token: Tensor) -> Tensor:
        """Compute a block's query of the class token."""
        return self._projected(block, class_token, 0)

    def key(self, block: int, tokens: Tensor) -> Tensor:
        """Compute a block's keys."""
        return self._projected(block, tokens, 1)

    def _projected(self, block: int, tokens: Tensor, part: int) -> Tensor:
        layer: Any = self.model.encoder.layers[block]
        attention = layer.self_attn
        rows = slice(part * self.width, (part + 1) * self.width)
        bias = None if attention.qkv.bias is None else attention.qkv.bias[rows]
        projected = F.linear(layer.layer_norm1(tokens), attention.qkv.weight[rows], bias)
        return _heads(projected, attention.num_heads)


class ClipTower(_TransformersTower):
    """transformers' CLIP tower, before its projection."""

    model: CLIPVisionModel

    def embed(self, images: Tensor) -> Tensor:
        """Embed patches, class token and positions, and apply the first norm."""
        output: Tensor = self.model.pre_layrnorm(self.model.embeddings(images))
        return output

    def run(self, block: int, tokens: Tensor) -> Tensor:
        """Run a block."""
        output: Tensor = self.model.encoder.layers[block](tokens, None)
        return output

    def query(self, block: int, class_token: Tensor) -> Tensor:
        """Compute a block's query of the class token."""
        return self._projected(block, class_token, "q_proj")

    def key(self, block: int, tokens: Tensor) -> Tensor:
        """Compute a block's keys."""
        return self._projected(block, tokens, "k_proj")

    def _projected(self, block: int, tokens: Tensor, name: str) -> Tensor:
        layer: Any = self.model.encoder.layers[block]
        projection: nn.Linear = getattr(layer.self_attn, name)
        return _heads(projection(layer.layer_norm1(tokens)), layer.self_attn.num_heads)


def text_in_tower_width(text_features: Tensor, visual_projection: nn.Linear) -> Tensor:
    """Take CLIP's text features back to its tower's width, as ELIP's guide: `(B, E)` → `(B, C)`, without gradient.

    Args:
        text_features: pooled and projected; normed here, as published.
        visual_projection: the tower's, from `C` to `E`, without bias.
    """
    with torch.no_grad():
        return F.normalize(text_features, dim=-1) @ visual_projection.weight
