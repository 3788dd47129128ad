"""The study of connectors reads what it says."""

import json
import sys
from pathlib import Path

from evlvideo.config.loading import load_config
from evlvideo.files import read_json
from evlvideo.models.connectors import CONNECTORS
from evlvideo.results.prediction_files import write_predictions

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "benchmarks"), str(ROOT / "scripts")]

import connectors  # noqa: E402

NOT_MEASURED = {"mlp", "pixel_shuffle"}
"""Connectors that are newer than the published study."""


def test_every_connector_is_a_row() -> None:
    assert set(connectors.NAMES) == set(CONNECTORS)
    for name in connectors.NAMES:
        assert load_config(connectors.config_of(name)).model.connector == name


def test_validation_is_read_from_the_log(tmp_path: Path) -> None:
    lines = [
        {"step": 1, "loss": 2.0},
        {"step": 2, "validation_cider": 0.51234567},
        {"step": 4, "validation_cider": 0.6},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert connectors.validation(tmp_path) == {2: 0.5123, 4: 0.6}


def test_captions_that_differ_are_counted(tmp_path: Path) -> None:
    directory = tmp_path / "evaluation" / "mini-test"
    directory.mkdir(parents=True)
    (tmp_path / "config.yaml").write_text("data: {dataset: mini}\n")
    write_predictions(directory / "predictions.json", {"a": "a ball", "b": "a ball", "c": "a box"})
    assert connectors.distinct(tmp_path) == 2


def test_configs_have_the_learning_rate_that_was_best() -> None:
    measured = read_json(ROOT / "docs" / "benchmarks" / "connectors.json")
    assert set(CONNECTORS) - set(measured["rates"]) == NOT_MEASURED
    for name, by_rate in measured["rates"].items():
        taken = load_config(connectors.config_of(name)).training.learning_rate
        best = max(by_rate, key=lambda rate, by_rate=by_rate: by_rate[rate])
        assert float(best) == taken == measured["study"]["learning_rates"][name]


def test_configs_of_what_was_not_measured_say_so() -> None:
    for name in NOT_MEASURED:
        assert "# not searched" in connectors.config_of(name).read_text(encoding="utf-8")


def test_an_outline_has_what_another_report_is_compared_with() -> None:
    circumstances = {"machine": {"threads": 1}, "conditions": "", "versions": {}, "commit": "abc"}
    row = {
        "system": "linear",
        "values": {"cider": 1.5, "bleu_4": 0.4, "training_seconds": 100.0},
        "by_seed": {"42": {"cider": 1.6, "bleu_4": 0.5}, "1": {"cider": 1.4, "bleu_4": 0.3}},
    }
    kept = {"cider": 1.5, "cider_by_seed": {"42": 1.6, "1": 1.4}, "training_seconds": 100.0}
    report = {**circumstances, "seeds": [42, 1], "rates": {}, "study": {"rows": [row]}}
    assert connectors.outline(report) == {**circumstances, "rows": {"linear": kept}}
