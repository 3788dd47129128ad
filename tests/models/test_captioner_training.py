"""What of a captioner is trained, what a step changes, and that frozen parts stay as they are."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import (
    BERT_SIZES,
    MakeConfig,
    MakeModel,
    every_device,
    fill,
    half_towers,
    open_gates,
    pixels,
    text_batch,
)
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from evlvideo.models.captioner import EvlVideoForCaptioning


def named(form: dict[str, Any]) -> str:
    return "-".join(str(value) for value in form.values())


def changed_weights(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    return {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


BASE = re.compile(r"(ln_vision|language_projection)\.(weight|bias)|connector\.(projection|bert)\..+")
CONTEXTUAL = {
    "none": re.compile(r"(?!)"),
    "in_tower": re.compile(r"vision_tower\.vit\.blocks\.[01]\.temporal_merge\..+"),
    "merged": re.compile(r"connector\.contextualizer\..+"),
}
GATES = {"none": 0, "in_tower": 2, "merged": 1}
# alpha; weight and bias of query and key; positions
WEIGHTS_OF_ONE = {"none": 0, "in_tower": 5 + 1, "merged": 5 + 1}
TRAINED_FORMS = [
    {"contextualizer": "none", "fusion": "concat"},
    {"contextualizer": "in_tower", "fusion": "mean", "frame_positions": True},
    {"contextualizer": "merged", "fusion": "concat", "frame_positions": True},
]
every_trained_form = pytest.mark.parametrize("form", TRAINED_FORMS, ids=named)


@every_trained_form
def test_exactly_the_connector_and_contextualizers_are_trained(make_model: MakeModel, form: dict[str, Any]) -> None:
    kind = form["contextualizer"]
    parameters = dict(make_model(**form).named_parameters())
    trained = {name for name, weight in parameters.items() if weight.requires_grad}
    contextual = {name for name in parameters if CONTEXTUAL[kind].fullmatch(name)}
    assert trained == {name for name in parameters if BASE.fullmatch(name)} | contextual
    assert len(contextual) == GATES[kind] * WEIGHTS_OF_ONE[kind]
    bert = BertModel(BertConfig(**BERT_SIZES), add_pooling_layer=False).state_dict()
    words = {"embeddings.word_embeddings.weight"}
    assert {
        name.removeprefix("connector.bert.") for name in trained if "connector.bert." in name
    } == bert.keys() - words


def take_a_step(model: EvlVideoForCaptioning) -> set[str]:
    """Train on one batch; the names of what changed."""
    before = copies(model)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0)
    torch.manual_seed(0)
    model(pixels(2, 3), **text_batch()).loss.backward()
    optimizer.step()
    return changed_weights(before, model)


@every_trained_form
def test_first_step_changes_all_that_is_trained_but_what_is_behind_closed_gates(
    make_model: MakeModel, form: dict[str, Any]
) -> None:
    model = make_model(**form)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    closed = {
        name
        for name in trained
        if CONTEXTUAL[form["contextualizer"]].fullmatch(name)
        and not name.endswith((".alpha", ".frame_positions.weight"))
    }
    assert take_a_step(model) == trained - closed


@every_trained_form
def test_step_with_open_gates_changes_all_that_is_trained(make_model: MakeModel, form: dict[str, Any]) -> None:
    model = make_model(**form)
    open_gates(model, alpha=0.3)
    assert take_a_step(model) == {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_frozen_towers_are_in_eval_mode_while_training(make_model: MakeModel) -> None:
    model = make_model(contextualizer="merged", fusion="concat").train()
    towers = (model.vision_tower, model.language_model)
    assert not [module for tower in towers for module in tower.modules() if module.training]
    assert all(module.training for module in (model, *model.connector.modules(), model.connector.contextualizer))


def test_dropout_of_the_connector_works_in_training_only(make_model: MakeModel) -> None:
    model = make_model()
    assert torch.equal(model.encode(pixels(1, 1)), model.encode(pixels(1, 1)))
    model.train()
    assert not torch.equal(model.encode(pixels(1, 1)), model.encode(pixels(1, 1)))
    model.eval()
    assert torch.equal(model.encode(pixels(1, 1)), model.encode(pixels(1, 1)))


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
@every_trained_form
def test_gradient_checkpointing_gives_the_same_gradients(make_model: MakeModel, form: dict[str, Any]) -> None:
    gradients, runs = [], []
    for checkpointing in (False, True):
        model = open_gates(make_model(**form)).train()
        if checkpointing:
            model.gradient_checkpointing_enable()  # type: ignore[operator]
        passes: list[int] = []
        layer = model.connector.bert.encoder["layer"][0].intermediate  # type: ignore[union-attr,index]
        layer.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        torch.manual_seed(0)
        model(pixels(2, 3), **text_batch()).loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad})
        runs.append(len(passes))
    assert runs == [1, 2]  # the layer was indeed run again
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_bert_checkpoint_initialises_the_connector(make_config: MakeConfig, tmp_path: Path) -> None:
    bert = fill(BertModel(BertConfig(**BERT_SIZES)))
    bert.save_pretrained(tmp_path)  # type: ignore[operator]
    model = EvlVideoForCaptioning.from_towers(make_config(), bert=str(tmp_path))
    theirs = bert.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in model.connector.bert.state_dict().items())


def test_new_captioner_has_closed_gates_and_small_weights(make_config: MakeConfig) -> None:
    model = EvlVideoForCaptioning.from_towers(
        make_config(contextualizer="in_tower", frame_positions=True, bert_config={**BERT_SIZES, "hidden_size": 80})
    )
    for name, weight in model.named_parameters():
        if name.endswith("alpha") or "frame_positions" in name:
            assert not weight.any(), name
    assert float(model.connector.projection.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert not model.connector.projection.bias.any()
    assert torch.equal(model.ln_vision.weight, torch.ones(48))


@every_device
@every_trained_form
def test_towers_in_bfloat16_train_what_is_in_float32(make_model: MakeModel, form: dict[str, Any], device: str) -> None:
    model = open_gates(make_model(**form))
    expected = model(pixels(2, 3), **text_batch()).loss
    half_towers(model).to(device)
    text = {name: value.to(device) for name, value in text_batch().items()}
    loss = model(pixels(2, 3).to(device), **text).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.05)
    for name, weight in model.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, name
        assert weight.grad is None or weight.grad.isfinite().all(), name
