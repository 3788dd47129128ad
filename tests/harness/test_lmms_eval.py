"""lmms-eval finds our model, which captions what it is asked, and its tasks read and score local files as we do."""

import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from tiny_data import write_layout

from evlvideo.errors import UserError
from evlvideo.harness import TASKS, captioning, requests
from evlvideo.harness.manifest import manifest
from evlvideo.inference.caption_files import CaptionedFile, caption_files
from evlvideo.metrics.scoring import score_captions
from evlvideo.mini.rendered import root_of
from evlvideo.results.prediction_files import read_predictions

ROOT = Path(__file__).parents[2]
INSTALLED = find_spec("lmms_eval") is not None


class Table(list[dict[str, Any]]):
    """Stands in for the datasets library's table."""

    @classmethod
    def from_list(cls, rows: list[dict[str, Any]]) -> "Table":
        return cls(rows)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Our model's module, with stand-ins for what it and the entry point take from lmms-eval."""

    class Base:
        def __init__(self) -> None:
            self.task_dict: dict[str, Any] = {}

    stubs = {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.model": {"lmms": Base},
        "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": lambda **given: SimpleNamespace(**given)},
    }
    for name, content in stubs.items():
        stub = ModuleType(name)
        vars(stub).update(content)
        monkeypatch.setitem(sys.modules, name, stub)
    monkeypatch.delitem(sys.modules, "evlvideo.harness.model", raising=False)
    yield importlib.import_module("evlvideo.harness.model")
    sys.modules.pop("evlvideo.harness.model", None)


def request(number: int) -> SimpleNamespace:
    return SimpleNamespace(args=("Describe it.", {}, captioning.files_of, number, "task", "test"))


def test_the_entry_point_names_a_class_that_is_there(model: ModuleType) -> None:
    (point,) = [point for point in entry_points(group="lmms_eval.models") if point.name == "evlvideo"] or [None]
    assert point is None or point.load() is manifest  # None where an older version is installed
    home, _, name = manifest().simple_class_path.rpartition(".")
    assert getattr(importlib.import_module(home), name) is model.EvlVideo
    assert manifest().model_id == "evlvideo"


def test_requests_get_the_captions_of_the_command_line(model: ModuleType) -> None:
    clips = sorted((root_of("mini", None) / "videos").glob("*.mp4"))[:3]
    lm = model.EvlVideo("mini", batch_size=2, **{"generation.num_beams": 1, "generation.do_sample": False})
    lm.task_dict = {"task": {"test": [{"file": str(clip)} for clip in clips]}}
    captions = lm.generate_until([request(2), request(0)])
    changes = ["generation.batch_size=2", "generation.num_beams=1"]
    expected = [file.captions[0] for file in caption_files([clips[2], clips[0]], "mini", overrides=changes)]
    assert captions == expected


def test_a_file_that_cannot_be_decoded_gets_an_empty_caption(
    model: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = CaptionedFile(Path("a.mp4"), [], "no video stream")
    monkeypatch.setattr(requests, "caption_files", lambda *given, **more: [broken])
    lm = model.EvlVideo("mini")
    lm.task_dict = {"task": {"test": [{"file": "a.mp4"}]}}
    assert lm.generate_until([request(0)]) == [""]
    assert "no video stream" in caplog.text


@pytest.mark.parametrize("files", [[], ["a.mp4", "b.mp4"], [object()]])
def test_a_task_that_shows_no_single_file_is_refused(model: ModuleType, files: list[Any]) -> None:
    lm = model.EvlVideo("mini")
    lm.task_dict = {"task": {"test": [{}]}}
    asked = SimpleNamespace(args=("", {}, lambda document: files, 0, "task", "test"))
    with pytest.raises(UserError, match="captions one video or image file"):
        lm.generate_until([asked])


def test_a_device_or_several_processes_are_refused(model: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES"):
        model.EvlVideo("mini", device="cuda:0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one process"):
        model.EvlVideo("mini")


@pytest.mark.parametrize("ask", ["loglikelihood", "generate_until_multi_round"])
def test_other_requests_are_refused(model: ModuleType, ask: str) -> None:
    with pytest.raises(NotImplementedError, match="choose a task of captions"):
        getattr(model.EvlVideo("mini"), ask)([])


def test_a_task_reads_the_official_files(tmp_path: Path) -> None:
    write_layout(tmp_path, {"train": 1, "validate": 1, "test": 2})
    (tmp_path / "videos").mkdir()
    for number in range(4):
        (tmp_path / "videos" / f"video{number}.mp4").touch()
    named = Table([{"dataset": "msrvtt", "split": "test", "root": str(tmp_path), "check_counts": False}])
    documents = captioning.read_documents(named)
    assert len(documents) == 2 and len(documents[0]["references"]) == 20
    assert Path(captioning.files_of(documents[0])[0]).parent == tmp_path / "videos"


def test_scores_are_those_of_evaluate() -> None:
    documents = [
        {"image_id": "a", "references": ["a dog runs on a beach", "a dog running"]},
        {"image_id": "b", "references": ["a man cooks some food", "someone is cooking"]},
    ]
    captions = ["a dog runs", "a man cooks food"]
    collected = [captioning.collect(*pair) for pair in zip(documents, ([text] for text in captions), strict=True)]
    expected = score_captions(
        dict(zip("ab", captions, strict=True)), {clip["image_id"]: clip["references"] for clip in documents}
    )
    assert captioning.cider([found["CIDEr"] for found in collected]) == expected.corpus["cider"]
    assert captioning.bleu_4([found["BLEU-4"] for found in collected]) == expected.corpus["bleu_4"]
    assert captioning.rouge_l([found["ROUGE-L"] for found in collected]) == expected.corpus["rouge_l"]


class _Loader(yaml.SafeLoader):
    """Reads `!function`."""


_Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def test_the_functions_and_files_that_tasks_name_are_there() -> None:
    shared = yaml.load((TASKS / "_captioning").read_text(), _Loader)
    names = [value for value in shared.values() if str(value).startswith("evlvideo.")]
    names += [metric["aggregation"] for metric in shared["metric_list"]]
    assert len(names) == 8
    for name in names:
        home, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(home), function))
    for path in TASKS.glob("*.yaml"):
        task = yaml.load(path.read_text(), _Loader)
        assert task["task"] == path.stem and task["include"] == "_captioning"
        (data,) = task["dataset_kwargs"]["data_files"].values()
        named = json.loads((TASKS / data).read_text())
        assert f"evlvideo_{named['dataset']}" == path.stem


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs lmms-eval")
def test_lmms_eval_itself_captions_and_scores(tmp_path: Path) -> None:
    model_args = "checkpoint=mini,generation.num_beams=2"
    command = [sys.executable, "-m", "lmms_eval", "--model", "evlvideo", "--model_args", model_args]
    command += ["--include_path", str(TASKS), "--tasks", "evlvideo_mini", "--limit", "4", "--batch_size", "4"]
    command += ["--log_samples", "--output_path", str(tmp_path)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (results,) = tmp_path.rglob("*_results.json")
    scores = json.loads(results.read_text())["results"]["evlvideo_mini"]
    (samples,) = tmp_path.rglob("*_samples_evlvideo_mini.jsonl")
    predictions = read_predictions(samples)
    assert len(predictions) == 4 and scores["CIDEr,none"] > 0
