"""The benchmarks of self-critical training measure what they say."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from evlvideo.training.scst.baselines import BASELINES, advantages

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "benchmarks"), str(ROOT / "scripts")]

import scst_ablation  # noqa: E402
import scst_step  # noqa: E402


@pytest.mark.parametrize("form", scst_step.FORMS)
def test_both_ways_have_the_same_gradient(form: str) -> None:
    trainer = scst_step.make_trainer("mini", scst_step.FORMS[form])
    captioner = trainer.captioner
    size = captioner.vision_tower.image_size
    pixel_values = torch.randn(scst_step.CLIPS, scst_step.FRAMES, 3, size, size)
    inputs: dict[str, Any] = {
        "pixel_values": pixel_values,
        "clip_ids": [str(place) for place in range(scst_step.CLIPS)],
    }
    trainer.compute_loss(trainer.model, inputs).backward()
    shared = {name: weight.grad for name, weight in captioner.named_parameters() if weight.grad is not None}
    rollout = inputs["rollout"]
    captioner.zero_grad()
    advantage = advantages(rollout.rewards, BASELINES["greedy"](rollout.rewards, rollout.greedy_rewards)).flatten()
    scst_step.separate_loss(captioner, pixel_values, rollout.tokens, advantage).backward()
    separate = {name: weight.grad for name, weight in captioner.named_parameters() if weight.grad is not None}
    assert shared.keys() == separate.keys()
    scale = max(float(value.abs().max()) for value in shared.values())
    for name, value in shared.items():
        torch.testing.assert_close(separate[name], value, atol=1e-4 * scale, rtol=1e-3, msg=name)


def test_curves_are_read_from_the_log(tmp_path: Path) -> None:
    lines = [
        {"step": 1, "loss": 2.0},
        {"step": 2, "validation_cider": 0.51234567, "validation_bad_endings": 0.25},
        {"step": 4, "validation_cider": 0.6, "validation_bad_endings": 0.0},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert scst_ablation._noted(tmp_path) == {
        2: {"validation_cider": 0.5123, "validation_bad_endings": 0.25},
        4: {"validation_cider": 0.6, "validation_bad_endings": 0.0},
    }
