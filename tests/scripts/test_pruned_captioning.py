"""The benchmark of captioning with pruning measures what it says."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from toy_run import Toy

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "benchmarks"), str(ROOT / "scripts")]
import pruned_captioning  # noqa: E402
from benchmark_page import pruning  # noqa: E402

from evlvideo.assembly.models import start_model  # noqa: E402
from evlvideo.config.loading import load_config  # noqa: E402
from evlvideo.config.run import RunConfig  # noqa: E402
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


def save_untrained(configs: Sequence[RunConfig]) -> None:
    for config in configs:
        model, processor = start_model(config, tower_dtype=torch.float32)
        model.save_pretrained(config.output_dir)
        processor.save_pretrained(config.output_dir)


def test_a_small_report_makes_a_section(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruned_captioning, "train_missing", save_untrained)
    changes = [f"data.root={toy.data}", "data.check_counts=false", "generation.num_beams=1"]
    options = Namespace(seeds=[42, 1], directory=tmp_path, conditions="", set=changes, small=True)
    write_json(tmp_path / "report.json", pruned_captioning.measure(options))
    report = read_json(tmp_path / "report.json")
    rows = [line for line in pruning.pruned_captioning(report) if line.startswith(("| all tokens", "| pruning by"))]
    assert len(rows) == 2 + 2 * len(pruned_captioning.SMALL)
    systems = report["systems"]
    assert systems["pruned, class"]["tower"] < systems["whole, as it is"]["tower"] < systems["pruned, draft"]["tower"]
    # Untrained, both are the packaged checkpoint, so that the same guides must prune alike.
    for policy in pruned_captioning.SMALL:
        assert systems[f"whole, {policy}"]["cider"] == systems[f"pruned, {policy}"]["cider"]
