"""Architectures from YAML files, and checkpoints held against them."""

from pathlib import Path

import pytest
from transformers import OPTConfig

from evlvideo.assembly.architecture import compared_keys, run_architecture
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.models.architecture import architecture_changes, check_same_architecture, read_architecture
from evlvideo.models.configuration import EvlVideoConfig

YAML = """
vision_tower: vit_tiny_patch16_224
vision_overrides: {depth: 2}
text_config: {model_type: opt, hidden_size: 64}
bert_config: {hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2}
merge_r: 3
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "architecture.yaml").write_text(YAML)
    return tmp_path / "architecture.yaml"


def test_file_gives_what_it_says_and_defaults_for_the_rest(path: Path) -> None:
    found = read_architecture(path)
    assert (found.vision_tower, found.vision_overrides, found.merge_r) == ("vit_tiny_patch16_224", {"depth": 2}, 3)
    assert isinstance(found.text_config, OPTConfig) and found.text_config.hidden_size == 64
    assert (found.bert.hidden_size, found.fusion) == (32, "mean")


def test_run_changes_its_architecture(path: Path) -> None:
    run = RunConfig(architecture=str(path), init="checkpoints/none")
    run.model.contextualizer = "in_tower"
    assert run_architecture(run).contextualizer == "in_tower"
    assert run_architecture(run).vision_overrides == {"depth": 2}


def test_run_without_a_file_has_its_checkpoints_architecture() -> None:
    assert run_architecture(RunConfig(init="mini")).language_model.startswith("package:")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("vision_towr: x", r"unknown keys: vision_towr; allowed: .*vision_tower"),
        ("merge_r: many", "wrong kind"),
        ("contextualizer: everywhere", "contextualizer is 'everywhere'; allowed: none, in_tower, merged"),
        ("text_config: {model_type: no-such-model}", "no-such-model"),
        ("- a list", "must hold `key: value`"),
    ],
)
def test_wrong_file_is_a_user_error(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(UserError, match=named):
        read_architecture(tmp_path / "wrong.yaml")


def test_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The architecture .*nowhere\.yaml cannot be read"):
        read_architecture(tmp_path / "nowhere.yaml")


def test_overrides_are_keys_of_the_architecture() -> None:
    assert architecture_changes(["bert_config.num_attention_heads=4", "merge_r=2"]) == {
        "bert_config": {"num_attention_heads": 4},
        "merge_r": 2,
    }
    with pytest.raises(UserError, match="unknown keys: heads"):
        architecture_changes(["heads=4"])


def test_checkpoint_that_a_file_describes_is_accepted_whatever_a_run_changes(path: Path) -> None:
    found = read_architecture(path)
    found.contextualizer, found.merge_r, found.language_model = "in_tower", 1, "/elsewhere"
    check_same_architecture(path, found, Path("checkpoint"))


def test_another_connector_drops_what_speaks_of_the_old_one(path: Path) -> None:
    run = RunConfig(architecture=str(path), init="checkpoints/none")
    run.model.connector = "video_llama"
    found = run_architecture(run)
    assert (found.connector, found.merge_r, found.fusion) == ("video_llama", None, None)
    run.model.connector, run.model.fusion = "blip2", "concat"
    assert (run_architecture(run).bert.hidden_size, run_architecture(run).fusion) == (32, "concat")
    run.model.fusion, run.model.connector_options = None, {"all_frames": True}
    assert run_architecture(run).fusion is None


def test_an_option_that_joins_the_frames_leaves_no_fusion(tmp_path: Path) -> None:
    (tmp_path / "architecture.yaml").write_text("connector: blip2\nfusion: concat")
    run = RunConfig(architecture=str(tmp_path / "architecture.yaml"), init="checkpoints/none")
    run.model.connector_options = {"all_frames": True}
    found = run_architecture(run)
    assert (found.options.all_frames, found.fusion) == (True, None)


def test_another_connector_and_a_value_of_the_old_one_is_refused(path: Path) -> None:
    run = RunConfig(architecture=str(path), init="checkpoints/none")
    run.model.connector, run.model.merge_r = "blip2", 3
    with pytest.raises(UserError, match="merge_r is 3, but connector=blip2 merges no tokens"):
        run_architecture(run)


def test_run_changes_single_options_of_its_connector(tmp_path: Path) -> None:
    (tmp_path / "architecture.yaml").write_text("connector: videochat\nconnector_options: {relation_blocks: 2}")
    run = RunConfig(architecture=str(tmp_path / "architecture.yaml"), init="checkpoints/none")
    run.model.connector_options = {"train_qformer": True}
    options = run_architecture(run).options
    assert (options.relation_blocks, options.train_qformer, options.extra_queries) == (2, True, 64)


def test_checkpoint_with_another_connector_is_not_of_the_architecture(path: Path) -> None:
    found = read_architecture(path)
    other = EvlVideoConfig.from_dict(
        {**found.to_dict(), "connector": "blip2", "merge_r": None, "merge_reduction": None}
    )
    with pytest.raises(UserError, match="connector is 'blip2' in the checkpoint and 'tomeformer' in the file"):
        check_same_architecture(path, other, Path("checkpoint"))


def test_connector_that_a_run_changes_is_not_compared(path: Path) -> None:
    found = read_architecture(path)
    other = EvlVideoConfig.from_dict(
        {**found.to_dict(), "connector": "linear", "merge_r": None, "merge_reduction": None}
    )
    run = RunConfig(architecture=str(path), init="checkpoints/none")
    assert "connector" in compared_keys(run)
    run.model.connector = "linear"
    check_same_architecture(path, other, Path("checkpoint"), keys=compared_keys(run))


def test_connector_with_places_for_its_tokens_alone_is_the_same_model(tmp_path: Path) -> None:
    (tmp_path / "architecture.yaml").write_text(
        YAML.replace("hidden_size: 32", "hidden_size: 32, max_position_embeddings: 512")
    )
    found = read_architecture(tmp_path / "architecture.yaml")
    found.bert.max_position_embeddings = 257
    check_same_architecture(tmp_path / "architecture.yaml", found, Path("checkpoint"))


def test_dropout_is_a_matter_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "architecture.yaml"
    path.write_text("bert_config: {hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1}", encoding="utf-8")
    run = RunConfig(architecture=str(path), init="checkpoints/none")
    run.model.connector_dropout = 0.0
    found = run_architecture(run)
    assert (found.bert.hidden_dropout_prob, found.bert.attention_probs_dropout_prob) == (0.0, 0.0)
    check_same_architecture(path, found, Path("checkpoint"))


def test_checkpoint_of_another_architecture_is_an_error_that_lists_all(path: Path) -> None:
    other = EvlVideoConfig(vision_overrides={"depth": 3}, text_config=OPTConfig(hidden_size=128))
    with pytest.raises(UserError) as caught:
        check_same_architecture(path, other, Path("checkpoint"))
    message = str(caught.value)
    assert "vision_tower is 'eva_giant_patch14_clip_224' in the checkpoint and 'vit_tiny_patch16_224'" in message
    assert "vision_overrides.depth is 3" in message
    assert "text_config.hidden_size is 128" in message
    assert "bert_config.num_hidden_layers is 12" in message
