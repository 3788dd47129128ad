"""Whole models of ELIP's published cases, BLIP's, ALBEF's and CLIP's, as ours."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from elip_case import ElipCase, case_directories
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPModel

from evlvideo.models.vlp.clip_pretraining import ClipPretraining
from evlvideo.models.vlp.hosts.blip import Blip
from evlvideo.models.vlp.hosts.matching import MatchingHost
from evlvideo.models.vlp.hosts.new import HOSTS, Sizes, matching_config, new_clip
from evlvideo.models.vlp.hosts.published import published_weights
from evlvideo.models.vlp.hosts.words import SpecialIds
from evlvideo.models.vlp.images import Guidance
from evlvideo.models.vlp.masking import Masked
from evlvideo.models.vlp.pretraining import Draws, MatchingPretraining, Recipe

MATCHING, CLIP = ("BLIP", "ALBEF"), ("CLIP",)


def cases_of(hosts: tuple[str, ...]) -> list[Path]:
    """Cases of some hosts that hold a whole model, with losses."""
    return [
        path
        for path in case_directories()
        if ElipCase(path).host in hosts and {"loss", "loss_itc"} & ElipCase(path).expected.keys()
    ]


class VlpCase(ElipCase):
    """A case of BLIP's or ALBEF's losses."""

    @property
    def guidance(self) -> Guidance:
        return Guidance(self.pruning())

    def _sizes(self) -> Sizes:
        sizes, text = self.sizes, self.sizes.get("bert") or self.sizes["text"]
        return Sizes(
            image_size=sizes["image_size"],
            patch_size=sizes["patch_size"],
            width=sizes["width"],
            depth=sizes["blocks"],
            heads=sizes["heads"],
            text_width=text.get("hidden_size") or text["width"],
            text_depth=text.get("num_hidden_layers") or text["layers"],
            text_heads=text.get("num_attention_heads") or text["heads"],
            fusion_layer=text.get("fusion_layer", 0),
            embed_dim=sizes["embed_dim"],
            dropout=0.0,
            max_text_tokens=8,
        )

    def host_model(self) -> MatchingHost:
        special, bert = self.sizes["special_ids"], self.sizes["bert"]
        is_blip = self.host == "BLIP"
        ids = SpecialIds(
            vocabulary=bert["vocab_size"],
            pad=special["pad"],
            first=special["cls"],
            last=special["sep"],
            mask=special["mask"],
            dec=special["bos"] if is_blip else None,
            enc=special["enc"] if is_blip else None,
        )
        config = matching_config(self._sizes(), ids)
        config.vision_config.intermediate_size = self.sizes["mlp_ratio"] * self.sizes["width"]
        config.text_config.intermediate_size = bert["intermediate_size"]
        config.text_config.max_position_embeddings = bert["max_position_embeddings"]
        model = HOSTS[self.host.lower()](config)
        weights = {name: value for name, value in self.weights.items() if name != "temp"}
        found = model.load_state_dict(weights, strict=False)
        assert not found.unexpected_keys, found
        if isinstance(model, Blip):
            model.share()
        shared = ("text_decoder.bert.", "cls.predictions.decoder", "text_decoder.cls.predictions.decoder")
        assert all(name.startswith(shared) for name in found.missing_keys), found
        if not isinstance(model, Blip):
            head = model.cls.predictions
            head.decoder.weight, head.decoder.bias = model.text_encoder.embeddings.word_embeddings.weight, head.bias
        return model

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        return published_weights(load_file(self.directory / "model.safetensors"))

    def pretraining(self) -> MatchingPretraining:
        """In training mode, whose dropout is 0: with the case's queue, its teacher and its temperature."""
        sizes = self.sizes
        recipe = Recipe(1, 1, 1, sizes["queue_size"], sizes["momentum"], sizes["temperature"], 0.1, 0.15, "concatenate")
        pretraining = MatchingPretraining(self.host_model(), recipe, self.guidance, torch.Generator())
        for parameter in pretraining.teacher.parameters():
            parameter.data.mul_(0.9)
        pretraining.queue.images.copy_(self.inputs["image_queue"].T)
        pretraining.queue.texts.copy_(self.inputs["text_queue"].T)
        pretraining.queue.place.fill_(sizes["queue_ptr"])
        pretraining.temp.data.copy_(self.weights["temp"])
        return pretraining.train()

    @property
    def batch(self) -> dict[str, Tensor]:
        return {
            "pixel_values": self.images.unsqueeze(1),
            "input_ids": self.inputs["input_ids"],
            "attention_mask": self.inputs["attention_mask"],
        }

    @property
    def draws(self) -> Draws:
        inputs = self.inputs
        masked = Masked(inputs["masked_input_ids"], inputs["labels"]) if "labels" in inputs else None
        return Draws(inputs["negative_images"], inputs["negative_texts"], masked)

    def losses(self, pretraining: MatchingPretraining) -> dict[str, Tensor]:
        pretraining.before_step()
        return pretraining(**self.batch, alpha=self.sizes["alpha"], generator=torch.Generator(), draws=self.draws)


class ClipCase(VlpCase):
    """A case of CLIP's loss."""

    def clip(self) -> CLIPModel:
        text, weights = self.sizes["text"], load_file(self.directory / "clip.safetensors")
        # In a checkpoint whose EOS token is 2, transformers pools at the highest token, as open_clip does.
        ids = SpecialIds(vocabulary=text["vocab_size"], pad=0, first=1, last=2)
        model = new_clip(self._sizes(), ids)
        config: Any = model.config
        for part in (config.text_config, config.vision_config):
            part.hidden_act = self.sizes["activation"]
            part.intermediate_size = self.sizes["mlp_ratio"] * part.hidden_size
        config.text_config.max_position_embeddings = text["context_length"]
        config.vision_config.layer_norm_eps = config.text_config.layer_norm_eps = self.sizes["norm_eps"]
        model = CLIPModel(config)
        model.load_state_dict(_transformers_clip(weights))
        return model

    def clip_pretraining(self) -> ClipPretraining:
        return ClipPretraining(self.clip(), self.guidance).train()


_CLIP = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
_OUTSIDE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
}
_NORMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}


def _transformers_clip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename open_clip's weights to transformers'."""
    found = {
        "visual_projection.weight": weights["visual.proj"].T.contiguous(),
        "text_projection.weight": weights["text_projection"].T.contiguous(),
    }
    for name, value in weights.items():
        part, _, kind = name.rpartition(".")
        if name in _OUTSIDE:
            found[_OUTSIDE[name]] = value
        elif part in _NORMS:
            found[f"{_NORMS[part]}.{kind}"] = value
        elif "resblocks." in name:
            side, rest = name.split("transformer.resblocks.")
            layer, rest = rest.split(".", 1)
            prefix = f"{'vision' if side else 'text'}_model.encoder.layers.{layer}"
            if "in_proj_" in rest:
                for projection, share in zip("qkv", value.chunk(3), strict=True):
                    found[f"{prefix}.self_attn.{projection}_proj.{rest.rpartition('in_proj_')[2]}"] = share
            elif rest.startswith("attn.out_proj"):
                found[f"{prefix}.self_{rest}"] = value
            else:
                block, _, kind = rest.rpartition(".")
                found[f"{prefix}.{_CLIP[block]}.{kind}"] = value
    return found
