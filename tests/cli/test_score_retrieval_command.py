"""The command that scores retrieval, as it prints and refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from evlvideo.cli.app import main
from evlvideo.files import read_json
from evlvideo.results.retrieval.features import RetrievalFeatures

pytestmark = pytest.mark.usefixtures("restore_logging")


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """Three images of five texts each."""
    path, owner = tmp_path / "f.safetensors", np.repeat(np.arange(3), 5)
    ids = ["0", "1", "2"], [f"t{number}" for number in range(15)]
    RetrievalFeatures(np.eye(3), np.eye(3)[owner], *ids, owner).write(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    sentences = [{"raw": f"caption {k}"} for k in range(5)]
    images = [
        {"filepath": "val2014", "filename": f"{number}.jpg", "cocoid": number, "split": "test", "sentences": sentences}
        for number in range(3)
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["evlvideo", "score-retrieval", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_prints_a_table_and_writes_the_result(
    features: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = root / "out.json"
    dataset = ("--dataset", "coco", "--root", root, "--no-check-counts")
    assert run(monkeypatch, features, *dataset, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "R@1" in printed
    assert "image → text" in printed
    assert "3 images and 15 texts of coco:test" in printed
    assert read_json(out)["feature_file"].endswith("f.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--query-list", "x.csv", "--dataset", "coco"), "leave out --dataset"),
        (("--split", "test"), "name it with --dataset"),
        (("--ties", "lucky"), "ties is 'lucky'; allowed: pessimistic, expected"),
        (("--dataset", "coko"), "The dataset is 'coko'; allowed:"),
        (("--dataset", "coco"), "The dataset 'coco' has no root"),
    ],
)
def test_wrong_options_are_refused(
    features: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    assert run(monkeypatch, features, *options) == 2
    assert message in capsys.readouterr().err
