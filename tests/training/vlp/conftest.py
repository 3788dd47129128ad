"""Clips for runs of vision-language pre-training."""

from pathlib import Path

import pytest

from evlvideo.mini import build

SPLITS = {"train": 10, "validate": 5, "test": 4}


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few clips of the mini set."""
    return build.build_mini(tmp_path_factory.mktemp("clips") / "data", progress=False, splits=SPLITS)
