from pathlib import Path

import pytest

from evlvideo.data.annotation.facts import DATASETS, media_root


@pytest.mark.parametrize(("there", "used"), [("videos", "videos"), ("YouTubeClips", "YouTubeClips"), ("x", "videos")])
def test_media_lie_in_the_first_folder_that_is_there(tmp_path: Path, there: str, used: str) -> None:
    (tmp_path / there).mkdir()
    assert media_root(DATASETS["msvd"], tmp_path, None) == tmp_path / used


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_has_a_card(dataset: str) -> None:
    cards = {"flickr30k": "coco", "coco2014": "coco", "coco2017": "coco", "vatex_zh": "vatex"}
    assert (Path(__file__).parents[3] / "datasets" / cards.get(dataset, dataset) / "README.md").is_file()
