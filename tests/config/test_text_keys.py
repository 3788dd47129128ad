"""Keys that want text take it as typed, whatever YAML makes of it; in those that name places, `~` is the home."""

from pathlib import Path
from typing import Any

import pytest

from evlvideo.config.loading import config_of, load_config, save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.towers import resolve_source

AS_TYPED = (
    *("2024_11_26", "1e-3", "007", "runs #2", "no", "true", "0x10", "1:30", "1_000.5", ".inf", "2024-11-26", "a: b"),
    *("[x]", "{a}", "*x", "&x", "!x", "%x", "@x", "a=b", "- a", " a ", "a'b", 'say "x"', "?", "|", "ä ö"),
)


@pytest.mark.parametrize("text", AS_TYPED)
def test_an_override_is_taken_as_typed(text: str) -> None:
    assert config_of([f"output_dir={text}"]).output_dir == text
    assert config_of([f"data.root={text}"]).data.root == text


@pytest.mark.parametrize("text", ["2024_11_26", "1e-3", "007", "no", "true", "0x10", "1:30", ".inf", "2024-11-26"])
def test_a_value_in_a_file_is_taken_as_typed(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(
        f"output_dir: {text}  # a comment\ndata:\n  root: {text}\n  sources:\n  - dataset: jsonl\n    root: {text}\n"
    )
    config = load_config(tmp_path / "run.yaml")
    assert (config.output_dir, config.data.root, config.data.sources[0].root) == (text, text, text)
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


def test_sections_in_an_override_keep_their_texts() -> None:
    config = config_of(["data.sources=[{dataset: jsonl, root: 007, ratio: 2}, {dataset: jsonl, root: 1_0}]"])
    assert [(source.root, source.ratio) for source in config.data.sources] == [("007", 2.0), ("1_0", 1.0)]


def test_quotes_may_hold_what_cannot_be_typed() -> None:
    assert config_of(['text.end_of_text="\\n"']).text.end_of_text == "\n"
    assert config_of(["output_dir='a b'"]).output_dir == "a b"
    assert config_of(['text.bos=""']).text.bos == ""


@pytest.mark.parametrize("nothing", ["null", ""])
def test_null_is_no_text(nothing: str) -> None:
    assert config_of([f"data.quarantine={nothing}"]).data.quarantine is None
    with pytest.raises(UserError, match="output_dir is null; it must be text"):
        config_of([f"output_dir={nothing}"])


def test_a_text_may_refer_to_other_keys(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("seed: 7\n")
    assert load_config(tmp_path / "run.yaml", ["output_dir=runs/${seed}_0"]).output_dir == "runs/7_0"


@pytest.mark.parametrize("key, value", [("seed", "1_0"), ("training.learning_rate", "1e-3"), ("data.augment", "no")])
def test_other_keys_are_read_as_before(key: str, value: str) -> None:
    expected: dict[str, Any] = {"seed": 10, "training.learning_rate": 0.001, "data.augment": False}
    found: Any = config_of([f"{key}={value}"])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == expected[key] and type(found) is type(expected[key])


PLACES = (
    *("init", "architecture", "output_dir", "data.root", "data.video_root", "data.quarantine"),
    "scst.reward_file",
)


@pytest.mark.parametrize("key", PLACES)
def test_the_tilde_is_the_home(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    for typed, meant in (("~/x", "/home/user/x"), ("~", "/home/user"), ("a/~", "a/~"), ("~nobody-here/x",) * 2):
        found: Any = config_of([f"{key}={typed}"])
        for part in key.split("."):
            found = getattr(found, part)
        assert found == meant


def test_the_tilde_is_the_home_for_sources_features_and_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    config = config_of(["data.sources=[{dataset: jsonl, root: ~/d, video_root: ~/v}]"])
    assert (config.data.sources[0].root, config.data.sources[0].video_root) == ("/home/user/d", "/home/user/v")
    assert RunConfig(output_dir="~/x").output_dir == "/home/user/x"
    assert config_of(["text.prompt=~ roughly"]).text.prompt == "~ roughly"


def test_the_tilde_is_the_home_in_the_source_of_a_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    assert resolve_source("~/vit.safetensors") == "/home/user/vit.safetensors"
    assert resolve_source("local-dir:~/vit") == "local-dir:/home/user/vit"


def test_the_tilde_is_the_home_in_the_name_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").touch()
    assert checkpoint_directory("~/model") == tmp_path / "model"


def test_a_list_in_a_file_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("data:\n  root: [1]\n")
    with pytest.raises(UserError, match=r"data\.root is \[1\]; it must be text or null"):
        load_config(tmp_path / "run.yaml")
