"""Cases of ELIP's published implementation: toy towers of four hosts, and what it pruned.

The values are those of guyang9/ELIP at toy size, float32 on the CPU, in eval mode; `case.json` names the files.
"""

import json
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from published_case import CASES, Case
from safetensors.torch import load_file
from timm.layers import QuickGELU
from timm.models.vision_transformer import VisionTransformer, _convert_openai_clip
from torch import Tensor, nn
from transformers import BlipVisionConfig, BlipVisionModel, CLIPVisionConfig, CLIPVisionModel

from evlvideo.models.blocks.prunable_towers import BlipTower, ClipTower, TimmTower
from evlvideo.models.blocks.pruned_encoding import PrunableTower, Pruning
from evlvideo.models.tokens.pruning import PruningSchedule


def case_directories() -> list[Path]:
    """Every ELIP case under the directory of cases."""
    found = (path for path in CASES.rglob("case.json") if "begin_layer" in json.loads(path.read_text()))
    return sorted(path.parent for path in found)


class ElipCase(Case):
    """One case: a folder."""

    @property
    def host(self) -> str:
        return self.sizes.get("host", "BLIP's tower")

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return load_file(self.directory / "inputs.safetensors")

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        return load_file(self.directory / "expected.safetensors")

    @property
    def images(self) -> Tensor:
        return self.inputs["pixel_values"].float()

    @property
    def guide(self) -> Tensor:
        """Class features of the texts."""
        if "text_cls" in self.inputs:
            return self.inputs["text_cls"]
        return self.expected["guide"] if "guide" in self.expected else self.expected["text_embeds"][:, 0]

    @property
    def prunes(self) -> range:
        return range(len(self.sizes["begin_layer"]) if "kept_0" in self.expected else 0)

    def pruning(self, **changes: Any) -> Pruning:
        """As published: with its own numbers of tokens, of which some hosts count the class token."""
        sizes = self.sizes
        schedule = PruningSchedule(*(tuple(sizes[name]) for name in ("begin_layer", "num_act_layers", "keep_ratio")))
        return Pruning(schedule, vision_share=sizes["lam"], kept=tuple(sizes["num_keep_tokens"]), **changes)

    def timm(self) -> VisionTransformer:
        """The tower, as a model of timm."""
        sizes, clip_like = self.sizes, self.host in ("CLIP", "METER")
        vit = VisionTransformer(
            img_size=sizes.get("image_size") or sizes["img_size"],
            patch_size=sizes["patch_size"],
            embed_dim=sizes.get("width") or sizes["embed_dim"],
            depth=sizes.get("blocks") or sizes["depth"],
            num_heads=sizes.get("heads") or sizes["num_heads"],
            mlp_ratio=sizes["mlp_ratio"],
            pre_norm=clip_like,
            norm_layer=partial(nn.LayerNorm, eps=sizes["norm_eps"]),
            act_layer=QuickGELU if sizes.get("activation") == "quick_gelu" else nn.GELU,
            num_classes=0,
        )
        weights = self._weights(vit)
        if clip_like:
            weights["patch_embed.proj.bias"] = torch.zeros(vit.embed_dim)
            vit.patch_embed.proj.bias = nn.Parameter(weights["patch_embed.proj.bias"])
        vit.load_state_dict(weights)
        return vit.eval()

    def _weights(self, vit: VisionTransformer) -> dict[str, Tensor]:
        if self.host == "METER":
            return _convert_openai_clip(load_file(self.directory / "vit.safetensors"), vit, prefix="")
        if self.host == "CLIP":
            converted = _convert_openai_clip(load_file(self.directory / "clip.safetensors"), vit)
            return {name: value for name, value in converted.items() if not name.startswith("head.")}
        if (self.directory / "vit.pth").is_file():
            return torch.load(self.directory / "vit.pth", weights_only=True)
        model = load_file(self.directory / "model.safetensors")
        prefix = "visual_encoder."
        return {name.removeprefix(prefix): value for name, value in model.items() if name.startswith(prefix)}

    def towers(self) -> dict[str, PrunableTower]:
        """The tower in every library that has it."""
        vit = self.timm()
        found: dict[str, PrunableTower] = {"timm": TimmTower(vit)}
        if self.host in ("CLIP", "METER"):
            found["transformers"] = ClipTower(_clip_of(vit, self.sizes))
        else:
            found["transformers"] = BlipTower(_blip_of(vit, self.sizes))
        return found


_NAMES = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def _config(vit: VisionTransformer, sizes: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_size": vit.embed_dim,
        "intermediate_size": vit.embed_dim * sizes["mlp_ratio"],
        "num_hidden_layers": len(vit.blocks),
        "num_attention_heads": vit.blocks[0].attn.num_heads,
        "image_size": vit.patch_embed.img_size[0],
        "patch_size": sizes["patch_size"],
        "hidden_act": sizes.get("activation", "gelu"),
        "layer_norm_eps": sizes["norm_eps"],
    }


def _layers(vit: VisionTransformer) -> dict[str, Tensor]:
    """The blocks under transformers' names, with fused queries, keys and values."""
    found = {}
    for name, value in vit.state_dict().items():
        if name.startswith("blocks."):
            _, block, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            found[f"encoder.layers.{block}.{_NAMES[part]}.{kind}"] = value
    return found


def _blip_of(vit: VisionTransformer, sizes: dict[str, Any]) -> BlipVisionModel:
    weights = vit.state_dict()
    model = BlipVisionModel(BlipVisionConfig(**_config(vit, sizes))).eval()
    model.load_state_dict(
        {
            **_layers(vit),
            "embeddings.class_embedding": weights["cls_token"],
            "embeddings.position_embedding": weights["pos_embed"],
            "embeddings.patch_embedding.weight": weights["patch_embed.proj.weight"],
            "embeddings.patch_embedding.bias": weights["patch_embed.proj.bias"],
            "post_layernorm.weight": weights["norm.weight"],
            "post_layernorm.bias": weights["norm.bias"],
        }
    )
    return model


def _clip_of(vit: VisionTransformer, sizes: dict[str, Any]) -> CLIPVisionModel:
    weights, layers = vit.state_dict(), {}
    for name, value in _layers(vit).items():
        if ".qkv." in name:
            for part, share in zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True):
                layers[name.replace(".qkv.", f".{part}.")] = share
        else:
            layers[name.replace(".projection.", ".out_proj.")] = value
    model = CLIPVisionModel(CLIPVisionConfig(**_config(vit, sizes))).eval()
    missing = model.load_state_dict(
        {
            **layers,
            "embeddings.class_embedding": weights["cls_token"].flatten(),
            "embeddings.position_embedding.weight": weights["pos_embed"][0],
            "embeddings.patch_embedding.weight": weights["patch_embed.proj.weight"],
            **{f"pre_layrnorm.{kind}": weights[f"norm_pre.{kind}"] for kind in ("weight", "bias")},
            **{f"post_layernorm.{kind}": weights[f"norm.{kind}"] for kind in ("weight", "bias")},
        },
        strict=False,
    )
    assert set(missing.missing_keys) <= {"embeddings.position_ids"}, missing
    assert not missing.unexpected_keys
    return model
