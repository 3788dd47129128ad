"""The study of pruning trains, tests with each guide, and the page shows its numbers."""

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest
from toy_run import Toy

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "scripts" / "benchmarks"))

import elip_mini  # noqa: E402
from benchmark_page import elip  # noqa: E402


@pytest.fixture(scope="module")
def jobs(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> list[elip_mini.Job]:
    toy_data = [f"data.root={toy.data}", "data.check_counts=false", "data.train_clips=null", "training.batch_size=2"]
    options = argparse.Namespace(small=True, seeds=[7], directory=tmp_path_factory.mktemp("elip"), set=toy_data)
    found = list(elip_mini._jobs(options))
    for job in found:
        elip_mini.do(job)
    return found


def test_each_model_is_tested_with_the_guides_that_it_knows(jobs: list[elip_mini.Job]) -> None:
    tested = {job.name: list(elip_mini._outcome(job)["scores"]) for job in jobs}
    assert tested == {"none": ["none"], "one": ["none", "class", "own caption"], "random": ["none", "class"]}


def test_what_is_done_is_not_done_again(jobs: list[elip_mini.Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elip_mini, "pretrain", None)
    monkeypatch.setattr(elip_mini, "embed_run", None)
    assert elip_mini.do(jobs[1]) == jobs[1].run


def test_pruning_saves_arithmetic(jobs: list[elip_mini.Job]) -> None:
    counted = elip_mini.multiply_adds(jobs)
    assert counted["one"]["pruned"] < counted["one"]["whole"] == counted["none"]["whole"]
    assert counted["one"]["training"] < counted["none"]["training"]


def test_the_page_has_a_row_for_each_variant(jobs: list[elip_mini.Job]) -> None:
    outcome = {"7": elip_mini._outcome(jobs[1])}
    variants: dict[str, Any] = dict.fromkeys((*elip_mini.VARIANTS, "lambda_0.5"), outcome)
    counted = dict.fromkeys(variants, elip_mini.multiply_adds(jobs)["one"])
    facts = {"seeds": [7], "steps": 2, "batch_size": 2, "frames": 1}
    lines = elip.elip_mini({**facts, "variants": variants, "multiply_adds": counted})
    assert sum(line.startswith("| dropped, not folded |") for line in lines) == 2
    assert [line.split(" | ")[0] for line in lines if line.startswith("| 0")] == ["| 0.5", "| 0.8"]
