"""Gradient checkpointing reaches every layer that gradients flow through, and changes none of them."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import MakeConfig, open_gates, pixels, text_batch
from torch import Tensor
from toy_run import Toy, make_trainer
from transformers import set_seed

from evlvideo.models.captioner import EvlVideoForCaptioning

FORMS: dict[str, dict[str, Any]] = {
    "mean": {"fusion": "mean"},
    "in_tower": {"fusion": "concat", "contextualizer": "in_tower", "frame_positions": True},
    "in_tower_last": {"contextualizer": "in_tower", "contextualizer_blocks": [1]},
    "merged": {"fusion": "mean_tokens", "contextualizer": "merged", "merge_reduction": "size_weighted"},
    "lora": {"lora_r": 2, "lora_dropout": 0.3},
    "videochat": {
        "connector": "videochat",
        "merge_r": None,
        "contextualizer": "in_tower",
        "connector_options": {"relation_blocks": 2, "relation_heads": 4, "num_queries": 3, "extra_queries": 3},
    },
    "video_llama": {
        "connector": "video_llama",
        "merge_r": None,
        "connector_options": {"num_queries": 3, "video_queries": 3},
    },
}
EVA = {
    "vision_tower": "eva02_tiny_patch14_224",
    "vision_overrides": {"img_size": 28, "depth": 2, "embed_dim": 48, "num_heads": 4},
}


def captioner(make_config: MakeConfig, dtype: torch.dtype = torch.float32, **changes: Any) -> EvlVideoForCaptioning:
    """In training mode, with its dropout."""
    torch.manual_seed(0)
    model = EvlVideoForCaptioning.from_towers(make_config(**changes), tower_dtype=dtype)
    open_gates(model)
    return model.train()


def checkpointed(model: EvlVideoForCaptioning, **options: Any) -> EvlVideoForCaptioning:
    changed = copy.deepcopy(model)
    changed.activation_checkpointing_enable(**options)
    return changed


def gradients(model: EvlVideoForCaptioning, loss_of: Callable[[EvlVideoForCaptioning], Tensor]) -> dict[str, Tensor]:
    torch.manual_seed(1)
    loss_of(model).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def loss_of(model: EvlVideoForCaptioning) -> Tensor:
    loss = model(pixels(2, 3), **text_batch()).loss
    assert loss is not None
    return loss


def saved_numbers(model: EvlVideoForCaptioning, run: Callable[[EvlVideoForCaptioning], Tensor] = loss_of) -> int:
    """How many numbers a forward pass keeps for the backward one, weights left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = run(model)
    total = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)
    del loss
    return total


def layer_runs(model: EvlVideoForCaptioning) -> tuple[dict[str, int], dict[str, int]]:
    """How often layers of each part run in a forward pass, and how often in the backward pass after it."""
    parts = {"tower": "vision_tower.vit.blocks.", "connector": "connector.", "language_model": "language_model."}
    runs = dict.fromkeys(parts, 0)
    handles = [
        module.register_forward_hook(lambda *_, part=part: runs.update({part: runs[part] + 1}))
        for name, module in model.named_modules()
        for part, prefix in parts.items()
        if name.startswith(prefix) and ".mlp." not in name
        if name.endswith((".norm2", ".intermediate", ".intermediate_query", ".fc1"))
    ]
    loss = loss_of(model)
    forward = dict(runs)
    loss.backward()
    for handle in handles:
        handle.remove()
    return forward, {part: runs[part] - forward[part] for part in parts}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_the_same_bit_for_bit(make_config: MakeConfig, form: str, dtype: torch.dtype) -> None:
    model = captioner(make_config, dtype, **FORMS[form])
    plain, again = gradients(copy.deepcopy(model), loss_of), gradients(checkpointed(model), loss_of)
    assert plain.keys() == again.keys() == {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(torch.equal(again[name], value) for name, value in plain.items())


@pytest.mark.parametrize("form", FORMS)
def test_every_layer_with_gradients_runs_again(make_config: MakeConfig, form: str) -> None:
    forward, again = layer_runs(checkpointed(captioner(make_config, **FORMS[form])))
    in_tower = FORMS[form].get("contextualizer") == "in_tower"
    frozen = 2 if form == "video_llama" else 0  # the layers of its first Q-Former, that of BLIP-2
    assert again["connector"] == forward["connector"] - frozen
    assert again["language_model"] == forward["language_model"] == 2
    assert again["tower"] == (0 if not in_tower else 1 if "contextualizer_blocks" in FORMS[form] else 2)


@pytest.mark.parametrize("form", ["mean", "in_tower", "lora"])
def test_fewer_activations_are_kept(make_config: MakeConfig, form: str) -> None:
    model = captioner(make_config, **FORMS[form])
    assert saved_numbers(checkpointed(model)) < 0.6 * saved_numbers(model)


def test_clips_of_other_lengths_between_do_not_matter(make_config: MakeConfig) -> None:
    """What is computed again belongs to its own forward pass, whatever the tower has seen since."""
    model = captioner(make_config, **FORMS["in_tower"])
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0

    def both(model: EvlVideoForCaptioning) -> Tensor:
        losses = [model(pixels(2, frames), **text_batch()).loss for frames in (3, 2)]
        assert losses[0] is not None and losses[1] is not None
        return losses[0] + losses[1]

    plain, again = gradients(copy.deepcopy(model), both), gradients(checkpointed(model), both)
    assert all(torch.equal(again[name], value) for name, value in plain.items())


def test_several_texts_of_a_clip_give_the_same_gradients(make_config: MakeConfig) -> None:
    """The soft prompt is read once into a cache, which nothing may be written to twice."""
    model, text = captioner(make_config, **FORMS["in_tower"]), text_batch(4)

    def several(model: EvlVideoForCaptioning) -> Tensor:
        loss = model(pixels(2, 3), **text, logits_to_keep=text["labels"].shape[1] + 1).loss
        assert loss is not None
        return loss

    plain, again = gradients(copy.deepcopy(model), several), gradients(checkpointed(model), several)
    assert all(torch.equal(again[name], value) for name, value in plain.items())


def test_captions_are_the_same(make_config: MakeConfig) -> None:
    model = captioner(make_config, **FORMS["in_tower"]).eval()
    tokens = [each.generate(pixels(2, 3), max_new_tokens=4, num_beams=2) for each in (model, checkpointed(model))]
    assert torch.equal(*tokens)


def test_towers_with_rotary_positions_are_reached(make_config: MakeConfig, tmp_path: Any) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    vit = timm.create_model(EVA["vision_tower"], num_classes=0, **EVA["vision_overrides"])
    save_file(vit.state_dict(), tmp_path / "eva.safetensors")
    model = captioner(make_config, **EVA, vision_weights=str(tmp_path / "eva.safetensors"), contextualizer="in_tower")

    def loss(model: EvlVideoForCaptioning) -> Tensor:
        loss = model(pixels(2, 3, size=28), **text_batch()).loss
        assert loss is not None
        return loss

    plain, again = gradients(copy.deepcopy(model), loss), gradients(checkpointed(model), loss)
    assert all(torch.equal(again[name], value) for name, value in plain.items())
    assert saved_numbers(checkpointed(model), loss) < 0.6 * saved_numbers(model, loss)


def test_it_can_be_turned_off_and_made_sparser(make_config: MakeConfig) -> None:
    model = captioner(make_config, **FORMS["in_tower"])
    names = list(model.state_dict())
    model.activation_checkpointing_enable()
    assert sum(layer_runs(model)[1].values()) == 6  # two layers in each part
    model.activation_checkpointing_enable(every_n_layers=2)
    assert layer_runs(model)[1] == {"tower": 1, "connector": 1, "language_model": 1}
    assert list(model.state_dict()) == names
    model.activation_checkpointing_disable()
    assert sum(layer_runs(model)[1].values()) == 0


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_a_run_that_asks_for_it_trains_the_same_weights(toy: Toy, tmp_path: Path, stage: str) -> None:
    weights = []
    for asked in (False, True):
        training = {"max_steps": 2, "eval_steps": 2, "arguments": {"gradient_checkpointing": asked}}
        form = {"contextualizer": "in_tower", "frame_positions": True}
        config = toy.config(tmp_path / str(asked), model=form, training=training, run={"stage": stage})
        set_seed(config.seed)
        trainer = make_trainer(config)
        trainer.train()
        model = trainer.captioner
        assert any(layer_runs(model)[1].values()) == asked
        weights.append({name: weight for name, weight in model.named_parameters() if weight.requires_grad})
    assert all(torch.equal(weights[1][name], weight) for name, weight in weights[0].items())
