"""Toy towers on disk, and builders of captioners between them."""

import copy
from functools import partial
from typing import Any

import pytest
from tiny_models import MakeConfig, MakeModel, Towers, tiny_config, tiny_model, write_towers

from evlvideo.models.captioner import EvlVideoForCaptioning


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Towers:
    return write_towers(tmp_path_factory.mktemp("towers"))


@pytest.fixture(scope="session")
def make_config(towers: Towers) -> MakeConfig:
    """Build a tiny configuration, with changes by keyword."""
    return partial(tiny_config, towers)


@pytest.fixture(scope="session")
def make_model(towers: Towers) -> MakeModel:
    """Build a tiny captioner, with changes of its configuration by keyword; each caller gets a copy of its own."""
    built: dict[str, EvlVideoForCaptioning] = {}

    def make(**changes: Any) -> EvlVideoForCaptioning:
        key = repr(sorted(changes.items()))
        if key not in built:
            built[key] = tiny_model(towers, **changes)
        return copy.deepcopy(built[key])

    return make
