"""A captioner whose frozen tower prunes tokens."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import NUM_TOKENS, MakeConfig, pixels, tiny_config, tiny_model, write_towers

from evlvideo.errors import UserError
from evlvideo.estimate.counting import count_multiply_adds
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.vision import VisionTower

PRUNING = {"begin": [1], "keep": [0.5]}
KEPT = 8  # of 16 patches


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_towers(tmp_path_factory.mktemp("towers"))


@pytest.fixture(scope="module")
def make_config(towers: Any) -> MakeConfig:
    return partial(tiny_config, towers)


@pytest.mark.parametrize("look_ahead", ["one", "previous", "exact"])
def test_tower_gives_as_many_tokens_as_it_says(make_config: MakeConfig, look_ahead: str) -> None:
    config = make_config(pruning={**PRUNING, "look_ahead": look_ahead}, fusion="mean_tokens")
    tower = VisionTower.from_config(config)
    assert tower.num_tokens == 1 + KEPT + 1
    assert tower(pixels(2, 3)).shape == (2, 3, tower.num_tokens, tower.dim)


def test_no_keys_are_no_pruning(make_config: MakeConfig) -> None:
    assert VisionTower.from_config(make_config(pruning={})).num_tokens == NUM_TOKENS


def test_captions_and_checkpoint_with_pruning(towers: Any, tmp_path: Path) -> None:
    model = tiny_model(towers, pruning=PRUNING, fusion="mean_tokens")
    prompt = model.encode(pixels(2, 3))
    assert prompt.shape[1] == model.connector.num_output_tokens(1 + KEPT + 1)
    model.save_pretrained(tmp_path)
    opened = EvlVideoForCaptioning.from_pretrained(tmp_path)
    assert opened.config.pruning == PRUNING
    assert torch.equal(opened.encode(pixels(2, 3)), prompt)
    assert opened.generate(pixels(2, 3), max_new_tokens=3).shape[0] == 2


def test_features_of_a_pruning_tower_are_its_own(towers: Any) -> None:
    model = tiny_model(towers, pruning=PRUNING, fusion="concat")
    features = model.vision_tower(pixels(2, 3))
    assert torch.equal(model.encode(features=features), model.encode(pixels(2, 3)))


def test_pruning_saves_multiply_adds_and_exact_scores_cost_some(make_config: MakeConfig) -> None:
    def cost(pruning: dict[str, Any] | None) -> int:
        sizes = {"img_size": 32, "patch_size": 4, "embed_dim": 48, "depth": 6, "num_heads": 4}
        config = make_config(pruning=pruning, fusion="mean_tokens", vision_overrides=sizes)
        tower = VisionTower.from_config(config)
        return count_multiply_adds(lambda: tower(pixels(1, 1)))[0]

    schedule = {"begin": [1, 3], "keep": [0.6, 0.3], "blocks_ahead": [2, 3]}
    whole, previous, one, exact = (
        cost(pruning)
        for pruning in (
            None,
            {**schedule, "look_ahead": "previous"},
            {**schedule, "look_ahead": "one"},
            {**schedule, "look_ahead": "exact"},
        )
    )
    assert previous == one < exact
    assert one < 0.8 * whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pruning": {"preset": "deit"}}, "pruning.preset is 'deit'; allowed: blip, albef, clip, meter"),
        ({"pruning": {"ratio": 0.5}}, "pruning has no key ratio; it has preset, begin, keep"),
        ({"pruning": {"begin": [1]}}, r"pruning.begin is \[1\] and pruning.keep None"),
        ({"pruning": {**PRUNING, "look_ahead": "far"}}, "pruning.look_ahead is 'far'; allowed: exact, one, previous"),
        ({"pruning": {"preset": "blip", "keep": [0.5]}}, "has a preset and keep; give one or the other"),
        ({"pruning": {"begin": [1], "keep": [1.5]}}, r"keep is \[1.5\]; its shares must fall"),
        ({"pruning": PRUNING, "fusion": "mean"}, "fusion=mean averages the frames patch by patch"),
        ({"pruning": PRUNING, "contextualizer": "in_tower"}, "contextualizer=in_tower relates them inside the tower"),
        ({"pruning": PRUNING, "connector": "pixel_shuffle", "merge_r": None}, "pruning leaves no grid of patches"),
    ],
)
def test_what_cannot_go_together_is_refused(make_config: MakeConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_config(**({"fusion": "mean_tokens"} | changes))


def test_schedule_beyond_the_tower_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match="looks ahead to block 11, and the tower has blocks 0 to 1"):
        VisionTower.from_config(make_config(pruning={"preset": "blip"}, fusion="mean_tokens"))
