"""LoRA on the language model: nothing at the start, trained and saved with the rest, and the tower beside it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import MakeConfig, MakeModel, open_gates, pixels, text_batch
from torch import nn

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.published.evlgen import to_published
from evlvideo.models.towers import fingerprint
from evlvideo.models.trainable import is_lora

LORA = {"lora_r": 2, "lora_alpha": 4}


def logits(model: EvlVideoForCaptioning) -> torch.Tensor:
    found: torch.Tensor = model(pixels(2, 3), **text_batch()).logits
    return found


@torch.no_grad()
def trained(model: EvlVideoForCaptioning) -> EvlVideoForCaptioning:
    """With a LoRA that is something."""
    for name, weight in model.named_parameters():
        if is_lora(name):
            weight.normal_(std=0.5)
    return model


def test_lora_starts_as_nothing(make_model: MakeModel) -> None:
    assert torch.equal(logits(make_model(**LORA)), logits(make_model()))


def test_lora_is_trained_beside_what_is_trained_without(make_model: MakeModel) -> None:
    with_lora, without = (
        {name for name, weight in make_model(**changes).named_parameters() if weight.requires_grad}
        for changes in (LORA, {})
    )
    added = with_lora - without
    assert without < with_lora and all(is_lora(name) for name in added)
    layers = len(make_model().language_model.model.decoder.layers)
    assert len(added) == layers * 2 * 2  # A and B of queries and values


def test_a_step_changes_lora_and_no_weight_of_the_tower(make_model: MakeModel) -> None:
    model = trained(make_model(**LORA)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    model(pixels(2, 3), **text_batch()).loss.backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in changed if name.startswith("language_model.")} == {
        name for name in before if is_lora(name)
    }


@pytest.mark.parametrize("full", [False, True])
def test_a_checkpoint_gives_its_lora_back(make_model: MakeModel, tmp_path: Path, full: bool) -> None:
    model = trained(make_model(**LORA))
    model.save_pretrained(tmp_path, full=full)
    assert torch.equal(logits(EvlVideoForCaptioning.from_pretrained(tmp_path)), logits(model))


def test_a_checkpoint_holds_lora_and_not_the_tower(make_model: MakeModel, tmp_path: Path) -> None:
    make_model(**LORA).save_pretrained(tmp_path)
    names = {name for name in load_file(tmp_path / "model.safetensors") if name.startswith("language_model.")}
    assert names and all(is_lora(name) for name in names)


@pytest.mark.parametrize("full", [False, True])
def test_a_checkpoint_without_lora_can_get_one(
    make_model: MakeModel, make_config: MakeConfig, tmp_path: Path, full: bool
) -> None:
    model = make_model()
    model.save_pretrained(tmp_path, full=full)
    config = type(model.config).from_dict({**model.config.to_dict(), **LORA})
    opened = EvlVideoForCaptioning.from_pretrained(tmp_path, config=config)
    assert any(is_lora(name) for name, _ in opened.named_parameters())
    assert torch.equal(logits(opened), logits(model))


def test_a_checkpoint_with_lora_is_not_opened_without(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(**LORA)
    model.save_pretrained(tmp_path)
    config = type(model.config).from_dict({**model.config.to_dict(), "lora_r": 0})
    with pytest.raises(UserError, match="have no place in the model"):
        EvlVideoForCaptioning.from_pretrained(tmp_path, config=config)


def test_a_tower_with_lora_beside_it_is_the_same_tower(make_model: MakeModel) -> None:
    assert fingerprint(trained(make_model(**LORA)).language_model) == fingerprint(make_model().language_model)


def test_lora_stays_in_float32_beside_a_half_precision_tower(make_model: MakeModel, tmp_path: Path) -> None:
    make_model(**LORA).save_pretrained(tmp_path)
    model = trained(EvlVideoForCaptioning.from_pretrained(tmp_path, tower_dtype=torch.bfloat16))
    types = {is_lora(name): weight.dtype for name, weight in model.language_model.named_parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16}
    model(pixels(2, 3), **text_batch()).loss.backward()
    assert all(weight.grad is not None for name, weight in model.named_parameters() if is_lora(name))


def test_loras_dropout_is_of_training_alone(make_model: MakeModel) -> None:
    model = trained(make_model(**LORA, lora_dropout=0.5))
    model.eval()
    assert torch.equal(logits(model), logits(model))
    model.train()
    for module in model.connector.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert not torch.equal(logits(model), logits(model))


def test_layers_can_be_named(make_model: MakeModel) -> None:
    model = make_model(**LORA, lora_targets=["fc1"])
    assert {name.split(".lora_")[0].rpartition(".")[2] for name, _ in model.named_parameters() if is_lora(name)} == {
        "fc1"
    }


def test_layers_that_are_not_there_are_answered_with_those_that_are(make_model: MakeModel) -> None:
    with pytest.raises(UserError, match=r"lora_targets=\['queries'\].*fc1, fc2.*q_proj"):
        make_model(**LORA, lora_targets=["queries"])


@pytest.mark.parametrize(
    "changes, message",
    [({"lora_r": -1}, "lora_r is -1"), ({"lora_alpha": 0}, "lora_alpha is 0"), ({"lora_dropout": 1.0}, "lora_dropout")],
)
def test_values_that_cannot_be_are_refused(make_config: MakeConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_config(**changes)


def test_generation_uses_lora(make_model: MakeModel) -> None:
    plain, changed = make_model(), trained(make_model(**LORA))
    captions = [model.generate(pixels(2, 3), max_new_tokens=8) for model in (plain, changed)]
    assert not torch.equal(*captions)


def test_a_model_with_lora_has_no_published_form(make_model: MakeModel) -> None:
    with pytest.raises(UserError, match="lora_r is 2; it has 0"):
        to_published(open_gates(make_model(**LORA)))  # type: ignore[arg-type]
