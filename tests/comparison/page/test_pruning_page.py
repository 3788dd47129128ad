"""The page of what pruning leaves of clips, by what guides it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_vlp import tiny_host, tiny_run
from toy_run import Toy

from evlvideo.comparison.page.pruning_page import write_pruning_page
from evlvideo.config.loading import save_config
from evlvideo.errors import UserError
from evlvideo.models.vlp.hosts.files import save_host
from evlvideo.results.run_directory import CONFIG_NAME


def finished(toy: Toy, directory: Path, host: str) -> Path:
    """A run with random weights."""
    directory.mkdir()
    config = tiny_run(toy.data, directory, host)
    save_config(replace(config, model=replace(config.model, host=host)), directory / CONFIG_NAME)
    save_host(*tiny_host(host), directory)
    return directory


@pytest.mark.parametrize("host", ["blip", "clip"])
def test_each_clip_is_drawn_with_each_guide(toy: Toy, tmp_path: Path, host: str) -> None:
    run, page = finished(toy, tmp_path / "run", host), tmp_path / "page.html"
    shared = write_pruning_page(run, "test", page, clips=2)
    text = page.read_text()
    assert text.count("<img") == 6
    for clip in (toy.clips("test")[0], toy.clips("test")[len(toy.clips("test")) // 2]):
        assert clip.captions[0] in text
    # Of 16 patches, shares of 0.8 and 0.5, rounded down.
    assert re.search(r"12, then \d+ of 16 patches", text)
    assert shared["own caption"] == 1
    assert all(0 <= share <= 1 for share in shared.values())


def test_what_cannot_be_drawn_is_refused(toy: Toy, tmp_path: Path) -> None:
    run, page = finished(toy, tmp_path / "run", "blip"), tmp_path / "page.html"
    with pytest.raises(UserError, match=r"was trained without pruning; name a run with model\.pruning"):
        write_pruning_page(run, "test", page, overrides=["model.pruning=null"])
    with pytest.raises(UserError, match="1000 clips are asked for; mini:test can show 2 to"):
        write_pruning_page(run, "test", page, clips=1000)
    with pytest.raises(UserError, match="it is not a run of pre-training"):
        write_pruning_page(tmp_path, "test", page)
    assert not page.exists()
