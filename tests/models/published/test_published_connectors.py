"""Published weights of other systems, under their names: what goes where, and what is refused."""

from typing import Any

import pytest
import torch
from tiny_connectors import changes
from tiny_models import VISION, VISION_SIZES, MakeModel, Towers, pixels
from torch import Tensor

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.published.connectors import captioner_from_system, connector_weights, system_of
from evlvideo.models.trainable import tower_of

SYSTEMS = {
    "blip2": ("connector.", ""),
    "video_llama": ("connector.image_", "video_"),
    "videochat": ("connector.", ""),
}
QFORMER = {
    "layernorm.": "embeddings.LayerNorm.",
    ".attention.attention.": ".attention.self.",
    ".crossattention.attention.": ".crossattention.self.",
}
RELATIONS = {
    ".positions.": ".dpe.",
    ".attention.": ".attn.",
    ".ln_token.": ".ln_1.",
    ".ln_mlp.": ".ln_2.",
    ".ln_frames.": ".ln_3.",
    ".fc1.": ".mlp.c_fc.",
    ".fc2.": ".mlp.c_proj.",
}
BEGINNINGS = {
    "vision_tower.video_relations.token": "visual_encoder.gmhra_cls_token",
    "vision_tower.video_relations.aggregators": "visual_encoder.gmhra",
    "connector.image_queries": "query_tokens",
    "connector.image_qformer": "Qformer.bert",
    "connector.video_queries": "video_query_tokens",
    "connector.video_qformer": "video_Qformer.bert",
    "connector.frame_positions": "video_frame_position_embedding.weight",
    "connector.extra_queries": "extra_query_tokens",
    "connector.queries": "query_tokens",
    "connector.qformer": "Qformer.bert",
    "language_projection": "llama_proj",
}


def published_name(name: str) -> str:
    """As LAVIS's code names its modules, written down apart from the converter."""
    for ours, theirs in (RELATIONS if "video_relations" in name else QFORMER).items():
        place = name.find(ours)
        if place > 0 and (ours.startswith(".") or name[place - 1] == "."):
            name = name.replace(ours, theirs)
    return next(
        (theirs + name.removeprefix(ours) for ours, theirs in BEGINNINGS.items() if name.startswith(ours)), name
    )


def published(model: EvlVideoForCaptioning) -> dict[str, Tensor]:
    """What the system's code would have saved of this model, with much beside."""
    state = {published_name(name): value for name, value in model.state_dict().items() if tower_of(name) is None}
    layer = "Qformer.bert.encoder.layer.0"
    others = (
        "llama_model.norm.weight",
        "visual_encoder.blocks.0.norm1.weight",
        "audio_query_tokens",
        "Qformer.cls.bias",
    )
    text = ("Qformer.bert.embeddings.word_embeddings.weight", f"{layer}.intermediate.dense.weight")
    return state | {name: torch.zeros(3) for name in (*others, *text, f"{layer}.output.dense.weight", "temp")}


def convert(towers: Towers, system: str, weights: dict[str, Tensor], **given: Any) -> EvlVideoForCaptioning:
    heads = {"relation_heads": 4} if system == "videochat" else {}
    return captioner_from_system(
        system,
        weights,
        blip2=given.pop("blip2", None),
        vision=VISION,
        language_model=str(towers.language),
        changes={
            "vision_overrides": VISION_SIZES,
            "vision_weights": str(towers.vision),
            "vision_final_norm": True,
            "bert_config": {"num_attention_heads": 4},
            "connector_options": heads,
            **given,
        },
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_published_weights_give_the_same_soft_prompt(make_model: MakeModel, towers: Towers, system: str) -> None:
    options = {"train_qformer": True} if system != "blip2" else {}
    model = make_model(**changes(system, connector_options=options))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1) if weight.requires_grad else None
    weights = published(model)
    assert system_of(weights) == system
    converted = convert(towers, system, weights)
    torch.testing.assert_close(converted.encode(pixels(2, 3)), model.encode(pixels(2, 3)))
    assert converted.config.options.num_queries == 5


@pytest.mark.parametrize("system", ["video_llama", "videochat"])
def test_qformer_that_is_taken_over_comes_from_a_file_of_blip2(
    make_model: MakeModel, towers: Towers, system: str
) -> None:
    model = make_model(**changes(system))
    weights = published(model)
    of_blip2 = {name: value for name, value in weights.items() if name.startswith(("Qformer.", "query_tokens"))}
    own = {name: value for name, value in weights.items() if name not in of_blip2}
    foreign = {"opt_proj.weight": torch.zeros(3), "opt_proj.bias": torch.zeros(3)}
    converted = convert(towers, system, own, blip2=of_blip2 | foreign)
    assert torch.equal(converted.encode(pixels(1, 2)), model.encode(pixels(1, 2)))
    with pytest.raises(UserError, match="name BLIP-2's file with --qformer"):
        convert(towers, system, own)


def test_names_are_those_of_the_published_code(make_model: MakeModel) -> None:
    """Spelled out, so that the mapping above and the converter's cannot be wrong alike."""
    names = (
        published(make_model(**changes("videochat"))).keys() | published(make_model(**changes("video_llama"))).keys()
    )
    assert names >= {
        "query_tokens",
        "Qformer.bert.embeddings.LayerNorm.weight",
        "Qformer.bert.encoder.layer.1.attention.self.query.weight",
        "Qformer.bert.encoder.layer.0.attention.output.LayerNorm.bias",
        "Qformer.bert.encoder.layer.0.crossattention.self.key.weight",
        "Qformer.bert.encoder.layer.0.crossattention.output.dense.bias",
        "Qformer.bert.encoder.layer.0.intermediate_query.dense.weight",
        "Qformer.bert.encoder.layer.0.output_query.LayerNorm.weight",
        "video_query_tokens",
        "video_frame_position_embedding.weight",
        "video_Qformer.bert.encoder.layer.1.crossattention.self.value.weight",
        "extra_query_tokens",
        "visual_encoder.gmhra_cls_token",
        "visual_encoder.gmhra.0.dpe.weight",
        "visual_encoder.gmhra.1.attn.in_proj_weight",
        "visual_encoder.gmhra.1.attn.out_proj.bias",
        "visual_encoder.gmhra.0.ln_3.weight",
        "visual_encoder.gmhra.0.mlp.c_fc.weight",
        "visual_encoder.gmhra.0.mlp.c_proj.weight",
        "llama_proj.weight",
        "ln_vision.weight",
    }


def test_what_has_no_place_is_refused_by_name(make_model: MakeModel, towers: Towers) -> None:
    weights = published(make_model(**changes("blip2"))) | {"Qformer.bert.adapter.weight": torch.zeros(1)}
    del weights["ln_vision.bias"]
    with pytest.raises(UserError, match=r"are missing: ln_vision\.bias; .*no place.*: connector\.qformer\.adapter"):
        convert(towers, "blip2", weights)


def test_local_aggregators_are_refused(make_model: MakeModel) -> None:
    weights = {**published(make_model(**changes("videochat"))), "visual_encoder.blocks.0.lmhra1.weight": torch.zeros(1)}
    with pytest.raises(UserError, match=r"local relation aggregators \(visual_encoder\.blocks\.0\.lmhra1"):
        connector_weights("videochat", weights)


def test_other_weights_are_of_no_system() -> None:
    assert system_of({"VLconnector.embeddings.LayerNorm.weight": torch.zeros(1)}) is None
