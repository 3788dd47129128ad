"""Estimates of captioners whose frozen tower prunes tokens."""

from typing import Any

import pytest
import torch
from test_estimate_table import drawn
from tiny_architecture import BERT_SIZES, tiny_config, workload

from evlvideo.errors import UserError
from evlvideo.estimate.costs import estimate
from evlvideo.estimate.records import Estimate
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.text.draft import DRAFT_TOKENS

SIZES: dict[str, Any] = {
    "vision_overrides": {"img_size": 32, "patch_size": 4, "embed_dim": 48, "depth": 6, "num_heads": 4},
    "bert_config": BERT_SIZES | {"max_position_embeddings": 65},
    "fusion": "mean_tokens",
}
SCHEDULE = {"begin": [1, 3], "keep": [0.6, 0.3], "blocks_ahead": [2, 3]}


def costs(new_tokens: int = 5, **pruning: Any) -> Estimate:
    keys = SCHEDULE | pruning if pruning.get("guide") != "none" else pruning
    config = tiny_config(**SIZES, pruning=keys)
    return estimate(config, workload(num_beams=1, new_tokens=new_tokens))


def words(costs: Estimate) -> str:
    return " ".join(drawn(costs).split())


@pytest.mark.parametrize("guide", [{}, {"guide": "predicted"}, {"scores": "random"}, {"fold": False}])
def test_a_pruning_tower_is_counted_as_it_runs(guide: dict[str, Any]) -> None:
    found, whole = costs(**guide), costs(guide="none")
    assert whole.pruning is None
    assert found.pruning is not None
    assert found.pruning.whole == whole.captioning_clip.vision_tower
    assert found.pruning.pruned == found.captioning_clip.vision_tower < found.pruning.whole


def test_drafts_are_counted() -> None:
    once, drafted = costs(DRAFT_TOKENS), costs(DRAFT_TOKENS, guide="draft")
    assert drafted.captioning_clip.vision_tower > 2 * once.captioning_clip.vision_tower
    assert drafted.captioning_clip.connector == 2 * once.captioning_clip.connector
    assert drafted.captioning_clip.language_model == 2 * once.captioning_clip.language_model
    assert drafted.training_batch == once.training_batch
    assert drafted.feature_bytes is None


def test_drafts_need_frames() -> None:
    config = tiny_config(fusion="mean_tokens", pruning={"begin": [1], "keep": [0.5], "guide": "draft"})
    with pytest.raises(UserError, match="guide=draft prunes each clip by its own draft"):
        estimate(config, workload(cached_features=True))


def test_counts_are_those_of_a_real_tower() -> None:
    found = costs(guide="predicted", look_ahead="exact").pruning
    config = tiny_config(**SIZES, pruning=SCHEDULE | {"look_ahead": "exact"})
    with torch.device("meta"):
        plain = EvlVideoForCaptioning(config)
    frames = workload().num_frames
    maps = frames * len(SCHEDULE["begin"]) * plain.vision_tower.dim**2
    without = costs(look_ahead="exact").pruning
    assert found is not None
    assert without is not None
    assert found.pruned == without.pruned + maps


def test_the_guides_are_told() -> None:
    assert "prunes by guide=class. With look_ahead=one it costs 0." in words(costs())
    drafting = words(costs(guide="draft"))
    assert "prunes by guide=draft, in training by guide=class" in drafting
    assert "Captioning runs the tower twice, drafts a caption first, and counts both." in drafting


def test_a_look_ahead_that_costs_more_than_pruning_saves_is_told() -> None:
    told = words(costs(look_ahead="exact"))
    assert "no backward pass that would earn what look_ahead=exact costs" in told
    assert "with look_ahead=one, the tower costs 0." in told
    assert "would earn" not in words(costs(look_ahead="previous"))
