"""What a model is, in words."""

from collections.abc import Mapping
from typing import Any

from evlvideo.inspection.records import LayerMerging
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors.tomeformer import TomeFormer
from evlvideo.models.text.visual_mask import CAUSAL
from evlvideo.models.tokens.merging import tokens_after
from evlvideo.models.towers import TOWERS, TowerRecord


def settings_of(model: EvlVideoForCaptioning, towers: Mapping[str, TowerRecord]) -> dict[str, str]:
    """Name what a model consists of, and where its frozen towers come from.

    Args:
        model: the captioner.
        towers: the manifest of its checkpoint.
    """
    config, tower = model.config, model.vision_tower
    words: Any = model.language_model.get_input_embeddings()
    sources = {name: f"from {towers[name].source}" if name in towers else "in the checkpoint" for name in TOWERS}
    settings = {
        "vision tower": f"{config.vision_tower}, {tower.image_size} pixels, {tower.num_tokens} tokens of "
        f"{tower.dim}, {sources['vision_tower']}",
        "connector": ", ".join([config.connector, *_options(model)]),
        "frames": _frames(model),
        "soft tokens": _soft_tokens(model),
        "language model": f"{config.text.model_type}, {words.num_embeddings:,} words of {words.embedding_dim}, "
        f"{sources['language_model']}",
    }
    if config.visual_mask != CAUSAL:
        settings["visual mask"] = config.visual_mask.replace("_", " ")
    if config.lora_r:
        targets = ", ".join(config.lora_targets or ["peft's choice"])
        settings["lora"] = f"rank {config.lora_r}, alpha {config.lora_alpha}, on {targets}"
    return settings


def merging_of(model: EvlVideoForCaptioning) -> list[LayerMerging]:
    """Count the tokens of a frame before and after each layer of a connector that merges."""
    connector = model.connector
    if not isinstance(connector, TomeFormer):
        return []
    layers, tokens = [], model.vision_tower.num_tokens
    for r in connector.bert.schedule:
        left = tokens_after(tokens, [r], connector.bert.class_token)
        layers.append(LayerMerging(tokens, left))
        tokens = left
    return layers


def _options(model: EvlVideoForCaptioning) -> list[str]:
    config = model.config
    options = [f"{name.replace('_', ' ')} {value}" for name, value in (config.connector_options or {}).items()]
    if isinstance(model.connector, TomeFormer):
        bert = config.bert
        options.append(f"{bert.num_hidden_layers} layers of {bert.hidden_size}, dropout {bert.hidden_dropout_prob:g}")
    return options


def _frames(model: EvlVideoForCaptioning) -> str:
    config = model.config
    fusion = "taken together by the connector" if config.fusion is None else f"fusion {config.fusion}"
    positions = " with frame positions" if config.frame_positions else ""
    context = "" if config.contextualizer == "none" else f", contextualizer {config.contextualizer}{positions}"
    return fusion + context


def _soft_tokens(model: EvlVideoForCaptioning) -> str:
    tokens = model.connector.num_output_tokens(model.vision_tower.num_tokens)
    return f"{tokens} a {'frame' if model.config.fusion == 'concat' else 'clip'}"
