"""Checkpoints: what is written, and that nothing else than what was written is accepted."""

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from tiny_models import (
    MakeConfig,
    MakeModel,
    Towers,
    fill,
    open_gates,
    pixels,
    text_batch,
    write_towers,
)
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, MixtralConfig

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.configuration import EvlVideoConfig

IN_TOWER = {"contextualizer": "in_tower", "frame_positions": True}
MERGED = {"contextualizer": "merged", "fusion": "concat"}


@pytest.fixture
def saved(make_model: MakeModel, tmp_path: Path) -> tuple[EvlVideoForCaptioning, Path]:
    """A captioner with an open contextualizer, and the checkpoint it was saved to."""
    model = make_model(**IN_TOWER)
    open_gates(model)
    model.save_pretrained(tmp_path / "run")
    return model, tmp_path / "run"


def outputs(model: EvlVideoForCaptioning) -> Tensor:
    with torch.no_grad():
        return model(pixels(2, 3), **text_batch()).logits


def edit_weights(directory: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    weights = load_file(directory / "model.safetensors")
    edit(weights)
    save_file(weights, directory / "model.safetensors")


# Writing


@pytest.mark.parametrize("form", [{}, IN_TOWER, MERGED], ids=["image", "in_tower", "merged"])
def test_checkpoint_holds_what_was_trained_and_nothing_else(
    make_model: MakeModel, tmp_path: Path, form: dict[str, object]
) -> None:
    model = make_model(**form)
    model.save_pretrained(tmp_path)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert load_file(tmp_path / "model.safetensors").keys() == trained


def test_files_of_a_checkpoint(saved: tuple[EvlVideoForCaptioning, Path]) -> None:
    assert {path.name for path in saved[1].iterdir()} == {"config.json", "model.safetensors", "towers.json"}


def test_manifest_names_the_frozen_towers(saved: tuple[EvlVideoForCaptioning, Path], towers: Towers) -> None:
    manifest = json.loads((saved[1] / "towers.json").read_text())["frozen_towers"]
    assert {name: record["source"] for name, record in manifest.items()} == {
        "vision_tower": str(towers.vision),
        "language_model": str(towers.language),
    }
    assert all(len(record["fingerprint"]) == 64 for record in manifest.values())


# Reading


def test_loaded_model_equals_the_saved_one_bit_for_bit(saved: tuple[EvlVideoForCaptioning, Path]) -> None:
    model, directory = saved
    loaded = EvlVideoForCaptioning.from_pretrained(directory)
    state, expected = loaded.state_dict(), model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert torch.equal(outputs(loaded), outputs(model))


def test_loaded_model_is_in_eval_mode_and_trains_what_is_trained(saved: tuple[EvlVideoForCaptioning, Path]) -> None:
    model, directory = saved
    loaded = EvlVideoForCaptioning.from_pretrained(directory)
    assert not [name for name, module in loaded.named_modules() if module.training]
    assert {n for n, p in loaded.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }


def test_auto_classes_open_a_checkpoint(saved: tuple[EvlVideoForCaptioning, Path]) -> None:
    model, directory = saved
    assert isinstance(AutoConfig.from_pretrained(directory), EvlVideoConfig)
    loaded = AutoModel.from_pretrained(directory)
    assert isinstance(loaded, EvlVideoForCaptioning)
    assert torch.equal(outputs(loaded), outputs(model))


def test_argument_that_has_no_effect_is_an_error(saved: tuple[EvlVideoForCaptioning, Path]) -> None:
    with pytest.raises(TypeError, match="takes no dtype; the towers' type is tower_dtype"):
        AutoModel.from_pretrained(saved[1], dtype=torch.bfloat16)


def test_a_checkpoint_of_a_checkpoint_is_the_same(saved: tuple[EvlVideoForCaptioning, Path], tmp_path: Path) -> None:
    EvlVideoForCaptioning.from_pretrained(saved[1]).save_pretrained(tmp_path / "again")
    for file in ("model.safetensors", "config.json", "towers.json"):
        assert (tmp_path / "again" / file).read_bytes() == (saved[1] / file).read_bytes(), file


def test_full_checkpoint_stands_alone(make_config: MakeConfig, tmp_path: Path) -> None:
    towers = write_towers(tmp_path)
    config = make_config(vision_weights=str(towers.vision), language_model=str(towers.language), **MERGED)
    model = EvlVideoForCaptioning.from_towers(config)
    model.save_pretrained(tmp_path / "full", full=True)
    expected = outputs(model)
    towers.vision.unlink()
    for file in towers.language.iterdir():
        file.unlink()
    loaded = EvlVideoForCaptioning.from_pretrained(tmp_path / "full")
    assert torch.equal(outputs(loaded), expected)
    assert json.loads((tmp_path / "full" / "towers.json").read_text()) == {"frozen_towers": {}}


def test_full_checkpoint_lacking_a_tower_weight_is_a_user_error(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path, full=True)
    edit_weights(tmp_path, lambda weights: weights.pop("vision_tower.vit.cls_token"))
    with pytest.raises(UserError, match=r"1 weights are missing: vision_tower\.vit\.cls_token"):
        EvlVideoForCaptioning.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_towers_load_in_half_precision(saved: tuple[EvlVideoForCaptioning, Path], dtype: torch.dtype) -> None:
    loaded = EvlVideoForCaptioning.from_pretrained(saved[1], tower_dtype=dtype)
    assert {p.dtype for p in loaded.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in loaded.parameters() if not p.requires_grad} == {dtype}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_checkpoint_trained_in_half_precision_opens_in_float32(
    saved: tuple[EvlVideoForCaptioning, Path], tmp_path: Path, dtype: torch.dtype
) -> None:
    EvlVideoForCaptioning.from_pretrained(saved[1], tower_dtype=dtype).save_pretrained(tmp_path / "half")
    loaded = EvlVideoForCaptioning.from_pretrained(tmp_path / "half")
    assert torch.equal(outputs(loaded), outputs(saved[0]))


# Changed configurations


def changed_config(directory: Path, **changes: object) -> EvlVideoConfig:
    return EvlVideoConfig.from_dict({**EvlVideoConfig.from_pretrained(directory).to_dict(), **changes})


@pytest.mark.parametrize("form", [IN_TOWER, MERGED], ids=["in_tower", "merged"])
def test_changed_configuration_adds_contextualizers_as_new_weights(
    make_model: MakeModel, tmp_path: Path, form: dict[str, object]
) -> None:
    image = make_model(fusion=form.get("fusion", "mean"))
    image.save_pretrained(tmp_path)
    grown = EvlVideoForCaptioning.from_pretrained(tmp_path, config=changed_config(tmp_path, **form))
    old = image.state_dict()
    new = grown.state_dict().keys() - old.keys()
    assert new
    assert all(".temporal_merge." in name or name.startswith("connector.contextualizer.") for name in new)
    assert all(torch.equal(value, old[name]) for name, value in grown.state_dict().items() if name in old)
    assert torch.equal(outputs(grown), outputs(image))


def test_changed_configuration_adds_positions_alone(make_model: MakeModel, tmp_path: Path) -> None:
    without = make_model(**MERGED)
    open_gates(without)
    without.save_pretrained(tmp_path)
    grown = EvlVideoForCaptioning.from_pretrained(tmp_path, config=changed_config(tmp_path, frame_positions=True))
    new = grown.state_dict().keys() - without.state_dict().keys()
    assert new == {"connector.contextualizer.frame_positions.weight"}
    assert torch.equal(outputs(grown), outputs(without))


def test_changed_configuration_does_not_excuse_weights_that_it_did_not_add(
    make_model: MakeModel, tmp_path: Path
) -> None:
    make_model().save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda weights: weights.pop("ln_vision.bias"))
    with pytest.raises(UserError, match=r"1 weights are missing: ln_vision\.bias"):
        EvlVideoForCaptioning.from_pretrained(tmp_path, config=changed_config(tmp_path, **IN_TOWER))


def test_changed_configuration_that_drops_trained_weights_is_a_user_error(
    saved: tuple[EvlVideoForCaptioning, Path],
) -> None:
    config = changed_config(saved[1], contextualizer="none", frame_positions=False)
    with pytest.raises(UserError, match=r"12 weights have no place in the model: .*temporal_merge\.alpha"):
        EvlVideoForCaptioning.from_pretrained(saved[1], config=config)


# Checkpoints that do not fit


def test_broken_configuration_is_a_user_error(saved: tuple[EvlVideoForCaptioning, Path]) -> None:
    (saved[1] / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not a JSON file"):
        checkpoint_directory(str(saved[1]))


def test_missing_weights_are_listed(saved: tuple[EvlVideoForCaptioning, Path]) -> None:
    names = ["connector.bert.embeddings.LayerNorm.bias", "language_projection.weight"]
    edit_weights(saved[1], lambda weights: [weights.pop(name) for name in names])
    with pytest.raises(UserError, match="2 weights are missing: " + ", ".join(names)):
        EvlVideoForCaptioning.from_pretrained(saved[1])


def test_weights_without_a_place_are_listed(saved: tuple[EvlVideoForCaptioning, Path]) -> None:
    edit_weights(saved[1], lambda weights: weights.update({"connector.pooler.weight": torch.ones(2)}))
    with pytest.raises(UserError, match=r"1 weights have no place in the model: connector\.pooler\.weight"):
        EvlVideoForCaptioning.from_pretrained(saved[1])


def test_missing_and_extra_weights_are_reported_together(saved: tuple[EvlVideoForCaptioning, Path]) -> None:
    edit_weights(saved[1], lambda weights: weights.update({"ln_vision.scale": weights.pop("ln_vision.weight")}))
    with pytest.raises(UserError, match=r"missing: ln_vision\.weight; .* no place in the model: ln_vision\.scale"):
        EvlVideoForCaptioning.from_pretrained(saved[1])


def test_many_missing_weights_are_counted_and_the_first_are_listed(saved: tuple[EvlVideoForCaptioning, Path]) -> None:
    edit_weights(
        saved[1],
        lambda weights: [weights.pop(name) for name in list(weights) if name.startswith("connector.bert.encoder.")],
    )
    with pytest.raises(UserError, match=r"32 weights are missing: connector\.bert\.encoder\.layer\.0\..*, …"):
        EvlVideoForCaptioning.from_pretrained(saved[1])


def test_weights_of_other_shapes_are_listed(saved: tuple[EvlVideoForCaptioning, Path]) -> None:
    edit_weights(saved[1], lambda weights: weights.update({"ln_vision.bias": torch.ones(3)}))
    with pytest.raises(UserError, match=r"ln_vision\.bias is \(3,\), the model's \(48,\)"):
        EvlVideoForCaptioning.from_pretrained(saved[1])


def test_tower_weights_in_a_checkpoint_that_names_the_tower_have_no_place(
    saved: tuple[EvlVideoForCaptioning, Path],
) -> None:
    edit_weights(saved[1], lambda weights: weights.update({"vision_tower.vit.cls_token": torch.ones(1, 1, 48)}))
    with pytest.raises(UserError, match=r"no place in the model: vision_tower\.vit\.cls_token"):
        EvlVideoForCaptioning.from_pretrained(saved[1])


@pytest.fixture
def moved(make_config: MakeConfig, tmp_path: Path) -> tuple[Towers, Path]:
    """Towers of this test's own, and a checkpoint that was trained with them."""
    own = write_towers(tmp_path)
    config = make_config(vision_weights=str(own.vision), language_model=str(own.language))
    EvlVideoForCaptioning.from_towers(config).save_pretrained(tmp_path / "run")
    return own, tmp_path / "run"


def test_another_vision_tower_is_refused(moved: tuple[Towers, Path]) -> None:
    towers, directory = moved
    weights = load_file(towers.vision)
    weights["blocks.1.mlp.fc1.bias"] += 0.5
    save_file(weights, towers.vision)
    with pytest.raises(UserError, match=r"vision tower read from .* is not the one this checkpoint was trained with"):
        EvlVideoForCaptioning.from_pretrained(directory)


def test_another_language_model_is_refused(moved: tuple[Towers, Path]) -> None:
    towers, directory = moved
    language = AutoModelForCausalLM.from_pretrained(towers.language)
    fill(language)
    language.save_pretrained(towers.language)
    with pytest.raises(UserError, match=r"language model read from .* is not the one this checkpoint was trained with"):
        EvlVideoForCaptioning.from_pretrained(directory)


def test_missing_tower_file_is_a_user_error(moved: tuple[Towers, Path]) -> None:
    towers, directory = moved
    towers.vision.unlink()
    with pytest.raises(UserError, match=f"no file of weights at {towers.vision}"):
        EvlVideoForCaptioning.from_pretrained(directory)


def test_missing_language_model_is_a_user_error(moved: tuple[Towers, Path]) -> None:
    towers, directory = moved
    towers.language.rename(towers.language.with_name("elsewhere"))
    with pytest.raises(UserError, match=f"language model '{towers.language}' could not be read"):
        EvlVideoForCaptioning.from_pretrained(directory)


@pytest.mark.parametrize("content", ["[1]", '{"frozen_towers": {"vision_tower": {"source": "x"}}}', "{", "{}"])
def test_broken_manifest_is_a_user_error(saved: tuple[EvlVideoForCaptioning, Path], content: str) -> None:
    (saved[1] / "towers.json").write_text(content)
    with pytest.raises(UserError, match=r"towers\.json is not a"):
        EvlVideoForCaptioning.from_pretrained(saved[1])


def test_missing_manifest_is_a_user_error(saved: tuple[EvlVideoForCaptioning, Path]) -> None:
    (saved[1] / "towers.json").unlink()
    with pytest.raises(UserError, match=r"towers\.json cannot be read"):
        EvlVideoForCaptioning.from_pretrained(saved[1])


# Finding checkpoints


def test_empty_directory_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no checkpoint \(config.json and model.safetensors missing\)"):
        EvlVideoForCaptioning.from_pretrained(tmp_path)


def test_directory_with_a_configuration_only_is_a_user_error(make_config: MakeConfig, tmp_path: Path) -> None:
    make_config().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"holds no checkpoint \(model.safetensors missing\)"):
        EvlVideoForCaptioning.from_pretrained(tmp_path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A hub without a network; the names it was asked for."""
    asked: list[str] = []

    def snapshot_download(name: str, **_options: object) -> str:
        asked.append(name)
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_name_that_the_hub_does_not_give_is_a_user_error(hub: list[str]) -> None:
    with pytest.raises(UserError, match=r"someone/some-model is neither a directory .* no network"):
        EvlVideoForCaptioning.from_pretrained("someone/some-model")
    assert hub == ["someone/some-model"]


@pytest.mark.parametrize("name", ["nothing", "runs/demo/here", "/nowhere/at-all"])
def test_name_that_can_only_be_a_path_is_not_asked_of_the_hub(hub: list[str], name: str) -> None:
    with pytest.raises(UserError, match="no checkpoint at"):
        checkpoint_directory(name)
    assert hub == []


def test_hub_name_is_downloaded_by_revision(
    saved: tuple[EvlVideoForCaptioning, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    def snapshot_download(
        name: str, revision: str | None = None, token: str | None = None, ignore_patterns: list[str] | None = None
    ) -> str:
        asked.append((name, revision))
        assert ignore_patterns is not None and "checkpoints/*" in ignore_patterns
        return str(saved[1])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    loaded = EvlVideoForCaptioning.from_pretrained("someone/some-model", revision="v1")
    assert asked == [("someone/some-model", "v1")]
    assert torch.equal(outputs(loaded), outputs(saved[0]))


def test_a_model_of_the_hub_that_is_no_captioner_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **kwargs: str(tmp_path))
    with pytest.raises(
        UserError, match=r"The hub's someone/some-model holds no checkpoint \(model\.safetensors missing"
    ):
        checkpoint_directory("someone/some-model")


# Weights in several files


def sharded(model: EvlVideoForCaptioning, directory: Path) -> Path:
    model.save_pretrained(directory, max_shard_size="20KB")
    assert not (directory / "model.safetensors").exists()
    assert len(list(directory.glob("model-*.safetensors"))) > 1
    return directory


def test_weights_in_several_files_are_those_of_one(saved: tuple[EvlVideoForCaptioning, Path], tmp_path: Path) -> None:
    loaded = EvlVideoForCaptioning.from_pretrained(sharded(saved[0], tmp_path / "sharded"))
    assert torch.equal(outputs(loaded), outputs(saved[0]))


def test_a_missing_file_of_several_is_named(saved: tuple[EvlVideoForCaptioning, Path], tmp_path: Path) -> None:
    directory = sharded(saved[0], tmp_path / "sharded")
    gone = sorted(directory.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(UserError, match=f"no file of weights at .*{gone.name}"):
        EvlVideoForCaptioning.from_pretrained(directory)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"weight_map": {"a": 3}}', '{"weight_map": {"a": "../../etc/x"}}']
)
def test_an_index_that_names_no_files_here_is_told(
    saved: tuple[EvlVideoForCaptioning, Path], tmp_path: Path, content: str
) -> None:
    directory = sharded(saved[0], tmp_path / "sharded")
    (directory / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match=r"index\.json is not|outside"):
        EvlVideoForCaptioning.from_pretrained(directory)


def test_a_full_checkpoint_keeps_names_that_its_library_renames_on_saving(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """transformers saves the experts of a Mixtral one by one, under other names."""
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1, "num_key_value_heads": 2, "vocab_size": 120}
    AutoModelForCausalLM.from_config(MixtralConfig(**sizes, **experts)).save_pretrained(tmp_path / "language")
    model = EvlVideoForCaptioning.from_towers(make_config(language_model=str(tmp_path / "language"))).eval()
    model.save_pretrained(tmp_path / "full", full=True)
    assert torch.equal(outputs(EvlVideoForCaptioning.from_pretrained(tmp_path / "full")), outputs(model))
