"""Imports published weights of BLIP-2, Video-LLaMA and VideoChat.

Their files hold the trained weights under LAVIS's names. Those of Video-LLaMA and VideoChat lack the frozen Q-Former,
which is read from a file of BLIP-2. Sizes are read from the tensors. Sources: the published code of each.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.published.evlgen import vision_values
from evlvideo.models.towers import read_text_config
from evlvideo.models.trainable import tower_of
from evlvideo.models.weights import copy_weights

_PROJECTIONS = ("opt_proj.", "llm_proj.", "llama_proj.")
_QFORMER = (
    ("embeddings.LayerNorm.", "layernorm."),
    (".attention.self.", ".attention.attention."),
    (".crossattention.self.", ".crossattention.attention."),
)
"""Published parts of a Q-Former's names → transformers' names."""
_RELATIONS = (
    (".dpe.", ".positions."),
    (".attn.", ".attention."),
    (".ln_1.", ".ln_token."),
    (".ln_2.", ".ln_mlp."),
    (".ln_3.", ".ln_frames."),
    (".mlp.c_fc.", ".fc1."),
    (".mlp.c_proj.", ".fc2."),
)
"""Published parts of a relation aggregator's names → our names."""
_NAMES: dict[str, dict[str, str]] = {
    "blip2": {"query_tokens": "connector.queries", "Qformer.bert.": "connector.qformer."},
    "video_llama": {
        "query_tokens": "connector.image_queries",
        "Qformer.bert.": "connector.image_qformer.",
        "video_frame_position_embedding.weight": "connector.frame_positions",
        "video_query_tokens": "connector.video_queries",
        "video_Qformer.bert.": "connector.video_qformer.",
    },
    "videochat": {
        "query_tokens": "connector.queries",
        "extra_query_tokens": "connector.extra_queries",
        "Qformer.bert.": "connector.qformer.",
        "visual_encoder.gmhra_cls_token": "vision_tower.video_relations.token",
        "visual_encoder.gmhra.": "vision_tower.video_relations.aggregators.",
    },
}
"""Published name prefixes → our prefixes."""
_FROM_BLIP2 = ("query_tokens", "Qformer.", "ln_vision.")
"""Prefixes of the weights that another system takes from a file of BLIP-2."""
_NOT_HERE = (
    *(
        "visual_encoder.",
        "llama_model.",
        "llm_model.",
        "opt_model.",
        "t5_model.",
    ),  # towers, which have their own files
    *("Qformer.cls.", "vision_proj.", "text_proj.", "itm_head.", "temp", "t5_proj."),  # BLIP-2's first stage, and T5
    "audio_",  # Video-LLaMA's other branch
)
"""Prefixes of weights that no connector has."""
_TEXT_BRANCH = re.compile(
    r"(video_)?Qformer\.bert\.(embeddings\.(word|position)_.*|encoder\.layer\.\d+\.(intermediate|output)\..*)"
)
"""Parts of the names of weights with which a Q-Former reads text."""
TAKE_OVER = ("video_llama", "videochat")
"""Systems that use BLIP-2's Q-Former, which their files lack."""
_HEAD_DIM, _TOWER_HEAD_DIM = 64, 88


def system_of(weights: Mapping[str, Tensor]) -> str | None:
    """Tell by their names which connector published weights belong to; `None` if none of these."""
    if any(name.startswith("video_Qformer.") for name in weights):
        return "video_llama"
    if any(name.startswith("visual_encoder.gmhra") for name in weights):
        return "videochat"
    return "blip2" if "query_tokens" in weights else None


def captioner_from_system(
    system: str,
    weights: Mapping[str, Tensor],
    *,
    blip2: Mapping[str, Tensor] | None,
    vision: str,
    language_model: str,
    changes: Mapping[str, Any],
) -> EvlVideoForCaptioning:
    """Build the captioner with a system's published connector, in eval mode.

    Args:
        system: result of :func:`system_of`.
        weights: weights of the system's file by published name.
        blip2: weights of a file of BLIP-2, whose Q-Former the system keeps frozen.
        vision: the tower's file under EVA's names, or the tower's name in timm.
        language_model: hub name or folder.
        changes: values of :class:`EvlVideoConfig` that the tensors do not show; sections are merged into those read.

    Raises:
        UserError: weights are missing, unexpected, or of another shape; all are listed by our names.
    """
    changes = dict(changes)
    given = {
        name: dict(changes.pop(name, None) or {}) for name in ("vision_overrides", "bert_config", "connector_options")
    }
    state = connector_weights(system, weights, blip2)
    values = connector_values(system, state, given["bert_config"])
    values["connector_options"] |= given["connector_options"]
    config = EvlVideoConfig(
        **(
            vision_values(vision, given["vision_overrides"])
            | values
            | {"language_model": language_model, "text_config": read_text_config(language_model)}
            | changes
        )
    )
    model = EvlVideoForCaptioning.from_towers(config)
    own = {name: value for name, value in model.state_dict().items() if tower_of(name) is None}
    copy_weights(f"The published checkpoint of connector={system}", own, state, listed=None)
    return model


def connector_weights(
    system: str, weights: Mapping[str, Tensor], blip2: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Rename published weights to our names.

    Args:
        system: result of :func:`system_of`.
        weights: weights of the system's file by published name.
        blip2: weights of a file of BLIP-2, whose Q-Former the system keeps frozen.

    Raises:
        UserError: there are weights of unsupported parts.
    """
    local = sorted(name for name in weights if ".lmhra" in name)
    if local:
        raise UserError(
            f"The checkpoint has local relation aggregators ({local[0]}, …), which are not supported; published "
            "VideoChat has global ones only (no_lmhra)."
        )
    taken = {name: value for name, value in (blip2 or {}).items() if name.startswith(_FROM_BLIP2)}
    return {_our_name(system, name): value for name, value in {**taken, **weights}.items() if not _is_other(name)}


def connector_values(system: str, weights: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, Any]:
    """Read the architecture from the weights.

    Args:
        system: result of :func:`system_of`.
        weights: weights by our names.
        given: sizes of BERT that override those read.

    Raises:
        UserError: the Q-Former is missing, or its number of heads is unknown.
    """
    image = "connector.image_" if system == "video_llama" else "connector."
    queries, prefix = f"{image}queries", f"{image}qformer.encoder.layer."
    inner = f"{prefix}0.intermediate_query.dense.weight"
    missing = [name for name in (queries, inner) if name not in weights]
    if missing:
        raise UserError(
            f"The checkpoint of connector={system} has no {' and no '.join(missing)}: its Q-Former is BLIP-2's; "
            "name BLIP-2's file with --qformer."
        )
    hidden = weights[queries].shape[-1]
    if "num_attention_heads" not in given and hidden % _HEAD_DIM:
        raise UserError(
            f"The Q-Former's number of heads cannot be inferred from its {hidden} channels; "
            "give bert_config.num_attention_heads=NUMBER."
        )
    bert = {
        "hidden_size": hidden,
        "num_hidden_layers": _count(weights, prefix),
        "num_attention_heads": max(1, hidden // _HEAD_DIM),
        "intermediate_size": weights[inner].shape[0],
    }
    options: dict[str, Any] = {
        "num_queries": weights[queries].shape[1],
        "cross_attention_every": 1 if any(name.startswith(f"{prefix}1.crossattention.") for name in weights) else 2,
    }
    values: dict[str, Any] = {"connector": system, "bert_config": {**bert, **given}}
    if system == "video_llama":
        options["video_queries"] = weights["connector.video_queries"].shape[1]
        options["video_layers"] = _count(weights, "connector.video_qformer.encoder.layer.")
        values["max_frames"] = len(weights["connector.frame_positions"])
    if system == "videochat":
        options |= _relation_options(weights)
    return values | {"connector_options": options}


def _relation_options(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    aggregators = "vision_tower.video_relations.aggregators."
    inner, width = weights[f"{aggregators}0.fc1.weight"].shape
    return {
        "extra_queries": weights["connector.extra_queries"].shape[1],
        "relation_blocks": _count(weights, aggregators),
        "relation_heads": max(1, width // _TOWER_HEAD_DIM),
        "relation_mlp_ratio": inner / width,
    }


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})


def _is_other(name: str) -> bool:
    if name.startswith("visual_encoder.gmhra"):
        return False
    return name.startswith(_NOT_HERE) or _TEXT_BRANCH.fullmatch(name) is not None


def _our_name(system: str, name: str) -> str:
    if name.startswith(_PROJECTIONS):
        return f"language_projection.{name.partition('.')[2]}"
    names = _NAMES[system]
    theirs = next((prefix for prefix in sorted(names, key=len, reverse=True) if name.startswith(prefix)), None)
    if theirs is None:
        return name
    rest = name.removeprefix(theirs)
    changes = _QFORMER if "ormer" in theirs else _RELATIONS
    for published, ours in changes:
        rest = rest.replace(published, ours) if published.startswith(".") or rest.startswith(published) else rest
    return names[theirs] + rest
