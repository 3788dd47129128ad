from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_run import Toy

from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.errors import UserError
from evlvideo.inference import caption_files as caption_files_module
from evlvideo.inference.caption_files import caption_files
from evlvideo.inference.captioning import generate_captions
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.language import SoftPrompt


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
    dataset = video_dataset(config.data, processor, toy.clips("test")[:3])
    expected = generate_captions(model, processor, dataset, config.generation)
    found = list(caption_files(videos, str(run)))
    assert [(file.video, file.captions) for file in found] == [
        (video, [caption.text]) for video, caption in zip(videos, expected.values(), strict=True)
    ]


def test_the_likeliest_of_several_captions_comes_first(run: Path, videos: list[Path]) -> None:
    one, both = (
        [file.captions for file in caption_files(videos, str(run), captions_per_video=count)] for count in (1, 2)
    )
    assert [len(set(captions)) for captions in both] == [2, 2, 2]
    assert [captions[:1] for captions in both] == one


def test_a_bare_checkpoint_is_enough(toy: Toy, videos: list[Path]) -> None:
    (file,) = caption_files(videos[:1], str(toy.checkpoint), captions_per_video=5)
    assert len(file.captions) == 5


def test_more_captions_than_beams_are_refused(run: Path, videos: list[Path]) -> None:
    with pytest.raises(UserError, match=r"3 captions a video need as many beams, but generation\.num_beams is 2"):
        caption_files(videos, str(run), captions_per_video=3)


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_caption_is_refused(videos: list[Path], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_files_module, "open_model", refuse_to_open)
    with pytest.raises(UserError, match=f"number of captions a video is {count}; it must be at least 1"):
        caption_files(videos, "mini", captions_per_video=count)


def test_a_given_config_is_taken_in_the_place_of_the_runs_own(toy: Toy, run: Path, videos: list[Path]) -> None:
    config = toy.config(run)
    config = replace(config, generation=replace(config.generation, num_beams=1, max_new_tokens=1))
    found = caption_files(videos, str(run), config=config)
    assert all(len(caption.split()) <= 1 for file in found for caption in file.captions)


@pytest.mark.parametrize(
    "given, message", [([], "No videos were given"), (["none.mp4"], r"1 of 1 videos do not exist")]
)
def test_files_are_looked_for_before_the_model_is_opened(
    run: Path, given: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caption_files_module, "open_model", refuse_to_open)
    with pytest.raises(UserError, match=message):
        caption_files([Path(name) for name in given], str(run))


def test_a_file_that_is_no_video_costs_no_other_its_caption(run: Path, videos: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no video")
    expected = [file.captions for file in caption_files(videos, str(run))]
    found = list(caption_files([videos[0], broken, *videos[1:]], str(run)))
    assert [file.captions for file in found] == [expected[0], [], *expected[1:]]
    assert "broken.mp4 cannot be decoded" in str(found[1].bad)


def test_files_of_which_none_is_a_video_have_no_captions(run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"")
    (found,) = caption_files([tmp_path / "broken.mp4"], str(run))
    assert found.captions == [] and found.bad


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_neither_batches_nor_workers_change_a_caption(
    toy: Toy, run: Path, videos: list[Path], batch_size: int, num_workers: int
) -> None:
    changes = [f"generation.batch_size={batch_size}", f"data.num_workers={num_workers}"]
    assert list(caption_files(videos, str(run), overrides=changes)) == list(caption_files(videos, str(run)))


def test_files_are_captioned_as_they_are_asked_for(
    run: Path, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioned: list[int] = []
    generate = EvlVideoForCaptioning.generate

    def count(model: EvlVideoForCaptioning, *, prompt: SoftPrompt, **arguments: Any) -> torch.Tensor:
        captioned.append(len(prompt.embeddings))
        return generate(model, prompt=prompt, **arguments)

    monkeypatch.setattr(EvlVideoForCaptioning, "generate", count)
    files = caption_files(videos, str(run), overrides=["generation.batch_size=1"])
    seen = [list(captioned) for _ in files]
    assert seen == [[1], [1, 1], [1, 1, 1]]


def test_a_directory_without_a_checkpoint_is_refused(videos: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        caption_files(videos, str(tmp_path))
