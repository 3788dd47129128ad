"""Which weights are frozen, and how a tower is told from another."""

import copy
from pathlib import Path

import pytest
import torch
from tiny_models import MakeModel
from torch import nn

from evlvideo.errors import UserError
from evlvideo.models.connectors import connector_class
from evlvideo.models.towers import TowerRecord, check_same_tower, fingerprint, resolve_source
from evlvideo.models.trainable import is_decayed, is_trained, tower_of, trained_part


@pytest.mark.parametrize(
    ("name", "tower"),
    [
        ("vision_tower.vit.blocks.0.attn.qkv.weight", "vision_tower"),
        ("vision_tower.vit.cls_token", "vision_tower"),
        ("language_model.model.decoder.embed_tokens.weight", "language_model"),
        ("vision_tower.vit.blocks.0.temporal_merge.alpha", None),
        ("vision_tower.vit.blocks.38.temporal_merge.frame_positions.weight", None),
        ("vision_tower.video_relations.token", None),
        ("connector.image_qformer.layernorm.weight", None),
        ("ln_vision.weight", None),
        ("connector.projection.bias", None),
        ("connector.bert.encoder.layer.0.attention.self.query.weight", None),
        ("connector.contextualizer.alpha", None),
        ("language_projection.weight", None),
    ],
)
def test_tower_of_a_weight(name: str, tower: str | None) -> None:
    assert tower_of(name) == tower


@pytest.mark.parametrize(
    ("name", "connector", "trained"),
    [
        ("vision_tower.vit.cls_token", "blip2", False),
        ("language_model.lm_head.weight", "videochat", False),
        ("vision_tower.video_relations.aggregators.7.fc1.weight", "videochat", True),
        ("ln_vision.weight", "videochat", True),
        ("ln_vision.weight", "video_llama", False),
        ("connector.image_qformer.encoder.layer.0.attention.output.dense.weight", "video_llama", False),
        ("connector.image_queries", "video_llama", False),
        ("connector.video_qformer.layernorm.weight", "video_llama", True),
        ("connector.qformer.layernorm.weight", "videochat", False),
        ("connector.queries", "videochat", False),
        ("connector.extra_queries", "videochat", True),
        ("connector.qformer.layernorm.weight", "blip2", True),
    ],
)
def test_what_is_trained_depends_on_the_connector(name: str, connector: str, trained: bool) -> None:
    found = connector_class(connector)
    assert is_trained(name, found.frozen_weights(found.options_class())) == trained
    assert is_trained(name) == (tower_of(name) is None)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("connector.bert.encoder.layer.0.attention.self.query.weight", "connector"),
        ("connector.frame_positions", "connector"),
        ("connector.extra_queries", "connector"),
        ("connector.projection.weight", "projections"),
        ("language_projection.bias", "projections"),
        ("ln_vision.weight", "projections"),
        ("connector.contextualizer.query.weight", "contextualizers"),
        ("connector.contextualizer.frame_positions.weight", "contextualizers"),
        ("vision_tower.vit.blocks.0.temporal_merge.alpha", "contextualizers"),
        ("vision_tower.video_relations.aggregators.7.fc1.weight", "contextualizers"),
        ("language_model.model.decoder.layers.0.self_attn.q_proj.lora_A.default.weight", "lora"),
    ],
)
def test_part_of_a_trained_weight(name: str, part: str) -> None:
    assert trained_part(name) == part


@pytest.mark.parametrize("contextualizer", ["in_tower", "merged"])
def test_weight_decay_is_for_matrices_queries_and_embeddings(make_model: MakeModel, contextualizer: str) -> None:
    """All that is trained of a captioner, layer by layer; what is not named here is not decayed."""
    fusion = {"in_tower": "mean", "merged": "mean_tokens"}[contextualizer]
    model = make_model(contextualizer=contextualizer, frame_positions=True, fusion=fusion, lora_r=2)
    decayed = {
        name for name, weight in model.named_parameters() if weight.requires_grad and is_decayed(name, weight.dim())
    }
    layer = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
             "intermediate.dense", "output.dense")  # fmt: skip
    own = {
        "merged": ["connector.contextualizer"],
        "in_tower": [f"vision_tower.vit.blocks.{n}.temporal_merge" for n in (0, 1)],
    }
    text = [
        f"language_model.model.decoder.layers.{n}.self_attn.{m}_proj"
        for n in range(len(model.language_model.model.decoder.layers))
        for m in "qv"
    ]
    assert decayed == {
        "connector.projection.weight",
        "language_projection.weight",
        "connector.bert.embeddings.position_embeddings.weight",
        "connector.bert.embeddings.token_type_embeddings.weight",
        *(f"connector.bert.encoder.layer.{number}.{name}.weight" for number in (0, 1) for name in layer),
        *(f"{name}.{matrix}.weight" for name in own[contextualizer] for matrix in ("query", "key")),
        *(f"{name}.lora_{side}.default.weight" for name in text for side in "AB"),
    }


def test_weight_decay_of_another_connectors_queries_and_positions(make_model: MakeModel) -> None:
    model = make_model(connector="video_llama", merge_r=None, merge_reduction=None, fusion=None)
    loose = {name for name, weight in model.named_parameters() if weight.requires_grad and name.count(".") == 1}
    assert {name for name in loose if is_decayed(name, model.get_parameter(name).dim())} == {
        "connector.frame_positions",
        "connector.video_queries",
        "language_projection.weight",
    }


def test_source_inside_the_package_is_found_there() -> None:
    import evlvideo

    assert (
        Path(resolve_source("package:mini/vit.safetensors"))
        == Path(evlvideo.__file__).parent / "assets/mini/vit.safetensors"
    )


@pytest.mark.parametrize("source", ["facebook/opt-2.7b", "/some/where", "relative/folder"])
def test_any_other_source_stays_as_it_is(source: str) -> None:
    assert resolve_source(source) == source


@pytest.fixture
def model(make_model: MakeModel):
    return make_model(contextualizer="in_tower")


@pytest.mark.parametrize("tower", ["vision_tower", "language_model"])
def test_fingerprint_is_the_same_in_bfloat16(model, tower: str) -> None:
    frozen = getattr(model, tower)
    assert fingerprint(copy.deepcopy(frozen).bfloat16()) == fingerprint(frozen)


def test_fingerprint_tells_a_weight(model) -> None:
    before = fingerprint(model.vision_tower)
    with torch.no_grad():
        model.vision_tower.vit.cls_token[0, 0, 0] += 0.1
    assert fingerprint(model.vision_tower) != before


def test_fingerprint_tells_a_tower_of_another_depth() -> None:
    def layers(count: int) -> nn.Module:
        return nn.Sequential(*(nn.Linear(2, 2) for _ in range(count))).apply(lambda m: m.requires_grad_(False))

    torch.manual_seed(0)
    two = layers(2)
    torch.manual_seed(0)
    assert fingerprint(layers(3)) != fingerprint(two)


def test_fingerprint_tells_names_and_shapes() -> None:
    flat, square = nn.Module(), nn.Module()
    flat.register_buffer("a", torch.ones(4))
    square.register_buffer("a", torch.ones(2, 2))
    other = nn.Module()
    other.register_buffer("b", torch.ones(4))
    assert len({fingerprint(flat), fingerprint(square), fingerprint(other)}) == 3


def test_fingerprint_does_not_see_contextualizers(model, make_model: MakeModel) -> None:
    with torch.no_grad():
        model.vision_tower.vit.blocks[0].temporal_merge.alpha += 1
    assert fingerprint(model.vision_tower) == fingerprint(make_model().vision_tower)


def test_fingerprint_is_taken_of_strided_weights_too() -> None:
    tower, transposed = nn.Linear(3, 5, bias=False), nn.Linear(3, 5, bias=False)
    transposed.weight.data = tower.weight.data.t().contiguous().t()
    assert not transposed.weight.is_contiguous()
    assert fingerprint(transposed) == fingerprint(tower)


def test_same_tower_passes() -> None:
    check_same_tower("vision_tower", TowerRecord("eva.pth", "abc"), "abc")


def test_another_tower_is_a_user_error_with_source_and_fingerprints() -> None:
    expected, found = "a" * 64, "b" * 64
    with pytest.raises(UserError) as caught:
        check_same_tower("vision_tower", TowerRecord("eva.pth", expected), found)
    message = str(caught.value)
    assert "vision tower read from 'eva.pth'" in message
    assert found[:12] in message
    assert expected[:12] in message


def test_record_as_json() -> None:
    assert TowerRecord("eva.pth", "abc").to_json() == {"source": "eva.pth", "fingerprint": "abc"}
