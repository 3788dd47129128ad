from pathlib import Path

import pytest
from tiny_data import render


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of `tiny_data.FRAMES` frames."""
    return render(tmp_path_factory.mktemp("clips") / "clip.mp4")
