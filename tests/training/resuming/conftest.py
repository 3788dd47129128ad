import shutil
from pathlib import Path

import pytest
from resumed_run import STEPS, config_of, quietly
from toy_run import Toy


@pytest.fixture(scope="module")
def trained(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps, with checkpoints of the second and the last. It is not to be changed."""
    return quietly(config_of(toy, tmp_path_factory.mktemp("trained") / "run", training={"max_steps": STEPS}))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy."""
    return shutil.copytree(trained, tmp_path / "run")
