"""Names of the weights of published BLIPs and ALBEFs, of timm's ViTs and of BERTs, in transformers' layers."""

from collections.abc import Mapping

from torch import Tensor

_VISION = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
}
_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_TYPES, _POSITIONS = "embeddings.token_type_embeddings.weight", "embeddings.position_embeddings.weight"


def vision_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a timm ViT, whose names those of BLIP and ALBEF are, to transformers'; heads are left out.

    Args:
        weights: by timm's names, such as `blocks.0.attn.qkv.weight`.
    """
    found = {}
    for name, value in weights.items():
        if name.startswith("blocks."):
            _, block, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            found[f"encoder.layers.{block}.{_BLOCK[part]}.{kind}"] = value
        elif name in _VISION:
            found[_VISION[name]] = value
        elif (part := name.rpartition(".")[0]) in _VISION:
            found[f"{_VISION[part]}.{name.rpartition('.')[2]}"] = value
    return found


def text_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put a BERT's embedding of the first token type, which every token has, into its position table.

    Args:
        weights: by BERT's names, such as `embeddings.LayerNorm.weight`. Poolers are left out.
    """
    found = {
        name: value
        for name, value in weights.items()
        if name != _TYPES and not name.startswith("pooler.") and not name.endswith("position_ids")
    }
    if _TYPES in weights:
        found[_POSITIONS] = found[_POSITIONS] + weights[_TYPES][0]
    return found


def published_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a published BLIP or ALBEF, without its momentum copies and its queue.

    Args:
        weights: of the `model` in its `.pth` file.

    Returns:
        weights of :class:`evlvideo.models.vlp.hosts.blip.Blip` or :class:`evlvideo.models.vlp.hosts.albef.Albef`, and
        `temp`. Those that BLIP's decoder shares may be missing.
    """
    found: dict[str, Tensor] = {}
    vision, decoder = _inside(weights, "visual_encoder."), _inside(weights, "text_decoder.bert.")
    encoder = _inside(weights, "text_encoder.bert.") or _inside(weights, "text_encoder.")
    for module, renamed in (
        ("vision_model", vision_weights(vision)),
        ("text_encoder", text_weights(encoder)),
        ("text_decoder.bert", text_weights(decoder)),
    ):
        found |= {f"{module}.{name}": value for name, value in renamed.items()}
    found |= {f"cls.{name}": value for name, value in _inside(weights, "text_encoder.cls.").items()}
    kept = ("text_decoder.cls.", "vision_proj.", "text_proj.", "itm_head.", "temp")
    return found | {name: value for name, value in weights.items() if name.startswith(kept)}


def _inside(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
