"""The benchmark of pruning counts what it says, and the page shows its numbers."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from evlvideo.models.tokens.pruning import PRESETS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "scripts" / "benchmarks"))

import elip_costs  # noqa: E402
from benchmark_page import elip  # noqa: E402

# Billions of multiply-adds of real blocks, as published and looked ahead with the class token's row alone; the share of
# tokens removed; forward and backward as published. Computed by hand from the published code.
FACTS = {
    "blip, 224/16": (17.45, 12.31, 12.64, 9.23, 0.288, 0.947),
    "albef, 256/16": (23.05, 16.19, 16.65, 12.17, 0.289, 0.943),
    "clip, 224/16": (17.45, 12.37, 12.70, 9.28, 0.284, 0.951),
    "meter, 224/32": (3.94, 3.00, 2.87, 2.01, 0.236, 1.005),
    "meter, 288/16": (27.09, 7.21, 7.08, 4.28, 0.729, 0.353),
}


@pytest.mark.parametrize("run", FACTS)
def test_the_counts_are_those_of_the_published_runs(run: str) -> None:
    found = elip_costs.counts(PRESETS[run.split(",")[0]], elip_costs.AS_PUBLISHED[run])
    unpruned, real, published, exact, removed, ratio = FACTS[run]
    ahead = found["look_ahead"]
    counted = [found["unpruned"], found["real"], ahead["published"], ahead["exact"]]
    assert [number / 1e9 for number in counted] == pytest.approx([unpruned, real, published, exact], abs=0.006)
    assert found["tokens_removed"] == pytest.approx(removed, abs=0.0006)
    # Two forward passes for the backward one.
    assert (3 * found["real"] + ahead["published"]) / (3 * found["unpruned"]) == pytest.approx(ratio, abs=0.0006)


def test_three_hosts_publish_one_schedule() -> None:
    assert PRESETS["blip"] == PRESETS["albef"] == PRESETS["clip"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("costs") / "report.json"
    with pytest.MonkeyPatch.context() as patch:
        # In this process: starting eight takes a minute.
        sizes = {host: elip_costs._small(size) for host, size in elip_costs.HOSTS.items()}
        patch.setattr(
            elip_costs, "_peak_elsewhere", lambda host, way, _: elip_costs.peak_mib(sizes[host], host, way, 1)
        )
        patch.setattr(sys, "argv", ["elip_costs.py", "--small", "--batch", "2", "--rounds", "1", "--out", str(out)])
        elip_costs.main()
    return json.loads(out.read_text())


def test_looking_ahead_saves_nothing_for_the_backward_pass(report: dict[str, Any]) -> None:
    for found in report["hosts"].values():
        saved = found["saved_bytes"]
        assert saved["exact"] == saved["one"] == saved["previous"]
        assert saved["exact"]["fp32"] < saved["none"]["fp32"]
        assert found["largest_batch"]["exact"]["fp32"] > found["largest_batch"]["none"]["fp32"]


def test_the_page_shows_what_was_measured(report: dict[str, Any]) -> None:
    lines = elip.elip_costs(report)
    assert sum(line.startswith("| BLIP, ALBEF, CLIP | `exact`") for line in lines) == 2
    assert report["measured"]["blip"]["ratios"]["none"]["step"] == [1.0]
    assert all(peak >= 0 for found in report["measured"].values() for peak in found["peak_mib"].values())
