from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_run import Toy

from evlvideo.assembly import evaluation_dataset, open_model
from evlvideo.errors import UserError
from evlvideo.evaluation import caption_files as caption_files_module
from evlvideo.evaluation.caption_files import caption_files
from evlvideo.evaluation.predict import generate_captions


@pytest.fixture(scope="module")
def run(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.finished_run(tmp_path_factory.mktemp("captioning") / "run", fusion="concat")


@pytest.fixture
def videos(toy: Toy) -> list[Path]:
    return [clip.video for clip in toy.clips("test")[:3]]


def refuse_to_open(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("no model is opened for nothing")


def test_files_get_the_captions_that_an_evaluation_gives_them(toy: Toy, run: Path, videos: list[Path]) -> None:
    config = toy.config(run)
    model, processor = open_model(run, config)
    dataset = evaluation_dataset(config.data, processor, toy.clips("test")[:3])
    expected = generate_captions(model, processor, dataset, config.generation)
    assert caption_files(videos, str(run)) == [[caption] for caption in expected.values()]


def test_the_likeliest_of_several_captions_comes_first(run: Path, videos: list[Path]) -> None:
    one, both = caption_files(videos, str(run)), caption_files(videos, str(run), captions_per_video=2)
    assert [len(set(captions)) for captions in both] == [2, 2, 2]
    assert [captions[:1] for captions in both] == one


def test_a_bare_checkpoint_is_enough(toy: Toy, videos: list[Path]) -> None:
    (captions,) = caption_files(videos[:1], str(toy.checkpoint), captions_per_video=5)
    assert len(captions) == 5


def test_more_captions_than_beams_are_refused(run: Path, videos: list[Path]) -> None:
    with pytest.raises(UserError, match=r"3 captions a video need as many beams, and generation\.num_beams is 2"):
        caption_files(videos, str(run), captions_per_video=3)


def test_a_given_config_is_taken_in_the_place_of_the_runs_own(toy: Toy, run: Path, videos: list[Path]) -> None:
    config = toy.config(run)
    config = replace(config, generation=replace(config.generation, num_beams=1, max_new_tokens=1))
    captions = caption_files(videos, str(run), config=config)
    assert all(len(caption.split()) <= 1 for (caption,) in captions)


@pytest.mark.parametrize(
    "given, message", [([], "No videos were given"), (["none.mp4"], r"1 of 1 videos are not there")]
)
def test_files_are_looked_for_before_the_model_is_opened(
    run: Path, given: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caption_files_module, "open_model", refuse_to_open)
    with pytest.raises(UserError, match=message):
        caption_files([Path(name) for name in given], str(run))


def test_a_file_that_is_no_video_is_told_before_anything_is_captioned(
    run: Path, videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no video")
    monkeypatch.setattr("evlvideo.models.captioner.EvlVideoForCaptioning.generate", refuse_to_open)
    with pytest.raises(UserError, match=r"broken\.mp4"):
        caption_files([*videos, broken], str(run))


def test_a_directory_without_a_checkpoint_is_refused(videos: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        caption_files(videos, str(tmp_path))
