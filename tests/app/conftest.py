"""A page that is served, for tests with Gradio."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from toy_run import Toy

from evlvideo.app.explain import OpenCheckpoint, open_all
from evlvideo.app.serve import LOOPBACK, start_page

UPLOAD_MEGABYTES = 1


class Served(NamedTuple):
    address: str
    checkpoints: list[OpenCheckpoint]
    uploads: Path


@pytest.fixture(scope="package")
def served(toy_files: Toy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page of two runs, of which one attends over frames."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("gradio is not installed")
    root = tmp_path_factory.mktemp("served")
    forms: dict[str, dict[str, Any]] = {
        "mean": {"fusion": "mean"},
        "merged": {"fusion": "mean_tokens", "contextualizer": "merged"},
    }
    runs = [str(toy_files.finished_run(root / name, open_gates=True, **form)) for name, form in forms.items()]
    checkpoints, uploads = open_all(runs), root / "uploads"
    with pytest.MonkeyPatch.context() as patch:
        # What the program sets for itself.
        for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "NO_PROXY", "no_proxy"):
            patch.setenv(name, "")
        page = start_page(checkpoints, str(uploads), host=LOOPBACK[0], port=None, upload_megabytes=UPLOAD_MEGABYTES)
        yield Served(page.local_url, checkpoints, uploads)
        page.close(verbose=False)
