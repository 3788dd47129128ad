"""Makes new models: of given sizes, with random weights or those of a ViT and a BERT."""

from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModel,
    BlipConfig,
    BlipTextConfig,
    BlipVisionConfig,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
)

from evlvideo.errors import UserError
from evlvideo.models.vlp.hosts.albef import Albef
from evlvideo.models.vlp.hosts.blip import Blip
from evlvideo.models.vlp.hosts.matching import MatchingHost
from evlvideo.models.vlp.hosts.published import text_weights, vision_weights
from evlvideo.models.vlp.hosts.words import SpecialIds

HOSTS: dict[str, type[MatchingHost]] = {"blip": Blip, "albef": Albef}
"""Hosts with matching."""
_MLP_RATIO = 4
_VISION_EPS, _TEXT_EPS, _INIT = 1e-6, 1e-12, 0.02
_CLIP_ACTIVATION = "gelu"
"""open_clip's; OpenAI's own checkpoints have a quicker one."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of a new model, by the keys of a config's `model`, where they are explained."""

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    text_width: int
    text_depth: int
    text_heads: int
    fusion_layer: int
    embed_dim: int
    dropout: float
    max_text_tokens: int


def matching_config(sizes: Sizes, ids: SpecialIds) -> BlipConfig:
    """Configure a new BLIP or ALBEF, as published but for its sizes."""
    vision = BlipVisionConfig(
        **_layers(sizes.width, sizes.depth, sizes.heads),
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
        layer_norm_eps=_VISION_EPS,
        initializer_range=_INIT,
    )
    text = BlipTextConfig(
        vocab_size=ids.vocabulary,
        **_layers(sizes.text_width, sizes.text_depth, sizes.text_heads),
        max_position_embeddings=max(512, sizes.max_text_tokens),
        layer_norm_eps=_TEXT_EPS,
        hidden_dropout_prob=sizes.dropout,
        attention_probs_dropout_prob=sizes.dropout,
        bos_token_id=ids.first if ids.dec is None else ids.dec,
        eos_token_id=ids.last,
        sep_token_id=ids.last,
        pad_token_id=ids.pad,
    )
    config = BlipConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), image_text_hidden_size=sizes.embed_dim
    )
    config.fusion_layer, config.enc_token_id, config.mask_token_id = sizes.fusion_layer, ids.enc, ids.mask
    return config


def _layers(width: int, depth: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": _MLP_RATIO * width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
    }


def new_clip(sizes: Sizes, ids: SpecialIds) -> CLIPModel:
    """Make a CLIP with random weights."""
    vision = CLIPVisionConfig(
        **_layers(sizes.width, sizes.depth, sizes.heads),
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
        hidden_act=_CLIP_ACTIVATION,
        projection_dim=sizes.embed_dim,
    )
    text = CLIPTextConfig(
        vocab_size=ids.vocabulary,
        **_layers(sizes.text_width, sizes.text_depth, sizes.text_heads),
        max_position_embeddings=max(77, sizes.max_text_tokens),
        hidden_act=_CLIP_ACTIVATION,
        projection_dim=sizes.embed_dim,
        pad_token_id=ids.pad,
        bos_token_id=ids.first,
        eos_token_id=ids.last,
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=sizes.embed_dim)
    )


def new_matching_host(
    host: str, config: BlipConfig, *, vision_init: str | None = None, text_init: str | None = None
) -> MatchingHost:
    """Make a BLIP or ALBEF.

    Args:
        host: `blip` or `albef`.
        config: from :func:`matching_config`.
        vision_init: timm's name of a ViT to start the tower from. Defaults to random weights.
        text_init: hub name or folder of a BERT to start the text layers from. Defaults to random weights.

    Raises:
        UserError: one cannot be opened, or has other sizes.
    """
    model = HOSTS[host](config)
    if vision_init is not None:
        _start_vision(model, vision_init)
    if text_init is not None:
        _start_text(model, text_init)
    if isinstance(model, Blip):
        model.share()
    return model


def _start_vision(model: MatchingHost, name: str) -> None:
    size = model.vision_model.config.image_size
    try:
        vit = timm.create_model(name, pretrained=True, img_size=size, num_classes=0)  # interpolates positions
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise UserError(f"model.vision_init is {name!r}, which timm cannot open: {error}") from error
    _load_part(model.vision_model, vision_weights(vit.state_dict()), f"model.vision_init is {name!r}")


def _start_text(model: MatchingHost, name: str) -> None:
    try:
        bert = AutoModel.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(f"model.text_init is {name!r}, which cannot be opened: {error}") from error
    weights = text_weights(bert.state_dict())
    words = model.text_encoder.embeddings.word_embeddings.weight
    found = weights["embeddings.word_embeddings.weight"]
    if found.shape[1] == words.shape[1]:  # the tokens that BLIP adds have none yet
        weights["embeddings.word_embeddings.weight"] = torch.cat([found, words.detach()[len(found) :]])
    parts = [model.text_encoder, *([model.text_decoder.bert] if isinstance(model, Blip) else [])]
    for part in parts:
        _load_part(part, weights, f"model.text_init is {name!r}")


def _load_part(part: nn.Module, weights: dict[str, Tensor], what: str) -> None:
    try:
        found = part.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise UserError(f"{what}, whose sizes are not the config's: {str(error).splitlines()[-1].strip()}") from error
    missing = [name for name in found.missing_keys if ".crossattention." not in name]
    if missing or found.unexpected_keys:
        raise UserError(f"{what}, whose layers are others: {', '.join([*missing, *found.unexpected_keys][:5])}.")


def resize_positions(embeddings: Any, image_size: int) -> None:
    """Interpolate the positions of a BLIP's or CLIP's tower to another size of images.

    Args:
        embeddings: of transformers' tower, changed in place.
        image_size: side in pixels.
    """
    if image_size == embeddings.image_size:
        return
    table = embeddings.position_embedding
    positions = (table.weight if isinstance(table, nn.Embedding) else table[0]).detach()  # (1 + patches, D)
    side, old = image_size // embeddings.patch_size, embeddings.image_size // embeddings.patch_size
    patches = positions[1:].T.reshape(1, -1, old, old)
    patches = F.interpolate(patches, size=(side, side), mode="bicubic", align_corners=False).flatten(2)[0].T
    resized = torch.cat([positions[:1], patches])
    if isinstance(table, nn.Embedding):
        embeddings.position_embedding = nn.Embedding.from_pretrained(resized, freeze=False)
        embeddings.position_ids = torch.arange(len(resized), device=resized.device).expand(1, -1)
    else:
        embeddings.position_embedding = nn.Parameter(resized.unsqueeze(0))
    embeddings.image_size = embeddings.config.image_size = image_size
    embeddings.num_patches, embeddings.num_positions = side * side, side * side + 1
