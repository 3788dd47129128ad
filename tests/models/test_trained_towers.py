"""Towers that are trained: which weights, in which type and mode, and what their checkpoints hold."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import MakeConfig, fill, pixels, text_batch
from torch import Tensor

from evlvideo.assembly.datasets import feature_key
from evlvideo.config.data import DataConfig
from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import load_trained_weights
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.trainable import Trained, is_decayed, is_trained, joined, tower_of, trained_part

LANGUAGE_MODEL = Trained(frozen=frozenset({"vision_tower"}))
TOWER = Trained(frozen=frozenset({"language_model"}))
LAST_BLOCK = Trained(frozen=frozenset({"language_model"}), vision_blocks=1)
EVERYTHING = Trained(frozen=frozenset())
FORMS = {"language_model": LANGUAGE_MODEL, "tower": TOWER, "last_block": LAST_BLOCK, "everything": EVERYTHING}
PREFIXES = {
    "language_model": ("language_model.",),
    "tower": ("vision_tower.vit.",),
    "last_block": ("vision_tower.vit.blocks.1.", "vision_tower.vit.norm."),
    "everything": ("language_model.", "vision_tower.vit."),
}
every_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def open_towers(make_config: MakeConfig) -> Any:
    """Open a new captioner of which something is trained."""

    def build(trained: Trained, dtype: torch.dtype | None = None, **changes: Any) -> EvlVideoForCaptioning:
        torch.manual_seed(0)
        model = EvlVideoForCaptioning.from_towers(make_config(**changes), trained=trained, tower_dtype=dtype)
        for part in (model.ln_vision, model.connector.projection, model.language_projection):
            fill(part)
        return model

    return build


def take_step(model: EvlVideoForCaptioning, rate: float = 1e-2) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    model.train()
    model(pixels(2, 2), **text_batch()).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    model.eval()


def captions(model: EvlVideoForCaptioning) -> Tensor:
    return model.generate(pixels(2, 2), max_new_tokens=8, num_beams=2)


def state(model: EvlVideoForCaptioning) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# What is trained


@every_form
def test_exactly_the_chosen_weights_take_gradients_and_a_step(open_towers: Any, form: str) -> None:
    model = open_towers(FORMS[form])
    wanted = {n for n, _ in model.named_parameters() if tower_of(n) is None or n.startswith(PREFIXES[form])}
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == wanted
    before = state(model)
    take_step(model)
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == wanted


@pytest.mark.parametrize("part", ["connector", "projections", "contextualizers", "lora"])
def test_a_frozen_part_stays_as_it_is(open_towers: Any, part: str) -> None:
    trained = Trained(frozen=frozenset({part, "vision_tower", "language_model"}))
    model = open_towers(trained, contextualizer="in_tower", lora_r=2)
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad and tower_of(name) is None}
    assert frozen and {trained_part(name) for name in frozen} == {part}
    before = state(model)
    take_step(model)
    assert all(torch.equal(model.get_parameter(name), before[name]) for name in frozen)


def test_with_connector_and_towers_frozen_the_projections_alone_learn(open_towers: Any) -> None:
    model = open_towers(Trained(frozen=frozenset({"connector", "vision_tower", "language_model"})))
    names = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.partition(".")[0] for name in names} == {"ln_vision", "connector", "language_projection"}
    assert {name for name in names if name.startswith("connector.")} == {
        "connector.projection.weight",
        "connector.projection.bias",
    }


def test_more_blocks_than_the_tower_has_are_refused(open_towers: Any) -> None:
    with pytest.raises(UserError, match=r"training\.vision_blocks is 3; the vision tower has 2 blocks"):
        open_towers(Trained(frozen=frozenset(), vision_blocks=3))


@pytest.mark.parametrize("name", ["attn_pool.latent", "fc_norm.weight", "head.weight"])
def test_weights_that_nothing_reads_are_not_trained(name: str) -> None:
    """Several processes would wait for their gradients."""
    assert not is_trained(f"vision_tower.vit.{name}", (), TOWER, ("vision_tower.vit.",))


def test_positions_and_class_token_of_a_trained_tower_are_not_decayed(open_towers: Any) -> None:
    model = open_towers(TOWER)
    own = {n.removeprefix("vision_tower.vit."): w for n, w in model.named_parameters() if n.startswith("vision_tower.")}
    decayed = {name for name, weight in own.items() if is_decayed(f"vision_tower.vit.{name}", weight.dim())}
    plain = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert decayed == {"patch_embed.proj.weight", *(f"blocks.{n}.{name}.weight" for n in (0, 1) for name in plain)}


def test_prefixes_that_others_cover_are_left_out() -> None:
    assert joined(["vision_tower.vit.norm.", "language_model.", "vision_tower.", "language_model."]) == (
        "language_model.",
        "vision_tower.",
    )


# Mode


def in_training(model: EvlVideoForCaptioning) -> set[str]:
    towers = ("vision_tower.vit", "language_model")
    return {name for name, module in model.named_modules() if module.training and name.startswith(towers)}


@every_form
def test_what_is_trained_is_in_training_mode_and_the_rest_of_the_towers_in_eval_mode(
    open_towers: Any, form: str
) -> None:
    model = open_towers(FORMS[form])
    assert in_training(model) == set()
    model.train()
    wanted = {name for name, _ in model.named_modules() if f"{name}.".startswith(PREFIXES[form])}
    assert in_training(model) == wanted
    model.eval()
    assert in_training(model) == set()


def test_a_trained_language_model_has_its_own_dropout_in_training_alone(open_towers: Any) -> None:
    model = open_towers(LANGUAGE_MODEL)
    for module in model.language_model.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.5
    prompt = model.encode(pixels(2, 2))
    first, second = (model.train()(soft_prompt=prompt, **text_batch()).loss for _ in range(2))
    assert first != second
    assert model.eval()(soft_prompt=prompt, **text_batch()).loss == model(soft_prompt=prompt, **text_batch()).loss


def test_without_dropout_trained_towers_stay_in_eval_mode(open_towers: Any) -> None:
    model = open_towers(Trained(frozen=frozenset(), dropout=False)).train()
    assert in_training(model) == set() and model.connector.training


# Precision


@every_form
def test_what_is_trained_is_in_float32_and_the_frozen_rest_in_half_precision(open_towers: Any, form: str) -> None:
    model = open_towers(FORMS[form], torch.bfloat16)
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    assert {weight.dtype for weight in model.parameters() if not weight.requires_grad} <= {torch.bfloat16}
    assert model.vision_tower.dtype == torch.bfloat16
    with torch.no_grad():
        assert model.vision_tower(pixels(1, 2)).dtype == torch.bfloat16
    output = model(pixels(2, 2), **text_batch())
    assert output.logits.dtype == torch.bfloat16
    output.loss.backward()
    grads = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(grad is not None and grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads.values())


@pytest.mark.parametrize(
    "name",
    [
        "language_model.model.decoder.layers.0.final_layer_norm.weight",
        "vision_tower.vit.blocks.1.norm1.weight",
    ],
)
def test_a_step_of_a_hundred_thousandth_of_a_weight_is_not_lost(open_towers: Any, name: str) -> None:
    """bfloat16 has eight bits: 1 + 1e-5 would be 1."""
    model = open_towers(EVERYTHING, torch.bfloat16)
    weight = model.get_parameter(name)
    with torch.no_grad():
        weight.fill_(1.0)
    take_step(model, rate=1e-5)
    moved = (weight - 1.0).abs()
    assert (moved > 0).all()
    torch.testing.assert_close(moved, torch.full_like(moved, 1e-5), rtol=0.05, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_computes_what_float32_does_within_its_own(open_towers: Any, dtype: torch.dtype) -> None:
    frozen, trained = open_towers(Trained(), dtype), open_towers(EVERYTHING, dtype)
    with torch.no_grad():
        first, second = frozen.encode(pixels(2, 2)).float(), trained.encode(pixels(2, 2)).float()
    tolerance = 1e-6 if dtype == torch.float32 else 0.05
    assert (first - second).norm() / first.norm() < tolerance


# Checkpoints


@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_holds_what_was_trained_and_opens_as_it_was(
    open_towers: Any, tmp_path: Path, form: str, dtype: torch.dtype
) -> None:
    model = open_towers(FORMS[form], dtype)
    take_step(model)
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == stored.keys()
    assert {value.dtype for value in stored.values()} == {torch.float32}
    again = EvlVideoForCaptioning.from_pretrained(tmp_path, tower_dtype=dtype)
    assert again.held_weights == PREFIXES[form]
    for name, weight in model.named_parameters():
        assert torch.equal(weight, again.get_parameter(name)), name
        assert weight.dtype == again.get_parameter(name).dtype, name
    assert torch.equal(captions(model), captions(again))


@every_form
def test_the_manifest_names_what_was_not_trained(open_towers: Any, tmp_path: Path, form: str) -> None:
    model = open_towers(FORMS[form])
    before = open_towers(Trained()).tower_fingerprints
    take_step(model)
    model.save_pretrained(tmp_path)
    manifest = json.loads((tmp_path / "towers.json").read_text())
    assert manifest["trained_weights"] == list(PREFIXES[form])
    whole = {prefix.removesuffix(".").removesuffix(".vit") for prefix in PREFIXES[form]}
    found = {name: record["fingerprint"] for name, record in manifest["frozen_towers"].items()}
    # Of a tower of which some is trained, the source is what it was before.
    assert found == {name: value for name, value in before.items() if name not in whole}


@every_form
def test_what_was_trained_once_is_kept_by_later_runs_that_freeze_it(
    open_towers: Any, tmp_path: Path, form: str
) -> None:
    model = open_towers(FORMS[form])
    take_step(model)
    model.save_pretrained(tmp_path / "first")
    later = EvlVideoForCaptioning.from_pretrained(tmp_path / "first", tower_dtype=torch.bfloat16)
    assert not any(weight.requires_grad for name, weight in later.named_parameters() if tower_of(name) is not None)
    later.save_pretrained(tmp_path / "second")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_more_may_be_trained_later(open_towers: Any, tmp_path: Path) -> None:
    model = open_towers(LAST_BLOCK)
    take_step(model)
    model.save_pretrained(tmp_path / "first")
    more = EvlVideoForCaptioning.from_pretrained(tmp_path / "first", trained=EVERYTHING)
    take_step(more)
    more.save_pretrained(tmp_path / "second")
    assert json.loads((tmp_path / "second" / "towers.json").read_text()) == {
        "frozen_towers": {},
        "trained_weights": ["language_model.", "vision_tower.vit."],
    }
    again = EvlVideoForCaptioning.from_pretrained(tmp_path / "second")
    assert torch.equal(captions(more), captions(again))


@every_form
def test_a_checkpoint_that_stands_alone_can_be_saved_without_what_is_frozen(
    open_towers: Any, tmp_path: Path, form: str
) -> None:
    model = open_towers(FORMS[form])
    take_step(model)
    model.save_pretrained(tmp_path / "full", full=True)
    whole = EvlVideoForCaptioning.from_pretrained(tmp_path / "full")
    whole.save_pretrained(tmp_path / "again")
    again = EvlVideoForCaptioning.from_pretrained(tmp_path / "again")
    assert torch.equal(captions(model), captions(again))


def test_large_weights_are_in_several_files(open_towers: Any, tmp_path: Path) -> None:
    model = open_towers(LANGUAGE_MODEL)
    take_step(model)
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    again = EvlVideoForCaptioning.from_pretrained(tmp_path)
    assert torch.equal(captions(model), captions(again))
    with torch.no_grad():
        for weight in again.parameters():
            weight.zero_() if weight.requires_grad else None
    load_trained_weights(again, tmp_path)
    assert torch.equal(captions(model), captions(again))


def test_a_model_that_only_encodes_opens_beside_a_trained_language_model(open_towers: Any, tmp_path: Path) -> None:
    model = open_towers(LANGUAGE_MODEL)
    take_step(model)
    model.save_pretrained(tmp_path)
    encoder = EvlVideoForCaptioning.from_pretrained(tmp_path, language_model=False)
    assert torch.equal(encoder.encode(pixels(1, 2)), model.encode(pixels(1, 2)))


@pytest.mark.parametrize("value", ['"language_model."', "[3]", '["connector."]'])
def test_a_manifest_with_something_else_is_a_user_error(open_towers: Any, tmp_path: Path, value: str) -> None:
    open_towers(LANGUAGE_MODEL).save_pretrained(tmp_path)
    towers = json.loads((tmp_path / "towers.json").read_text())["frozen_towers"]
    (tmp_path / "towers.json").write_text(f'{{"frozen_towers": {json.dumps(towers)}, "trained_weights": {value}}}')
    with pytest.raises(UserError, match=r"towers\.json has trained_weights=.*; it must be a list of beginnings"):
        EvlVideoForCaptioning.from_pretrained(tmp_path)


def test_lora_beside_a_trained_language_model_is_saved_with_it(open_towers: Any, tmp_path: Path) -> None:
    model = open_towers(LANGUAGE_MODEL, lora_r=2)
    take_step(model)
    model.save_pretrained(tmp_path)
    assert torch.equal(captions(model), captions(EvlVideoForCaptioning.from_pretrained(tmp_path)))


# Features


def test_features_are_no_input_of_a_model_that_trains_its_tower(open_towers: Any) -> None:
    model = open_towers(LAST_BLOCK)
    with torch.no_grad():
        features = model.vision_tower(pixels(1, 2))
    with pytest.raises(UserError, match="trains inside the vision tower"):
        model.encode(features=features)


def test_features_of_a_tower_that_was_trained_have_another_key(open_towers: Any, tmp_path: Path) -> None:
    model = open_towers(LAST_BLOCK)
    processor = EvlVideoProcessor.for_language_model(model.config)
    take_step(model)
    model.save_pretrained(tmp_path)
    later = EvlVideoForCaptioning.from_pretrained(tmp_path)
    data = DataConfig(features="features", augment=False, train_sampling="uniform")
    plain = open_towers(Trained())
    assert feature_key(data, later, processor).tower != feature_key(data, plain, processor).tower
    assert feature_key(data, later, processor).tower == feature_key(data, model, processor).tower
    with torch.no_grad():
        features = later.vision_tower(pixels(1, 2))
    assert torch.equal(later.encode(features=features), later.encode(pixels(1, 2)))
