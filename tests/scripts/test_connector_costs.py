"""The benchmark of connectors counts what it says, and the page shows its numbers."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from evlvideo.files import read_json

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "benchmarks"))

import connector_costs  # noqa: E402

LAYERS, WIDTH, INNER = 12, 768, 3072


@pytest.fixture(scope="module")
def counted() -> dict[str, Any]:
    return connector_costs.count_systems(text_tokens=32)["systems"]


def linear(system: dict[str, Any]) -> int:
    return system["multiply_adds"]["linear_forward"]


def test_a_connector_that_merges_nothing_is_a_bert(counted: dict[str, Any]) -> None:
    assert linear(counted["evlgen_r0"]) == 257 * LAYERS * (4 * WIDTH**2 + 2 * WIDTH * INNER)


def test_merging_comes_before_the_feed_forward_of_its_layer(counted: dict[str, Any]) -> None:
    tokens = [257 - 19 * layer for layer in range(LAYERS + 1)]
    attention = sum(tokens[:-1]) * 4 * WIDTH**2
    feed_forward = sum(tokens[1:]) * 2 * WIDTH * INNER
    assert linear(counted["evlgen_r19"]) == attention + feed_forward


def test_queries_look_at_the_image_in_every_second_layer(counted: dict[str, Any]) -> None:
    on_queries = 32 * LAYERS * (4 * WIDTH**2 + 2 * WIDTH * INNER)
    on_image = LAYERS // 2 * (2 * 32 * WIDTH**2 + 2 * 257 * 1408 * WIDTH)
    assert linear(counted["blip2_second"]) == on_queries + on_image


def test_the_first_stage_looks_four_times_and_reads_five_texts(counted: dict[str, Any]) -> None:
    one_text = 32 * LAYERS * (4 * WIDTH**2 + 2 * WIDTH * INNER)
    assert linear(counted["blip2_first"]) == 4 * linear(counted["blip2_second"]) + 5 * one_text


ATTENTION = 4 * (WIDTH**2 + WIDTH) + 2 * WIDTH
FEED_FORWARD = 2 * WIDTH * INNER + INNER + WIDTH + 2 * WIDTH
PROJECTION = (WIDTH + 1) * 4096
TOWER, TOWER_INNER = 1408, 6144


def test_blip2_trains_what_its_second_stage_does(counted: dict[str, Any]) -> None:
    wider = counted["blip2_clip"]["parameters"] - counted["blip2_second"]["parameters"]
    assert wider == PROJECTION - (WIDTH + 1) * 2560
    assert round(counted["blip2_second"]["parameters"] / 1e6, 1) == 107.1


def test_video_llama_trains_two_layers_their_queries_frame_positions_and_projection(counted: dict[str, Any]) -> None:
    layers = 2 * (2 * ATTENTION + FEED_FORWARD) + 2 * WIDTH
    assert counted["video_llama"]["parameters"] == layers + 32 * WIDTH + 32 * WIDTH + PROJECTION


def test_videochat_trains_relations_added_queries_norm_and_projection(counted: dict[str, Any]) -> None:
    places, norms = TOWER * 27 + TOWER, 3 * 2 * TOWER
    mlp = 2 * TOWER * TOWER_INNER + TOWER_INNER + TOWER
    relations = 8 * (places + norms + 4 * (TOWER**2 + TOWER) + mlp) + TOWER
    assert counted["videochat"]["parameters"] == relations + 64 * WIDTH + 2 * TOWER + PROJECTION


def test_video_coca_trains_one_attention_its_queries_norms_and_projection(counted: dict[str, Any]) -> None:
    attention = 2 * WIDTH**2 + 2 * WIDTH * TOWER + 4 * WIDTH
    norms = 2 * 2 * WIDTH + 2 * TOWER
    assert counted["video_coca"]["parameters"] == attention + norms + 256 * WIDTH + PROJECTION


def test_llavas_layers_are_two(counted: dict[str, Any]) -> None:
    assert counted["mlp"]["parameters"] == (TOWER + 1) * 4096 + (4096 + 1) * 4096 + 2 * TOWER
    assert linear(counted["mlp"]) == 4 * 256 * TOWER * 4096


def test_smolvlms_layer_takes_four_patches(counted: dict[str, Any]) -> None:
    assert counted["pixel_shuffle"]["parameters"] == (4 * TOWER + 1) * 4096 + 2 * TOWER
    assert counted["pixel_shuffle"]["multiply_adds"]["whole_forward"] == 4 * 64 * 4 * TOWER * 4096


@pytest.mark.parametrize("name", ["linear", "average_pool"])
def test_floors_train_one_linear_layer_and_the_norm(counted: dict[str, Any], name: str) -> None:
    assert counted[name]["parameters"] == (TOWER + 1) * 4096 + 2 * TOWER


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("blip2_clip", 4 * 32),
        ("video_llama", 32),
        ("videochat", 96),
        ("video_coca", 256),
        ("mlp", 4 * 256),
        ("linear", 4 * 257),
    ],
)
def test_clips_become_as_many_soft_tokens_as_published(name: str, tokens: int) -> None:
    with torch.device("meta"):
        (prompt,) = connector_costs.video_systems()[name].whole()
    assert prompt.shape == (1, tokens, 4096)


def test_frozen_qformers_have_no_backward_pass(counted: dict[str, Any]) -> None:
    costs = counted["video_llama"]["multiply_adds"]
    assert costs["whole_forward_and_backward"] < 1.5 * costs["whole_forward"]


@pytest.mark.parametrize("name", ["evlgen_r19", "blip2_second"])
def test_linear_layers_agree_with_the_published_number(counted: dict[str, Any], name: str) -> None:
    assert f"{linear(counted[name]) / 1e9:.3g}" == str(counted[name]["published_multiply_adds_g"])


def test_the_file_in_the_documents_is_what_is_counted(counted: dict[str, Any]) -> None:
    assert read_json(ROOT / "docs" / "benchmarks" / "connector_costs.json")["systems"] == counted
