"""Estimates of captioners with other connectors are those of the real models."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_architecture import BERT_SIZES, CONNECTORS, costs_of, real_batch, real_model, tiny_config, workload
from torch.nn.attention import SDPBackend, sdpa_kernel

from evlvideo.errors import UserError
from evlvideo.estimate import activations
from evlvideo.estimate.activations import saved_bytes
from evlvideo.estimate.costs import estimate
from evlvideo.estimate.counting import count_multiply_adds

every_connector = pytest.mark.parametrize("name", CONNECTORS)


@every_connector
def test_parameters_and_soft_tokens_are_those_of_the_model(name: str, tmp_path: Path) -> None:
    model, costs = real_model(tiny_config(**CONNECTORS[name])), costs_of(name)
    weights = list(model.parameters())
    assert costs.parameters.total == sum(weight.numel() for weight in weights)
    assert costs.trained.total == sum(weight.numel() for weight in weights if weight.requires_grad)
    assert costs.soft_tokens == model.encode(torch.zeros(1, 2, 3, 32, 32)).shape[1]
    model.tower_fingerprints = {"vision_tower": "", "language_model": ""}
    model.save_pretrained(tmp_path)
    assert costs.saved.total == sum(value.numel() for value in load_file(tmp_path / "model.safetensors").values())


@every_connector
def test_training_and_captioning_equal_a_count_of_the_real_model(name: str) -> None:
    asked = workload()
    model, batch = real_model(tiny_config(**CONNECTORS[name])), real_batch(asked)
    training, _ = count_multiply_adds(
        lambda: model.train()(**batch, logits_to_keep=asked.text_tokens + 1).loss.backward()
    )
    lengths = {"max_new_tokens": asked.new_tokens, "min_new_tokens": asked.new_tokens}
    model.eval().requires_grad_(False)  # torch's counter stumbles over views of weights made without gradient
    captioning, _ = count_multiply_adds(
        lambda: model.generate(batch["pixel_values"][:1], num_beams=asked.num_beams, **lengths)
    )
    costs = costs_of(name)
    assert (costs.training_batch.total, costs.captioning_clip.total) == (training, captioning)


def test_relations_are_a_part_of_their_own() -> None:
    relations, without = costs_of("videochat"), costs_of("blip2")
    assert relations.parameters.vision_tower == without.parameters.vision_tower
    assert relations.captioning_clip.vision_tower == without.captioning_clip.vision_tower
    # Nothing in the tower itself is trained, so that it has no backward pass.
    assert relations.training_clip.vision_tower == relations.captioning_clip.vision_tower
    model = real_model(tiny_config(**CONNECTORS["videochat"]))
    expected = sum(weight.numel() for weight in model.vision_tower.video_relations.parameters())
    assert relations.trained.contextualizer == expected
    assert relations.training_clip.contextualizer > relations.captioning_clip.contextualizer > 0


def test_what_of_a_connector_is_frozen_is_kept_in_float32() -> None:
    costs = {"fp32": costs_of("video_llama"), "bf16": costs_of("video_llama", precision="bf16")}
    towers = costs["fp32"].parameters.vision_tower + costs["fp32"].parameters.language_model
    assert costs["fp32"].memory.weights - costs["bf16"].memory.weights == 2 * towers


@pytest.mark.parametrize("name", ["blip2", "videochat", "video_coca"])
def test_what_is_kept_equals_what_a_real_pass_keeps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_FusedAttention", lambda: sdpa_kernel(SDPBackend.MATH))
    asked = workload()
    # Dropout keeps a mask of bytes on a GPU, and one of float32 on the CPU.
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    changes = dict(CONNECTORS[name])
    if changes["connector"] == "videochat":
        changes["connector_options"] = changes["connector_options"] | {"relation_dropout": 0.0}
    config = tiny_config(**changes, bert_config=BERT_SIZES | no_dropout)
    model, batch = real_model(config).train(), real_batch(asked)
    real = saved_bytes(model, lambda: model(**batch, logits_to_keep=asked.text_tokens + 1), None)
    assert estimate(config, asked).memory.activations == real


def test_more_tokens_than_the_language_model_has_places_are_refused() -> None:
    with pytest.raises(UserError, match="the language model has 96 positions"):
        estimate(tiny_config(**CONNECTORS["linear"] | {"fusion": "concat"}), workload(num_frames=6))
