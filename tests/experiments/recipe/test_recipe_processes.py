"""A recipe on two real processes, and with accumulation, trains what one process does in whole batches."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy_run import ROOT, Toy, environment

PROGRAM = """
import sys
sys.path[:0] = [{root!r}, {root!r} + "/tests/helpers"]
import toy_run
from evlvideo.metrics import java
java._java_on_path = java._java_of_package = lambda: None
toy_run.run()
"""
STAGES: list[dict[str, Any]] = [
    {"name": "align"},
    {"name": "towers", "training": {"learning_rates": {"language_model": 1e-3, "vision_tower": 1e-3}}},
]
STEP = 1e-2
TOLERANCE = 1e-4
"""A hundredth of a step of the connector, a tenth of one of the towers."""
_KEYS = ("key.bias", "k_proj.bias", "qkv.bias")
"""Keys' biases have no gradient but rounding, which Adam makes into steps."""


def train(toy: Toy, directory: Path, processes: int, batch_size: int, accumulated: int) -> Path:
    content = {
        "output_dir": str(directory / "recipe"),
        "init": str(toy.checkpoint),
        "model": {"connector_dropout": 0.0},
        "data": {"dataset": "mini", "root": str(toy.data), "num_frames": 2, "horizontal_flip": 0.0, "num_workers": 0},
        "training": {
            **{"max_steps": 2, "eval_steps": 2, "warmup_steps": 0, "learning_rate": STEP, "min_learning_rate": 1e-3},
            **{"batch_size": batch_size, "gradient_accumulation_steps": accumulated, "log_steps": 1},
        },
        "generation": {"num_beams": 2, "max_new_tokens": 10, "min_new_tokens": 1, "batch_size": 2},
        "stages": STAGES,
    }
    directory.mkdir()
    (directory / "recipe.yaml").write_text(yaml.safe_dump(content))
    program = directory / "program.py"
    program.write_text(PROGRAM.format(root=str(ROOT)))
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run(
        [sys.executable, *(several if processes > 1 else []), str(program), "train", str(directory / "recipe.yaml")],
        env=environment(ACCELERATE_USE_CPU="True"),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return directory / "recipe"


@pytest.mark.slow
def test_a_recipe_gives_the_same_weights_on_two_processes_and_with_accumulation(toy: Toy, tmp_path: Path) -> None:
    whole = train(toy, tmp_path / "whole", 1, 8, 1)
    others = [train(toy, tmp_path / "two", 2, 4, 1), train(toy, tmp_path / "accumulated", 2, 2, 2)]
    for stage in ("01-align", "02-towers"):
        expected = load_file(whole / stage / "model.safetensors")
        for other in others:
            found = load_file(other / stage / "model.safetensors")
            assert found.keys() == expected.keys()
            for name in expected:
                if not name.endswith(_KEYS):
                    torch.testing.assert_close(found[name], expected[name], atol=TOLERANCE, rtol=TOLERANCE, msg=name)
