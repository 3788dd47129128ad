"""The benchmark of captioning with pruning measures what it says."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest
from toy_run import Toy

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "benchmarks"), str(ROOT / "scripts")]
import pruned_captioning  # noqa: E402
from benchmark_page import pruning  # noqa: E402

from evlvideo.config.loading import load_config  # noqa: E402
from evlvideo.files import read_json, write_json  # noqa: E402


def test_every_policy_can_prune_the_tower_and_has_a_title() -> None:
    config = load_config(ROOT / "configs" / "mini" / "pruning" / "pruned.yaml")
    for name in pruned_captioning.POLICIES:
        assert pruned_captioning.costs(config, pruned_captioning.pruning_of(config, name))["tower"] > 0
    assert set(pruning._POLICIES) - {None} == set(pruned_captioning.POLICIES)


def test_configs_differ_in_the_model_alone() -> None:
    first, *others = (
        load_config(ROOT / "configs" / "mini" / "pruning" / f"{name}.yaml") for name in pruned_captioning.TRAINED
    )
    for other in others:
        assert (other.data, other.training, other.model.fusion) == (first.data, first.training, first.model.fusion)


@pytest.mark.slow
def test_a_small_report_makes_a_section(toy: Toy, tmp_path: Path) -> None:
    changes = [f"data.root={toy.data}", "data.check_counts=false", "training.max_steps=2", "training.eval_steps=2"]
    options = Namespace(seeds=[42, 1], directory=tmp_path, conditions="", set=changes, small=True)
    report = pruned_captioning.measure(options)
    write_json(tmp_path / "report.json", report)
    lines = pruning.pruned_captioning(read_json(tmp_path / "report.json"))
    rows = [line for line in lines if line.startswith("| all tokens | ") or line.startswith("| pruning by")]
    assert len(rows) == 1 + 2 * len(pruned_captioning.SMALL)
    systems = report["systems"]
    assert systems["pruned, class"]["tower"] < systems["whole, as it is"]["tower"] < systems["pruned, draft"]["tower"]
