"""What a GPU is measured by runs in small on a CPU, and a part that fails leaves the others alone."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evlvideo.files import read_json

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "benchmarks"), str(ROOT / "scripts")]

import gpu  # noqa: E402
from benchmark_page import gpu as gpu_page  # noqa: E402
from gpu_parts import (  # noqa: E402
    captioning,
    card,
    connectors,
    cuda_tests,
    estimates,
    process,
    self_critical,
    shares,
    syncs,
    training,
    transfer,
)
from gpu_parts.measure import Notes  # noqa: E402
from gpu_parts.sizes import FORMS, SMALL  # noqa: E402

FEW, MANY = SMALL.batches


def found_by(part: Any, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "notes.json"
    part.run(SMALL, Notes(path))
    found: dict[str, Any] = read_json(path)
    assert {case: of["failed"] for case, of in found.items() if isinstance(of, dict) and "failed" in of} == {}
    return found


# Parts


def test_steps_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "FORMS", {"video": FORMS["video"]})
    found = found_by(training, tmp_path)
    assert list(found) == [f"video, {FEW} clips", f"video, {MANY} clips", f"video, {MANY} clips, checkpointing"]
    assert all(len(case["seconds"]) == SMALL.repeats and case["median_seconds"] > 0 for case in found.values())


def test_self_critical_steps_are_measured(tmp_path: Path) -> None:
    found = found_by(self_critical, tmp_path)
    assert [case["samples"] for case in found.values()] == 4 * [SMALL.samples]


def test_captioning_is_measured(tmp_path: Path) -> None:
    found = found_by(captioning, tmp_path)
    assert [case["beams"] for case in found.values()] == [SMALL.beams, 1]
    assert all(case["clips_per_second"] > 0 for case in found.values())


def test_connectors_are_measured_behind_one_tower(tmp_path: Path) -> None:
    found = found_by(connectors, tmp_path)
    assert list(found) == ["tomeformer, r = 3", "merging alone", "tomeformer, r = 0", "blip2"]
    merging, alone = found["tomeformer, r = 3"], found["tomeformer, r = 0"]
    assert (merging["soft_tokens"], alone["soft_tokens"]) == (17 - 2 * 3, 17)
    assert merging["multiply_adds"] < alone["multiply_adds"]


def test_places_that_read_the_device_are_named(tmp_path: Path) -> None:
    found = found_by(syncs, tmp_path)
    assert list(found) == ["caption", "scst"]
    for stage in found.values():
        assert stage["reads"] == sum(stage["reads_by_place"].values()) > 0


def test_the_machine_is_described_and_moves_are_timed(tmp_path: Path) -> None:
    machine = found_by(card, tmp_path)
    assert machine["matrix_product"]["tflops"] > 0 and machine["machine"]["cpus"] > 0
    moved = found_by(transfer, tmp_path)
    assert moved["float32, pageable"]["bytes"] == 4 * moved["uint8, pageable"]["bytes"]


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA H100 80GB HBM3", 989.0), ("NVIDIA H100 PCIe", 756.0), ("NVIDIA H200", 989.0), ("NVIDIA L40S", 362.0)],
)
def test_a_card_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, tflops: float) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: name)
    assert card.published_tflops() == tflops


def test_tests_that_need_a_gpu_are_found_by_their_own_mark_or_a_shared_one() -> None:
    names = {path.name for path in cuda_tests.files_with_tests()}
    assert {"test_trainer.py", "test_two_processes.py", "test_merging.py", "test_captioner_training.py"} <= names
    shared = "mark.needs_cuda" in (ROOT / "tests" / "helpers" / "tiny_models.py").read_text(encoding="utf-8")
    assert shared and "test_sampling.py" not in names


# Estimates


def test_every_case_that_names_an_estimate_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = estimates._estimate(SMALL, "video", FEW, samples=1, sample_tokens=4)
    for counted in ("_estimate", "multiply_adds"):
        monkeypatch.setattr(estimates, counted, lambda *asked, **changes: one)
    estimated = found_by(estimates, tmp_path)
    named = {f"training, {form}, {batch} clips" for form in ("image", "video", "merged") for batch in SMALL.batches}
    named |= {f"self-critical, {form}, {batch} clips" for form in ("image", "video") for batch in SMALL.batches}
    named |= {f"captioning, video, {beams} beams" for beams in (SMALL.beams, 1)}
    assert estimated.keys() == named


def test_shares_are_of_the_figure_for_the_card() -> None:
    case = {"estimate": "a step", "median_seconds": 2.0}
    parts: dict[str, Any] = {
        "estimates": {"found": {"a step": {"multiply_adds": 10**14}}},
        "card": {"found": {"published_tflops": 200.0, "matrix_product": {"tflops": 150.0}}},
        "training": {"found": {"image": case, "video": {"failed": "OutOfMemoryError"}}},
    }
    shares.add_shares(parts)
    assert (case["tflops"], case["share_of_limit"]) == (100.0, 0.5)
    parts["card"]["found"]["published_tflops"] = None
    shares.add_shares(parts)
    assert case["share_of_limit"] == pytest.approx(100 / 150)


# The page

STEP = {"median_seconds": 0.5, "seconds": [0.4, 0.5, 0.6]}
REPORT: dict[str, Any] = {
    "seconds": 480.0,
    "versions": {"torch": "2.9"},
    "parts": {
        "card": {
            "state": "done",
            "found": {
                "machine": {"card": "NVIDIA H100", "driver": "580", "cuda": "13.0"},
                "published_tflops": 989.0,
                "matrix_product": {"tflops": 700.4},
            },
        },
        "training": {
            "state": "done",
            "found": {
                "image, 4 clips": STEP | {"tflops": 300.0, "share_of_limit": 0.303, "peak_gib": 12.34},
                "video, 16 clips": {"failed": "OutOfMemoryError: no | more"},
            },
        },
        "connectors": {
            "state": "done",
            "found": {
                "tomeformer, r = 19": {
                    "soft_tokens": 29,
                    **dict.fromkeys(("forward", "forward_and_backward", "with_tower"), STEP),
                },
                "merging alone": {"forward": {"median_seconds": 0.1}},
            },
        },
        "compiled": {"state": "cut off", "found": {}},
    },
}


def test_the_page_shows_what_there_is_and_says_what_there_is_not() -> None:
    page = "\n".join(gpu_page.gpu(REPORT))
    assert "on NVIDIA H100" in page and "989 TFLOPS according to the manufacturer, 700 measured" in page
    assert "| cross-entropy | image, 4 clips | 0.500 (0.400 to 0.600) | 300 | 30% | 12.3 | – |" in page
    assert "| cross-entropy | video, 16 clips | OutOfMemoryError: no / more |" in page
    assert "100.00 ms, 20% of the connector's" in page
    assert "The part `compiled` was cut off." in page and "The part `self_critical` did not run." in page


# Processes


def test_what_a_case_raises_is_noted_and_the_next_one_runs(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.json")

    def fail() -> None:
        raise MemoryError("there is no more")

    notes.measure("first", fail)
    notes.measure("second", lambda: 2)
    assert read_json(tmp_path / "notes.json") == {"first": {"failed": "MemoryError: there is no more"}, "second": 2}


def test_the_time_that_is_over_skips_what_is_left(tmp_path: Path) -> None:
    gpu.run_parts(["card", "transfer"], "small", tmp_path / "report.json", seconds=0)
    report = read_json(tmp_path / "report.json")
    assert {name: part["state"] for name, part in report["parts"].items()} == {"card": "skipped", "transfer": "skipped"}


def test_parts_are_cut_off_or_fail_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.SECONDS, "estimates", 0.1)
    monkeypatch.setitem(gpu.SECONDS, "no_such_part", 60)
    gpu.run_parts(["estimates", "no_such_part", "card"], "small", tmp_path / "report.json", seconds=300)
    report = read_json(tmp_path / "report.json")
    assert [part["state"] for part in report["parts"].values()] == ["cut off", "failed", "done"]
    assert "No module named 'gpu_parts.no_such_part'" in report["parts"]["no_such_part"]["reason"]
    assert report["parts"]["card"]["found"]["matrix_product"]["rows"] == SMALL.matrix


def test_what_parts_share_leaves_the_gpu_to_them() -> None:
    """A process cannot use CUDA where the one that it was forked from has asked for it."""
    code = f"""
import importlib, torch
def asked(*arguments): raise AssertionError("CUDA was asked for")
torch._C._cuda_getDeviceCount = torch._C._cuda_init = asked
for name in {process.IMPORTED_ONCE!r}: importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_without_a_gpu_the_full_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"torch finds no GPU.*--small"):
        gpu.main([])


def test_a_part_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--small", "--parts", "card,cards"])
    assert "there is no part 'cards'" in capsys.readouterr().err


@pytest.mark.slow
def test_one_command_runs_all_in_small(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "benchmarks" / "gpu.py"
    subprocess.run([sys.executable, script, "--small", "--out", tmp_path / "report.json"], check=True, cwd=tmp_path)
    report = read_json(tmp_path / "report.json")
    assert {name: part["state"] for name, part in report["parts"].items()} == dict.fromkeys(gpu.SECONDS, "done")
    assert all("tflops" in case for case in report["parts"]["training"]["found"].values())


def test_parts_import_without_the_paths_of_the_test_suite() -> None:
    parts = sorted(path.stem for path in (ROOT / "scripts" / "benchmarks" / "gpu_parts").glob("[a-z]*.py"))
    code = f"import importlib\nfor part in {parts}: importlib.import_module('gpu_parts.' + part)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "scripts" / "benchmarks")])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
