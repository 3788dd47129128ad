"""The benchmark of connectors counts what it says, and the page shows its numbers."""

import sys
from pathlib import Path
from typing import Any

import pytest

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


@pytest.mark.parametrize("name", ["evlgen_r19", "blip2_second"])
def test_linear_layers_agree_with_the_published_number(counted: dict[str, Any], name: str) -> None:
    assert f"{linear(counted[name]) / 1e9:.3g}" == str(counted[name]["published_multiply_adds_g"])


def test_the_file_in_the_documents_is_what_is_counted(counted: dict[str, Any]) -> None:
    assert read_json(ROOT / "docs" / "benchmarks" / "connector_costs.json")["systems"] == counted
