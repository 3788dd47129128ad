"""The captioner's configuration: EVLGen's defaults, its round trip, and contradictions reported together."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import MakeConfig
from torch import nn
from transformers import AutoConfig, BertConfig, OPTConfig

from evlvideo.errors import UserError
from evlvideo.models.choices import CONTEXTUALIZERS, FUSIONS
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors import CONNECTORS
from evlvideo.models.connectors.base import TowerShape


def test_defaults_are_evlgen_images() -> None:
    config = EvlVideoConfig()
    assert (config.vision_tower, config.vision_final_norm) == ("eva_giant_patch14_clip_224", False)
    assert (config.language_model, config.bos_token_id, config.end_token_id) == ("facebook/opt-2.7b", 2, 50118)
    assert (config.merge_r, config.merge_reduction) == (19, "mean")
    assert (config.fusion, config.contextualizer, config.frame_positions) == ("mean", "none", False)
    bert = config.bert_config
    assert isinstance(bert, BertConfig)
    assert (bert.num_hidden_layers, bert.hidden_size, bert.num_attention_heads) == (12, 768, 12)
    assert (bert.layer_norm_eps, bert.hidden_dropout_prob) == (1e-12, 0.1)


def test_round_trip_through_a_directory(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(
        contextualizer="in_tower", contextualizer_blocks=[0], frame_positions=True, merge_r=[3, 0.5], max_frames=7
    )
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, EvlVideoConfig)
    assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()
    assert loaded.merge_r == [3, 0.5]
    assert isinstance(loaded.bert_config, BertConfig)


def test_round_trip_keeps_the_language_models_configuration(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(text_config=OPTConfig(hidden_size=40, num_hidden_layers=1, num_attention_heads=4))
    config.save_pretrained(tmp_path)
    loaded = EvlVideoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded.text_config, OPTConfig)
    assert loaded.text_config.to_dict() == config.text_config.to_dict()


def test_file_names_the_model_type(make_config: MakeConfig, tmp_path: Path) -> None:
    make_config().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "evlvideo"


@pytest.mark.parametrize(
    "given",
    [
        {"image_mean": [0.5] * 3},
        {"image_std": [0.5] * 3},
        {"image_mean": [0.5] * 4, "image_std": [0.5] * 4},
        {"image_mean": [0.5] * 3, "image_std": [0.5, 0.5, 0.0]},
    ],
)
def test_pixels_that_cannot_be_normalised_are_user_errors(given: dict[str, list[float]]) -> None:
    with pytest.raises(UserError, match=r"image_mean is .* and image_std .*give 3 numbers each"):
        EvlVideoConfig(**given)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("contextualizer", CONTEXTUALIZERS)
def test_combinations(fusion: str, contextualizer: str) -> None:
    if (fusion, contextualizer) == ("mean", "merged"):
        with pytest.raises(UserError, match="set fusion to mean_tokens or concat"):
            EvlVideoConfig(fusion=fusion, contextualizer=contextualizer)
    else:
        config = EvlVideoConfig(fusion=fusion, contextualizer=contextualizer)
        assert (config.fusion, config.contextualizer) == (fusion, contextualizer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "max"}, "fusion is 'max'; allowed: mean, mean_tokens, concat"),
        ({"contextualizer": "both"}, "contextualizer is 'both'; allowed: none, in_tower, merged"),
        ({"merge_reduction": "sum"}, "merge_reduction is 'sum'; allowed: mean, size_weighted"),
        ({"frame_positions": True}, "frame_positions is on"),
        ({"contextualizer_blocks": [0]}, "contextualizer is not in_tower"),
        ({"max_frames": 0}, "max_frames is 0"),
        ({"merge_r": -3}, "merge_r is -3"),
        ({"merge_r": [1, 2, 3]}, "3 numbers for 12 layers"),
        ({"merge_r": [19, 2.0]}, "between -1 and 1"),
        ({"merge_r": 19, "merge_to": 29}, "merge_r is 19 and merge_to is 29; give one of them"),
        ({"merge_to": 0}, "merge_to is 0; it must be at least 1"),
        ({"connector": "blip2", "merge_to": 29}, "merge_to is 29, but connector=blip2 merges no tokens; leave it out"),
        ({"connector": "perceiver"}, "connector is 'perceiver'; allowed: tomeformer, blip2, video_llama, videochat, "),
        ({"connector": "blip2", "merge_r": 4}, "merge_r is 4, but connector=blip2 merges no tokens; leave it out"),
        ({"connector": "linear", "merge_reduction": "mean"}, "merge_reduction is 'mean', but connector=linear"),
        ({"connector": "blip2", "fusion": "concat", "contextualizer": "merged"}, "contextualizer=merged works on"),
        ({"connector": "video_llama", "fusion": "mean"}, "fusion is 'mean', but connector=video_llama takes all"),
        ({"connector": "video_coca", "fusion": "concat"}, "fusion is 'concat', but connector=video_coca takes all"),
        ({"connector": "blip2", "fusion": "concat", "connector_options": {"all_frames": True}}, "takes all frames"),
        ({"connector": "blip2", "frame_positions": True}, "frame_positions is on"),
        ({"connector": "blip2", "connector_options": {"num_queries": 0}}, "num_queries is 0"),
        ({"connector_options": {"num_queries": 3}}, "num_queries is not an option of connector=tomeformer"),
        ({"connector": "blip2", "bert_config": {"num_attention_heads": 7}}, "768, not a multiple of the 7 heads"),
        ({"connector": "video_coca", "connector_options": {"num_heads": 7}}, "768, not a multiple of the 7 heads"),
    ],
)
def test_problem_is_a_user_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EvlVideoConfig(**changes)


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(UserError) as caught:
        EvlVideoConfig(fusion="max", frame_positions=True, max_frames=-1, merge_r=[19, 2.0])
    assert len(str(caught.value).splitlines()) == 1 + 4


def test_all_problems_of_a_connector_are_reported_together() -> None:
    with pytest.raises(UserError) as caught:
        EvlVideoConfig(
            connector="video_llama",
            connector_options={"queries": 3, "video_layers": 0},
            merge_r=19,
            fusion="mean",
            contextualizer="merged",
        )
    # contextualizer=merged contradicts the connector and fusion=mean.
    assert len(str(caught.value).splitlines()) == 1 + 6


@pytest.mark.parametrize("connector", CONNECTORS)
def test_values_that_a_connector_has_no_use_for_are_null(connector: str) -> None:
    config = EvlVideoConfig(connector=connector)
    assert (config.merge_r, config.merge_reduction) == ((19, "mean") if connector == "tomeformer" else (None, None))
    assert config.fusion == ("mean" if config.connector_class.takes_single_frames(config.options) else None)


def test_options_of_a_connector_are_kept_with_their_defaults(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(connector="video_llama", connector_options={"video_queries": 4}, merge_r=None)
    config.save_pretrained(tmp_path)
    loaded = EvlVideoConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() | {"_name_or_path": ""} == config.to_dict()
    assert loaded.connector_options is not None and loaded.connector_options["num_queries"] == 32
    assert (loaded.options.video_queries, loaded.fusion) == (4, None)


def test_unknown_language_model_is_a_user_error() -> None:
    with pytest.raises(UserError, match="'nobodys_model', which transformers does not know"):
        EvlVideoConfig(text_config={"model_type": "nobodys_model"})


def test_tokens_to_leave_take_the_place_of_tokens_to_merge(tmp_path: Path) -> None:
    config = EvlVideoConfig(merge_to=29)
    assert (config.merge_r, config.merge_to) == (None, 29)
    config.save_pretrained(tmp_path)
    loaded = EvlVideoConfig.from_pretrained(tmp_path)
    assert (loaded.merge_r, loaded.merge_to, loaded.merge_reduction) == (None, 29, "mean")


def test_a_change_of_either_replaces_the_other() -> None:
    by_r, by_tokens = EvlVideoConfig(merge_r=7), EvlVideoConfig(merge_to=29)
    changed = by_r.changed(merge_to=29)
    assert (changed.merge_r, changed.merge_to) == (None, 29)
    changed = by_tokens.changed(merge_r=[5, 0.5])
    assert (changed.merge_r, changed.merge_to) == ([5, 0.5], None)
    assert by_tokens.changed(fusion="concat").merge_to == 29
    assert by_tokens.changed(connector="blip2").merge_to is None
    with pytest.raises(UserError, match="give one of them"):
        by_r.changed(merge_r=3, merge_to=29)


def test_dropout_of_a_connector_is_changed_alone() -> None:
    config = EvlVideoConfig(bert_config={"num_hidden_layers": 3})
    assert config.connector_dropout == 0.1
    changed = config.changed(connector_dropout=0.0)
    assert (changed.bert.hidden_dropout_prob, changed.bert.attention_probs_dropout_prob) == (0.0, 0.0)
    assert changed.bert.num_hidden_layers == 3
    assert config.connector_dropout == 0.1


@pytest.mark.parametrize("connector", CONNECTORS)
def test_dropout_is_for_connectors_that_have_one(connector: str) -> None:
    config = EvlVideoConfig(connector=connector)
    with torch.device("meta"):
        tower = TowerShape(24, 17, (4, 4), class_token=True)
        settings = {name: value or 16 for name, value in config.connector_settings.items()}
        settings |= {"merge_r": 1, "merge_to": None} if connector == "tomeformer" else {}
        made = config.connector_class(config.bert, tower, config.options, **settings)
    dropping = any(isinstance(part, nn.Dropout) and part.p == 0.1 for part in made.modules())
    assert config.connector_class.has_dropout == dropping
    assert config.changed(connector_dropout=0.0).connector_dropout == 0.0
    if not dropping:
        with pytest.raises(UserError, match=f"connector_dropout is 0.2, but connector={connector} has none"):
            config.changed(connector_dropout=0.2)


def test_bert_sizes_set_the_length_of_the_schedule() -> None:
    config = EvlVideoConfig(bert_config={"num_hidden_layers": 3}, merge_r=[4, 3, 2])
    assert config.bert_config.num_hidden_layers == 3
