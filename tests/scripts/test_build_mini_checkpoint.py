"""The script that trains the mini checkpoint: every part runs, and what it writes loads."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evlvideo.models.captioner import EvlVideoForCaptioning

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from mini_checkpoint import captioner, common, language, vision  # noqa: E402


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of which every part was trained for two steps."""
    out = tmp_path_factory.mktemp("checkpoint")
    language.train_language_model(out, 2, rows=2, tokenizer_scenes=200)
    vision.train_vision_tower(out, 2, batch=8, pool=8)
    captioner.train_captioner(out, 2, batch=8, pool=8)
    return out


def test_every_part_loads(two_steps: Path) -> None:
    model = EvlVideoForCaptioning.from_pretrained(two_steps / "evlgen")
    tokens = model.generate(torch.zeros(1, 1, 3, 64, 64), max_new_tokens=3)
    assert tokens.shape[0] == 1
    assert AutoModelForCausalLM.from_pretrained(two_steps / "language_model").config.hidden_size == 128


def test_tokenizer_has_the_tokens_of_opt_and_one_for_a_newline(two_steps: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(two_steps / "language_model")
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id) == (1, 2)
    ids = tokenizer("a red ball\n")["input_ids"]
    assert ids[0] == 2
    assert tokenizer.convert_ids_to_tokens(ids[-1]) == "Ċ"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a red ball\n"


def test_still_labels_point_at_the_object() -> None:
    rng = random.Random(0)
    stills = [vision.draw_still(rng) for _ in range(60)]
    stills = [still for still in stills if len(set(still.shapes[still.shapes > 0])) == 1]
    assert len(stills) > 10
    for still in stills:
        objects = still.shapes > 0
        down, across = np.divmod(np.arange(vision.GRID**2), vision.GRID)
        centres = np.stack([across, down], axis=1) / vision.GRID + 0.5 / vision.GRID + still.geometry[:, :2]
        # Every patch of the object points at the same place, which is amid them where the image shows it whole.
        assert np.ptp(centres[objects], axis=0).max() < 1e-5
        assert still.cover[objects].sum() > 0.8 * still.cover.sum()
        assert len(set(still.colours[objects])) == 1


def test_pool_hands_out_new_examples_all_the_time() -> None:
    drawn = iter(range(1000))
    batches = common.pooled_batches(lambda: next(drawn), random.Random(0), batch=4, pool=8)
    first = {example for _ in range(2) for example in next(batches)}
    later = [example for _ in range(40) for example in next(batches)][-8:]
    assert max(first) < 12
    assert min(later) > 50


def test_help_names_the_parts() -> None:
    command = [sys.executable, str(SCRIPTS / "build_mini_checkpoint.py"), "--help"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    assert "language" in shown.stdout
    assert "--captioner-steps" in shown.stdout
