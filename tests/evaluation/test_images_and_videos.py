"""Video captioners on pictures, and captioners of pictures on videos, of one frame and of several."""

from dataclasses import replace
from pathlib import Path

import pytest
from toy_run import SPLITS, Toy, train_toy

from evlvideo.config.data import SourceConfig
from evlvideo.evaluation.answer_questions import QuestionSet, answer_questions
from evlvideo.evaluation.data_of_evaluation import evaluation_config
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.mini import rendered
from evlvideo.mini.images.build import build_mini_images

pytestmark = pytest.mark.usefixtures("no_java")
SIZES = {"shards": 8, "lavis": 4, "train": 4, "validate": 3, "test": 5}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_mini_images(tmp_path_factory.mktemp("images") / "set", progress=False, sizes=SIZES)


@pytest.fixture
def image_run(toy: Toy, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A captioner trained for a moment on the three parts, as pre-training does."""
    monkeypatch.setitem(rendered.RENDERED, "mini_images", lambda: images)
    data = {
        "dataset": "mini_images",
        "root": None,
        "check_counts": False,
        "num_frames": 1,
        "batches": "one_source",
        "sources": [
            SourceConfig("shards", "rendered:mini_images/shards", ratio=2),
            SourceConfig("lavis", "rendered:mini_images/lavis", ratio=1),
            SourceConfig("mini_images", ratio=1),
        ],
    }
    training = {"max_steps": 4, "eval_steps": 4, "schedule": "staircase", "schedule_steps": 2}
    return train_toy(toy.config(tmp_path / "image", data=data, training=training))


@pytest.mark.parametrize("contextualizer", ["in_tower", "merged"])
def test_a_video_captioner_captions_pictures(toy: Toy, images: Path, tmp_path: Path, contextualizer: str) -> None:
    fusion = "mean" if contextualizer == "in_tower" else "mean_tokens"
    run = toy.finished_run(tmp_path / "video", contextualizer=contextualizer, fusion=fusion, frame_positions=True)
    config = evaluation_config(str(run), ["data.check_counts=false"], dataset="mini_images", root=images)
    for frames in (config.data.num_frames, 1):
        data = replace(config.data, num_frames=frames)
        result = evaluate(run, config=replace(config, data=data), metrics=("cider",))
        assert (result.dataset, result.clips_scored) == ("mini_images", SIZES["test"])


def test_a_captioner_of_pictures_captions_videos_by_one_frame_and_by_four(toy: Toy, image_run: Path) -> None:
    config = evaluation_config(str(image_run), dataset="mini", root=toy.data)
    for frames in (1, 4):
        result = evaluate(
            image_run, config=replace(config, data=replace(config.data, num_frames=frames)), metrics=("cider",)
        )
        assert (result.dataset, result.clips_scored) == ("mini", SPLITS["test"])
    assert len(list((image_run / "evaluation").iterdir())) == 2


def test_a_captioner_of_pictures_answers_its_questions(image_run: Path, images: Path) -> None:
    directory, result = answer_questions(str(image_run), QuestionSet("mini_images", images, "test"))
    assert directory == image_run / "answers" / "mini_images-test"
    assert result is not None and result.questions == 3 * SIZES["test"]
    assert set(result.answer_types) == {"yes/no", "number", "other"}
