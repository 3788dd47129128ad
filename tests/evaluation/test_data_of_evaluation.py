"""Evaluations on other datasets than a run's own, and of checkpoints that are no runs."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nocaps_annotation import TEST_NAME, VALIDATION_NAME, write_nocaps
from PIL import Image
from toy_run import FRAMES, Toy

from evlvideo.cli.app import main
from evlvideo.comparison.rows.runs import read_runs
from evlvideo.config.loading import load_config, save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.evaluation.data_of_evaluation import check_out, evaluation_config, keep_config
from evlvideo.evaluation.evaluate import caption_for_server, evaluate
from evlvideo.files import read_json
from evlvideo.results.prediction_files import read_predictions

pytestmark = pytest.mark.usefixtures("no_java")
SIZES = {"in-domain": 2, "near-domain": 3, "out-domain": 2}


@pytest.fixture(scope="module")
def video_run(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video captioner, whose config has things that belong to its own dataset alone."""
    directory = toy.finished_run(tmp_path_factory.mktemp("runs") / "video", contextualizer="in_tower")
    config = load_config(directory / "config.yaml")
    save_config(replace(config, data=replace(config.data, check_counts=False)), directory / "config.yaml")
    return directory


@pytest.fixture
def run(video_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(video_run, tmp_path / "video"))


@pytest.fixture(scope="module")
def nocaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nocaps")
    write_nocaps(root, SIZES, SIZES)
    draw_images(root)
    return root


def draw_images(root: Path) -> None:
    (root / "images").mkdir(exist_ok=True)
    for name in (VALIDATION_NAME, TEST_NAME):
        for image in json.loads((root / name).read_text())["images"]:
            pixels = np.random.default_rng(image["id"]).integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(root / "images" / image["file_name"])


def image_config(run: Path, nocaps: Path) -> RunConfig:
    return evaluation_config(str(run), ["data.check_counts=false"], dataset="nocaps", root=nocaps)


class TestConfig:
    def test_another_dataset_takes_nothing_of_the_runs_own(self, toy: Toy, tmp_path: Path) -> None:
        run = toy.finished_run(tmp_path / "run")
        own = load_config(run / "config.yaml")
        of_own = {"video_root": "videos", "quarantine": "bad.txt", "check_counts": False}
        save_config(replace(own, data=replace(own.data, **of_own)), run / "config.yaml")
        data = evaluation_config(str(run), dataset="coco", root=Path("data/coco")).data
        assert (data.dataset, data.root) == ("coco", "data/coco")
        assert (data.video_root, data.quarantine, data.features, data.check_counts) == (None, None, None, True)
        assert data.num_frames == FRAMES

    def test_the_runs_own_dataset_stays_as_it_is(self, run: Path) -> None:
        config = evaluation_config(str(run))
        assert config == load_config(run / "config.yaml")
        assert evaluation_config(str(run), dataset="mini") == config
        assert evaluation_config(str(run), root=Path(str(config.data.root))) == config

    def test_what_the_user_sets_is_kept(self, run: Path) -> None:
        data = evaluation_config(
            str(run), ["data.video_root=elsewhere", "data.num_frames=1"], dataset="coco", root=Path("a, b=c")
        ).data
        assert (data.root, data.video_root, data.num_frames) == ("a, b=c", "elsewhere", 1)

    @pytest.mark.parametrize(
        ("overrides", "dataset", "root", "message"),
        [
            ([], "coco", None, "The dataset 'coco' has no root; name the directory that holds it with --root"),
            ([], "nocap", "x", r"The dataset is 'nocap'; allowed: .*nocaps"),
            (["data.dataset=coco"], "nocaps", "x", "Both --dataset nocaps and data.dataset are given"),
            (["data.root=y"], "nocaps", "x", "Both --root x and data.root are given"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(
        self, run: Path, overrides: Sequence[str], dataset: str, root: str | None, message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            evaluation_config(str(run), overrides, dataset=dataset, root=None if root is None else Path(root))

    def test_a_checkpoint_that_is_no_run_needs_a_directory(self, toy: Toy, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="it is a checkpoint but not a run; name a directory for its result with"):
            evaluation_config(str(toy.checkpoint), dataset="nocaps", root=tmp_path)
        config = evaluation_config(str(toy.checkpoint), dataset="nocaps", root=tmp_path, out=tmp_path / "out")
        assert (config.init, config.output_dir) == (str(toy.checkpoint), str(tmp_path / "out"))

    def test_a_directory_has_the_evaluations_of_one_checkpoint(self, toy: Toy, run: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        keep_config(out, evaluation_config(str(toy.checkpoint), out=out))
        check_out(out, evaluation_config(str(toy.checkpoint), ["data.num_frames=1"], out=out))
        with pytest.raises(UserError, match=r"holds evaluations of .*, not of .*; name another --out"):
            check_out(out, evaluation_config(str(run), out=out))


def test_a_video_checkpoint_captions_images(run: Path, nocaps: Path) -> None:
    result = evaluate(run, split="validate", config=image_config(run, nocaps))
    assert (result.dataset, result.clips_scored) == ("nocaps", 7)
    assert result.evidence_clips == SIZES
    assert result.subset_frequencies == "own"
    assert result.decoding["num_frames"] == FRAMES
    (directory,) = (run / "evaluation").iterdir()
    assert directory.name.startswith("nocaps@") and directory.name.endswith("-validate")
    submitted = read_json(directory / "submission.json")
    assert {type(entry["image_id"]) for entry in submitted} == {int}
    assert {str(entry["image_id"]): entry["caption"] for entry in submitted} == read_predictions(
        directory / "predictions.json"
    )


def test_the_frequencies_of_domains_can_be_those_of_the_split(run: Path, nocaps: Path) -> None:
    config = image_config(run, nocaps)
    own = evaluate(run, split="validate", config=config)
    split = evaluate(run, split="validate", config=config, subset_frequencies="split")
    assert own.scores == split.scores and own.per_clip == split.per_clip
    assert (own.subset_frequencies, split.subset_frequencies) == ("own", "split")


def test_an_image_checkpoint_captions_videos_with_one_and_with_four_frames(toy: Toy, tmp_path: Path) -> None:
    run = toy.finished_run(tmp_path / "image")
    config = load_config(run / "config.yaml")
    save_config(replace(config, data=replace(config.data, num_frames=1)), run / "config.yaml")
    one = evaluate(run, config=evaluation_config(str(run)))
    four = evaluate(run, config=evaluation_config(str(run), ["data.num_frames=4"]))
    assert (one.decoding["num_frames"], four.decoding["num_frames"]) == (1, 4)
    assert {path.name for path in (run / "evaluation").iterdir()} == {"mini-test", "mini+4frames-test"}
    assert read_runs([run], "test")[0].result == one
    assert read_runs([run], "mini+4frames:test")[0].result == four


def test_a_split_without_captions_gets_a_file_for_the_server(run: Path, nocaps: Path) -> None:
    config = image_config(run, nocaps)
    path = caption_for_server(run, split="test", config=config)
    assert [entry["image_id"] for entry in read_json(path)] == list(range(7, 14))
    assert not (path.parent / "result.json").exists()
    with pytest.raises(UserError, match="nocaps:test has no captions to score on"):
        evaluate(run, split="test", config=config)


def test_the_server_gets_no_file_with_images_left_out(run: Path, nocaps: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(nocaps, tmp_path / "nocaps"))
    (root / "images" / f"{9:016x}.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"1 of 7 images could not be decoded, .* files: 9"):
        caption_for_server(run, split="test", config=image_config(run, root))
    (directory,) = (run / "evaluation").iterdir()
    assert not (directory / "submission.json").exists()
    assert len(read_predictions(directory / "predictions.json")) == 6


def test_the_command(
    run: Path,
    nocaps: Path,
    toy: Toy,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def evlvideo(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["evlvideo", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), " ".join(" ".join(capsys.readouterr()).split())

    of_nocaps = ("--dataset", "nocaps", "--root", nocaps, "data.check_counts=false", "--split")
    code, told = evlvideo(run, *of_nocaps, "validate")
    assert code == 0
    assert "near-domain (3 clips): BLEU-4" in told and "with its own document frequencies" in told
    assert "The file for the server of nocaps is" in told
    code, told = evlvideo(toy.checkpoint, *of_nocaps, "test", "--out", tmp_path / "bare")
    assert code == 0 and "nocaps:test has no captions to score on. The file for its server is" in told
    assert (tmp_path / "bare" / "config.yaml").is_file()
    code, told = evlvideo(toy.checkpoint, *of_nocaps, "val", "--out", tmp_path / "wrong")
    assert code == 2 and "has no split 'val'; allowed: validate, test" in told
    assert not (tmp_path / "wrong").exists()
    code, told = evlvideo(run, *of_nocaps, "test", "--other-clips")
    assert code == 2 and "has no captions to score on, so there is nothing to probe" in told
    code, told = evlvideo(run, "--frequencies", "domain")
    assert code == 2 and "--frequencies is 'domain'; allowed: split, own" in told
