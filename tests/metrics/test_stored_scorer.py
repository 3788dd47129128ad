import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evlvideo.errors import UserError
from evlvideo.metrics.stored_scorer import build_scorer, load_scorer, save_scorer, scorer_key, stored_scorer

REFERENCES = {
    "one": ["A man runs.", "a man is running"],
    "two": ["a dog sleeps", "The dog's asleep", "a café ½"],
    "three\nlines": ["x"],
}
HYPOTHESES = ["a man runs", "the dog 's asleep", "x", "new words here", ""]
CLIPS = ["one", "two", "three\nlines", "two", "one"]


@pytest.mark.parametrize("end_of_text", [True, False])
@pytest.mark.parametrize("documents", [None, {"d": ["a man walks"], "e": ["a dog", "a man"]}])
def test_loaded_scorer_scores_as_the_built_one(tmp_path: Path, documents: Any, end_of_text: bool) -> None:
    built = stored_scorer(tmp_path / "s", "mine:train", REFERENCES, documents, end_of_text=end_of_text)
    loaded = stored_scorer(tmp_path / "s", "mine:train", REFERENCES, documents, end_of_text=end_of_text)
    assert loaded is not built
    for frequencies in ("split", "batch"):
        expected = built.score_all(HYPOTHESES, CLIPS, frequencies=frequencies)
        assert loaded.score_all(HYPOTHESES, CLIPS, frequencies=frequencies).tolist() == expected.tolist()
    assert any(expected)


def test_an_existing_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored_scorer(tmp_path / "s", "mine:train", REFERENCES, end_of_text=True)
    monkeypatch.setattr("evlvideo.metrics.stored_scorer.build_scorer", None)
    stored_scorer(tmp_path / "s", "mine:train", REFERENCES, end_of_text=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"split": "mine:validate"}, "split mine:train rather than mine:validate"),
        ({"end_of_text": False}, "end of text true rather than false"),
        ({"references": {"one": ["a man"]}}, "references .* rather than .*; documents .* rather than"),
        ({"documents": {"one": ["a man"]}}, "documents .* rather than"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    wanted = {"split": "mine:train", "references": REFERENCES, "end_of_text": True}
    stored_scorer(tmp_path / "s", **wanted)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"scorer of something else: {message}.*Name another file"):
        stored_scorer(tmp_path / "s", **{**wanted, **changed})


def test_a_file_of_another_tokenization_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored_scorer(tmp_path / "s", "mine:train", REFERENCES, end_of_text=True)
    monkeypatch.setattr("evlvideo.metrics.stored_scorer.RULES_SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"tokenizer python [0-9a-f]{12} rather than python 000000000000"):
        stored_scorer(tmp_path / "s", "mine:train", REFERENCES, end_of_text=True)


def test_a_file_of_something_else_is_replaced_where_that_is_asked_for(tmp_path: Path) -> None:
    stored_scorer(tmp_path / "s", "mine:train", {"one": ["a man"]}, end_of_text=True)
    scorer = stored_scorer(tmp_path / "s", "mine:train", REFERENCES, end_of_text=True, replace=True)
    assert scorer.clip_ids == list(REFERENCES)
    load_scorer(tmp_path / "s", scorer_key("mine:train", REFERENCES, end_of_text=True))


@pytest.mark.parametrize("keep", [0, 5, 200, -10])
def test_a_broken_file_is_told(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "s"
    stored_scorer(path, "mine:train", REFERENCES, end_of_text=True)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"is not a stored scorer: .*Remove it"):
        stored_scorer(path, "mine:train", REFERENCES, end_of_text=True)


def test_another_safetensors_file_is_refused(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3)}, tmp_path / "s")
    with pytest.raises(UserError, match="format nothing rather than evlvideo-scorer-1"):
        stored_scorer(tmp_path / "s", "mine:train", REFERENCES, end_of_text=True)


def test_a_directory_is_no_scorer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a stored scorer"):
        stored_scorer(tmp_path, "mine:train", REFERENCES, end_of_text=True)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.numpy.save_file", fail)
    scorer = build_scorer(REFERENCES, end_of_text=True)
    with pytest.raises(OSError, match="disk full"):
        save_scorer(tmp_path / "s", scorer, scorer_key("mine:train", REFERENCES, end_of_text=True))
    assert list(tmp_path.iterdir()) == []


def test_scoring_needs_no_torch() -> None:
    code = "import sys; import evlvideo.metrics.stored_scorer; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
