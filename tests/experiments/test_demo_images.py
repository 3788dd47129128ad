"""The demo of the image half: its runs, its blind line, and what it says."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evlvideo.config.loading import load_config
from evlvideo.config.run import TOWERS, RunConfig
from evlvideo.errors import Interrupted, UserError
from evlvideo.experiments import demo_images
from evlvideo.experiments.demo_folders import configs_directory, demo_config
from evlvideo.experiments.demo_images import (
    BLIND,
    FOLDERS,
    PRETRAINED,
    answer_line,
    blind_result,
    run_image_demo,
)
from evlvideo.mini import rendered
from evlvideo.mini.images.build import build_mini_images
from evlvideo.results.answer_records import AnswerResult


def config_of(name: str) -> RunConfig:
    return load_config(configs_directory() / "mini" / "image" / f"{name}.yaml")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small set, as if it were the rendered one."""
    sizes = {"shards": 4, "lavis": 2, "train": 8, "validate": 2, "test": 6}
    root = build_mini_images(tmp_path / "set", progress=False, sizes=sizes)
    monkeypatch.setitem(rendered.RENDERED, "mini_images", lambda: root)
    return root


def test_pre_training_mixes_three_kinds_of_source_as_published() -> None:
    data = config_of("pretrain").data
    assert [(source.dataset, source.ratio) for source in data.sources] == [
        ("shards", 15),
        ("lavis", 4),
        ("mini_images", 1),
    ]
    assert (data.batches, data.num_frames, data.horizontal_flip) == ("one_source", 1, 0.0)


def test_pre_training_starts_from_towers_alone_with_a_staircase() -> None:
    run = config_of("pretrain")
    assert (run.init, run.training.schedule) == (TOWERS, "staircase")


def test_pre_trained_runs_differ_in_the_model_and_its_learning_rate_alone() -> None:
    first, *others = (config_of(name) for name in PRETRAINED.values())
    for other in others:
        training = replace(other.training, learning_rate=first.training.learning_rate)
        assert (other.init, other.data, training, other.generation) == (
            first.init,
            first.data,
            first.training,
            first.generation,
        )


def test_the_blind_line_is_scored_without_a_model(images: Path, tmp_path: Path) -> None:
    (tmp_path / "blind").mkdir()
    result = blind_result(images, tmp_path / "blind")
    assert AnswerResult.load(tmp_path / "blind" / "result.json").scores == result.scores
    assert 0 <= result.scores["vqa_accuracy"].value < 0.7
    assert result.questions == 18


def test_a_line_of_answers_has_every_answer_type(images: Path, tmp_path: Path) -> None:
    (tmp_path / "blind").mkdir()
    line = answer_line("blind", blind_result(images, tmp_path / "blind"))
    assert line.startswith("blind: VQA accuracy (official) ")
    assert all(f"{kind} " in line for kind in ("yes/no", "number", "other"))


def test_a_stopped_demo_says_that_it_starts_over(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise Interrupted("Stopped at step 3, go on with --resume.")

    monkeypatch.setattr(demo_images, "parallel_trainings", stop)
    with pytest.raises(Interrupted, match="it starts over when it is run again") as told:
        run_image_demo(tmp_path / "out", seed=1)
    assert "--resume" not in str(told.value)
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FOLDERS)


def test_other_peoples_files_are_not_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds thesis\.tex, which no demo is known to have made"):
        run_image_demo(tmp_path, seed=1)
    assert (tmp_path / "thesis.tex").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("no_java")
def test_the_chain_runs_from_end_to_end(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two steps a run and few pictures."""

    def short(name: str, out: Path, seed: int) -> RunConfig:
        config = demo_config(name, out, seed)
        # Processes that train do not see the small set in the place of the rendered one.
        sources = [replace(source, root=str(of_part(source.root))) for source in config.data.sources]
        data = replace(config.data, root=str(images), sources=sources, check_counts=False, num_workers=0)
        training = replace(
            config.training, max_steps=2, eval_steps=2, batch_size=2, warmup_steps=1, schedule="cosine",
            schedule_steps=None,
        )  # fmt: skip
        decoding = {"num_beams": 1, "max_new_tokens": 6}
        return replace(
            config,
            data=data,
            training=training,
            generation=replace(config.generation, **decoding),
            answering=replace(config.answering, **decoding),
        )

    def of_part(root: str | None) -> Path:
        return images if root is None else images / root.rpartition("/")[2]

    monkeypatch.setattr(demo_images, "demo_config", short)
    found = run_image_demo(tmp_path / "demo", seed=1)
    rows = json.loads((tmp_path / "demo" / "report" / "table.json").read_text(encoding="utf-8"))["rows"]
    assert [row["system"] for row in rows] == list(PRETRAINED)
    assert set(found.drops) == set(PRETRAINED)
    assert next(iter(found.answers)) == BLIND
    assert all(result.questions == 18 for result in found.answers.values())
    assert found.comparison.report.is_file()


@pytest.mark.slow
def test_the_image_demo_takes_at_most_six_minutes_on_two_cores(tmp_path: Path) -> None:
    started = time.perf_counter()
    found = run_image_demo(tmp_path / "demo", seed=42)
    assert time.perf_counter() - started < 6 * 60
    rows = json.loads((tmp_path / "demo" / "report" / "table.json").read_text(encoding="utf-8"))["rows"]
    assert [row["system"] for row in rows] == list(PRETRAINED)
    assert all("lower" in line for line in found.drops.values())
