"""The mini checkpoint in the package."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

import evlvideo
from evlvideo.mini.render import render_still
from evlvideo.mini.world import items_at, sample_scene
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor

MINI = Path(evlvideo.__file__).parent / "assets" / "mini"


@pytest.fixture(scope="module")
def model() -> EvlVideoForCaptioning:
    return EvlVideoForCaptioning.from_pretrained("mini")


@pytest.fixture(scope="module")
def processor() -> EvlVideoProcessor:
    return EvlVideoProcessor.from_pretrained(MINI / "evlgen")


def test_the_checkpoint_is_at_most_eight_megabytes() -> None:
    files = [path for path in MINI.rglob("*") if path.is_file()]
    assert {"language_model", "vision_tower", "evlgen"} <= {path.relative_to(MINI).parts[0] for path in files}
    assert sum(path.stat().st_size for path in files) <= 8_000_000


def test_it_knows_the_way_to_its_towers_inside_the_package(model: EvlVideoForCaptioning) -> None:
    assert model.config.vision_weights.startswith("package:mini/")
    assert model.config.language_model.startswith("package:mini/")


def test_it_names_colours_that_are_in_the_image(model: EvlVideoForCaptioning, processor: EvlVideoProcessor) -> None:
    rng = random.Random("assets")
    scenes = [scene for scene in (sample_scene(rng) for _ in range(400)) if scene.event.kind == "rest"][:8]
    pictures = [render_still(scene, 64)[np.newaxis] for scene in scenes]
    tokens = model.generate(torch.stack([processor.frames(picture) for picture in pictures]), max_new_tokens=24)
    captions = processor.captions(tokens)
    colours = [items_at(scene, 0.0)[0].colour for scene in scenes]
    assert sum(colour in caption for colour, caption in zip(colours, captions, strict=True)) >= 6
