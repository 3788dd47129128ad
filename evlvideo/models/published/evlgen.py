"""Imports and exports published EVLGen checkpoints.

A published `.pth` holds the trained weights under the published names, and the state of the training. The vision tower
is a separate file under EVA's names, and the language model is a transformers folder. Sizes are read from the tensors.
The numbers of heads and r, which tensors do not show, default to EVLGen's values. Source: EVLGen (Jian et al., ACL
2024), its published code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from evlvideo.errors import UserError
from evlvideo.files import replacing
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.towers import read_text_config, resolve_source
from evlvideo.models.trainable import tower_of
from evlvideo.models.weights import copy_weights, read_weights

ORIGIN_NAME = "published.safetensors"
"""File in a converted checkpoint with what only the export needs."""
EVLGEN_TOWER = "eva_giant_patch14_clip_224"
EVLGEN_DEPTH = 39
"""Blocks of the tower that EVLGen keeps; files of the tower have up to 40."""

_PREFIXES = {
    "vision_tower.vit.": "visual_encoder.",
    "connector.projection.": "VL_proj.",
    "connector.bert.": "VLconnector.",
}
"""Our name prefixes → published ones; `ln_vision` has the same."""
_LANGUAGE_PROJECTIONS = {"opt": "opt_proj.", "llama": "llm_proj."}
"""Kind of language model → published name of the projection to it."""
_BUFFERS = (".position_ids", ".rotary_emb.inv_freq")
"""Name suffixes of constants in checkpoints of older libraries, which follow from the sizes."""
_CONTRAST = ("temp", "vision_proj.weight", "vision_proj.bias", "text_proj.weight", "text_proj.bias")
"""Weights of the contrastive term, which served training alone."""
_TEMPORAL = ".temporal_merge."
_BERT_HEAD_DIM = 64
_EVA_GIANT_HEAD_DIM = 88
_EVA_GIANT = (224, 14, 1408, 6144)
"""Image size, patch size, channels and MLP channels of timm's tower by default."""


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """Content of a published file, without its optimizer state."""

    weights: dict[str, Tensor]
    """Trained weights by published name."""
    buffers: dict[str, Tensor]
    """Constants of older libraries and the contrastive term by published name, unused here."""
    settings: dict[str, Any]
    """The `config` of its training."""

    @property
    def language_kind(self) -> str:
        """Kind of language model that it was trained with: `opt` or `llama`."""
        kinds = [
            kind
            for kind, prefix in _LANGUAGE_PROJECTIONS.items()
            if any(name.startswith(prefix) for name in self.weights)
        ]
        if len(kinds) != 1:
            projections = " or ".join(f"{prefix}weight" for prefix in _LANGUAGE_PROJECTIONS.values())
            raise UserError(f"The checkpoint must hold exactly one projection to a language model: {projections}.")
        return kinds[0]


def read_published(path: Path) -> PublishedCheckpoint:
    """Read a published checkpoint, image or video.

    Raises:
        UserError: the file is missing, holds more than tensors and plain containers, or is not a published checkpoint.
    """
    content = read_weights(path)
    model = content.get("model")
    if not isinstance(model, dict) or not model or not all(isinstance(value, Tensor) for value in model.values()):
        raise UserError(
            f"{path} is not a published checkpoint: it must hold weights by name under 'model', but holds "
            f"{', '.join(map(repr, list(content)[:5])) or 'nothing'}."
        )
    settings: Any = content.get("config")
    return PublishedCheckpoint(
        weights={name: value for name, value in model.items() if not _is_unused(name)},
        buffers={name: value for name, value in model.items() if _is_unused(name)},
        settings=settings if isinstance(settings, dict) else {},
    )


def _is_unused(name: str) -> bool:
    return name in _CONTRAST or name.endswith(_BUFFERS)


def published_config(
    checkpoint: PublishedCheckpoint, vision: str, language_model: str, changes: Mapping[str, Any] | None = None
) -> EvlVideoConfig:
    """Read the architecture of a published checkpoint from the shapes of its weights.

    Args:
        checkpoint: as read.
        vision: the tower's file under EVA's names, or the tower's name in timm, which then provides its weights.
        language_model: hub name or folder.
        changes: values of :class:`EvlVideoConfig` that override those read; `bert_config` and `vision_overrides` are
            merged.

    Raises:
        UserError: the weights are not those of a published model, or the number of heads is unknown.
    """
    changes = dict(changes or {})
    overrides = dict(changes.pop("vision_overrides", None) or {})
    bert = dict(changes.pop("bert_config", None) or {})
    values: dict[str, Any] = {
        **vision_values(vision, overrides),
        **_contextualizer_values(checkpoint.weights),
        "bert_config": {**_bert_sizes(checkpoint.weights, bert), **bert},
        "language_model": language_model,
        "text_config": read_text_config(language_model),
    }
    r = (
        checkpoint.settings.get("model", {}).get("tome_r")
        if isinstance(checkpoint.settings.get("model"), dict)
        else None
    )
    if r is not None and "merge_to" not in changes:
        values["merge_r"] = r
    _check_language_model(checkpoint, values["text_config"].model_type, language_model)
    return EvlVideoConfig(**(values | changes))


def captioner_from_published(
    checkpoint: PublishedCheckpoint, config: EvlVideoConfig, *, tower_dtype: torch.dtype | None = None
) -> EvlVideoForCaptioning:
    """Build the captioner with a published checkpoint's weights, in eval mode.

    Raises:
        UserError: weights are missing, unexpected, or of another shape; all are listed by published name.
    """
    model = EvlVideoForCaptioning.from_towers(config, tower_dtype=tower_dtype)
    copy_weights("The published checkpoint", _published_state(model), checkpoint.weights, listed=None)
    return model


def to_published(model: EvlVideoForCaptioning) -> dict[str, Tensor]:
    """Return a captioner's trained weights under the published names.

    Raises:
        UserError: the published code cannot run the model.
    """
    _check_publishable(model.config)
    if model.held_weights:
        raise UserError(
            f"The published code loads the towers' own weights, but those of this model were trained "
            f"({', '.join(model.held_weights)}); export a model whose towers stayed frozen."
        )
    return {name: value.detach().cpu() for name, value in _published_state(model).items()}


def write_origin(checkpoint: PublishedCheckpoint, directory: Path) -> None:
    """Keep what our own files cannot hold beside a converted checkpoint, so that its export is exact."""
    half = {name: str(value.dtype) for name, value in checkpoint.weights.items() if value.dtype != torch.float32}
    metadata = {"settings": json.dumps(checkpoint.settings, default=str), "types": json.dumps(half)}
    with replacing(directory / ORIGIN_NAME) as temporary:
        save_file(checkpoint.buffers, temporary, metadata=metadata)


def write_published(model: EvlVideoForCaptioning, path: Path, *, converted: Path | None = None) -> None:
    """Write a captioner in the published format, without its frozen towers, which keep their own files.

    Args:
        model: the captioner.
        path: the file to write.
        converted: directory of a checkpoint. If it was converted from a published one, the settings, dtypes and
            constants of that one are written again.

    Raises:
        UserError: the published code cannot run the model, or `path` cannot be written.
    """
    config, weights = model.config, to_published(model)
    settings = {"model": {"num_layers": config.bert.num_hidden_layers, "tome_r": config.merge_r}}
    origin = None if converted is None else converted / ORIGIN_NAME
    if origin is not None and origin.is_file():
        with safe_open(origin, "pt") as file:
            metadata = file.metadata()
        settings = json.loads(metadata["settings"])
        for name, kind in json.loads(metadata["types"]).items():
            weights[name] = weights[name].to(getattr(torch, kind.removeprefix("torch.")))
        weights |= load_file(origin)
    content = {
        "model": weights,
        "optimizer": {"state": {}, "param_groups": []},
        "config": settings,
        "scaler": None,
        "iters": 0,
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def _published_state(model: EvlVideoForCaptioning) -> dict[str, Tensor]:
    """Return the model's trained tensors by published name; those that the published code lacks keep our name."""
    prefixes = {**_PREFIXES, "language_projection.": _LANGUAGE_PROJECTIONS[model.config.text.model_type]}
    state = {}
    for name, value in model.state_dict().items():
        if tower_of(name) is None:
            ours = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
            state[prefixes.get(ours, "") + name.removeprefix(ours)] = value
    return state


def vision_values(vision: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the config of the tower: its sizes, and the source of its weights."""
    path = Path(resolve_source(vision))
    if path.is_file():
        sizes = _eva_sizes(path, read_weights(path), overrides)
        return {"vision_tower": EVLGEN_TOWER, "vision_weights": vision, "vision_overrides": sizes | overrides}
    if path.suffix in {".pth", ".pt", ".safetensors"} or path.exists():
        raise UserError(f"There is no vision tower file at {vision}; name the file, or the tower's name in timm.")
    depth = {"depth": EVLGEN_DEPTH} if vision == EVLGEN_TOWER else {}
    return {"vision_tower": vision, "vision_weights": "timm", "vision_overrides": depth | overrides}


def _eva_sizes(path: Path, state: Mapping[str, Tensor], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `timm.create_model` for the tower in a file under EVA's names."""
    needed = ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight")
    missing = [name for name in needed if name not in state]
    if missing:
        raise UserError(f"{path} is not a vision tower under EVA's names: it has no {', '.join(missing)}.")
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    hidden = state["blocks.0.mlp.fc1.weight"].shape[0]
    blocks = {int(name.split(".")[1]) for name in state if name.startswith("blocks.")}
    side = round((state["pos_embed"].shape[1] - 1) ** 0.5)
    if "num_heads" not in overrides and width % _EVA_GIANT_HEAD_DIM:
        raise UserError(
            f"The number of heads of the tower in {path} cannot be inferred from its {width} channels; "
            "give vision_overrides.num_heads=NUMBER."
        )
    depth = {"depth": min(len(blocks), EVLGEN_DEPTH)}
    if (side * patch, patch, width, hidden) == _EVA_GIANT:
        return depth
    return {
        **depth,
        "img_size": side * patch,
        "patch_size": patch,
        "embed_dim": width,
        "num_heads": max(1, width // _EVA_GIANT_HEAD_DIM),
        # timm multiplies by the ratio and rounds down.
        "mlp_ratio": (hidden + 0.5) / width,
    }


def _bert_sizes(weights: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, int]:
    embeddings, layer = "VLconnector.embeddings.", "VLconnector.encoder.layer."
    needed = (
        f"{embeddings}position_embeddings.weight",
        f"{embeddings}token_type_embeddings.weight",
        f"{layer}0.intermediate.dense.weight",
    )
    missing = [name for name in needed if name not in weights]
    if missing:
        raise UserError(f"The checkpoint is not a published EVLGen's: it has no {', '.join(missing)}.")
    positions, types, intermediate = (weights[name] for name in needed)
    hidden = positions.shape[1]
    if "num_attention_heads" not in given and hidden % _BERT_HEAD_DIM:
        raise UserError(
            f"The connector's number of heads cannot be inferred from its {hidden} channels; "
            "give bert_config.num_attention_heads=NUMBER."
        )
    layers = {name.removeprefix(layer).split(".")[0] for name in weights if name.startswith(layer)}
    return {
        "hidden_size": hidden,
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, hidden // _BERT_HEAD_DIM),
        "intermediate_size": intermediate.shape[0],
        "max_position_embeddings": positions.shape[0],
        "type_vocab_size": types.shape[0],
    }


def _contextualizer_values(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the contextualizer: image checkpoints have none, video checkpoints one in every block of the tower."""
    temporal = {name: value for name, value in weights.items() if _TEMPORAL in name}
    if not temporal:
        return {}
    keys = [value for name, value in temporal.items() if name.endswith("key.weight")]
    values: dict[str, Any] = {"contextualizer": "in_tower"}
    if keys:
        values["contextualizer_attention_dim"] = keys[0].shape[0]
    return values


def _check_language_model(checkpoint: PublishedCheckpoint, kind: str, name: str) -> None:
    if checkpoint.language_kind != kind:
        raise UserError(
            f"The checkpoint was trained with a language model of the kind {checkpoint.language_kind!r} "
            f"({_LANGUAGE_PROJECTIONS[checkpoint.language_kind]}weight), but {name!r} is of the kind {kind!r}; name "
            "the language model that it was trained with."
        )


def _check_publishable(config: EvlVideoConfig) -> None:
    kind = config.text.model_type
    needs = (
        ("connector", config.connector == "tomeformer", "tomeformer"),
        ("fusion", config.fusion == "mean", "mean"),
        ("contextualizer", config.contextualizer != "merged", "none or in_tower"),
        ("frame_positions", not config.frame_positions, "false"),
        ("contextualizer_blocks", config.contextualizer_blocks is None, "all of them (null)"),
        ("merge_reduction", config.merge_reduction == "mean", "mean"),
        ("merge_r", isinstance(config.merge_r, int) or config.merge_to is not None, "one number for all layers"),
        ("merge_to", config.merge_to is None, "merge_r instead, one number for all layers"),
        ("visual_mask", config.visual_mask == "causal", "causal"),
        ("lora_r", config.lora_r == 0, "0"),
        ("bos_token_id", config.bos_token_id is not None, "one, in plain texts (text.template=plain)"),
    )
    problems = [f"{name} is {getattr(config, name)!r}; it has {allowed}" for name, met, allowed in needs if not met]
    if kind not in _LANGUAGE_PROJECTIONS:
        problems.append(f"the language model is of the kind {kind!r}; it has {', '.join(_LANGUAGE_PROJECTIONS)}")
    if problems:
        raise UserError("The published code cannot run this model:\n" + "\n".join(f"  - {p}" for p in problems))
