"""Small video-text models on disk, and clips to caption."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_video_models import save_family


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a family's model, written once; not to be changed."""
    root = tmp_path_factory.mktemp("families")

    def folder(name: str) -> Path:
        return root / name if (root / name).is_dir() else save_family(name, root / name)

    return folder
