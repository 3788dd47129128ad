import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_architecture import BOS, SMALL_LLAMA, VARIANTS, costs_of, real_model, tiny_config, workload
from transformers import LlamaConfig, MixtralConfig, OPTConfig

from evlvideo.errors import UserError
from evlvideo.estimate.costs import estimate
from evlvideo.estimate.records import Workload
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig

OPT_2_7B = OPTConfig(
    hidden_size=2560,
    num_hidden_layers=32,
    num_attention_heads=32,
    ffn_dim=10240,
    vocab_size=50272,
    word_embed_proj_dim=2560,
    max_position_embeddings=2048,
    do_layer_norm_before=True,
)


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_are_those_of_the_model(variant: str) -> None:
    config = tiny_config(**VARIANTS[variant])
    model = real_model(config)
    assert costs_of(variant).parameters.total == sum(weight.numel() for weight in model.parameters())


def test_parameters_of_the_language_model_are_its_own() -> None:
    expected = sum(weight.numel() for weight in real_model(tiny_config()).language_model.parameters())
    assert costs_of("image").parameters.language_model == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_trained_are_those_that_take_gradients(variant: str) -> None:
    config = tiny_config(**VARIANTS[variant])
    expected = sum(weight.numel() for weight in real_model(config).parameters() if weight.requires_grad)
    assert costs_of(variant).trained.total == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_contextualizers_are_a_part_of_their_own(variant: str) -> None:
    costs, plain = costs_of(variant), costs_of("image")
    assert costs.parameters.vision_tower == plain.parameters.vision_tower
    assert costs.trained.total - costs.trained.contextualizer == plain.trained.total


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_is_what_a_checkpoint_holds(variant: str, tmp_path: Path) -> None:
    config = tiny_config(**VARIANTS[variant])
    model = real_model(config)
    model.tower_fingerprints = {"vision_tower": "", "language_model": ""}
    model.save_pretrained(tmp_path)
    written = sum(value.numel() for value in load_file(tmp_path / "model.safetensors").values())
    assert costs_of(variant).saved.total == written


def test_half_precision_halves_the_towers_and_not_what_is_trained() -> None:
    costs = {precision: costs_of("image", precision=precision) for precision in ("fp32", "bf16")}
    frozen = costs["fp32"].parameters.total - costs["fp32"].trained.total
    assert costs["fp32"].memory.weights - costs["bf16"].memory.weights == 2 * frozen
    assert costs["bf16"].memory.gradients == 4 * costs["bf16"].trained.total
    assert costs["bf16"].memory.optimizer == 8 * costs["bf16"].trained.total


def test_both_half_precisions_cost_the_same() -> None:
    costs = [costs_of("image", precision=precision) for precision in ("bf16", "fp16")]
    assert costs[0].memory == costs[1].memory


def test_half_precision_keeps_fewer_bytes_of_a_large_batch() -> None:
    kept = [
        costs_of("in_tower", batch_size=64, precision=precision).memory.activations for precision in ("fp32", "bf16")
    ]
    assert kept[1] < kept[0]


def test_batches_change_activations_and_no_cost_of_a_clip() -> None:
    one, four = costs_of("image", batch_size=1), costs_of("image", batch_size=4)
    assert four.training_clip == one.training_clip
    assert four.captioning_clip == one.captioning_clip
    assert four.memory.activations > 3 * one.memory.activations
    assert four.memory.weights == one.memory.weights


def test_keys_and_values_are_those_of_a_real_cache() -> None:
    model = real_model(tiny_config()).eval()
    bos = model.language_model.get_input_embeddings()(torch.full((3, 1), BOS))
    context = torch.cat([model.encode(torch.zeros(3, 2, 3, 32, 32)), bos], dim=1)
    found = model.language_model.generate(
        inputs_embeds=context,
        attention_mask=torch.ones(context.shape[:2], dtype=torch.long),
        num_beams=2,
        min_new_tokens=6,
        max_new_tokens=6,
        return_dict_in_generate=True,
    )
    layers = found.cache.layers
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    costs = {
        precision: costs_of("image", num_beams=2, new_tokens=6, clips_captioned=3, precision=precision)
        for precision in ("fp32", "bf16")
    }
    assert (costs["fp32"].captioning_cache, 2 * costs["bf16"].captioning_cache) == (real, real)


def test_soft_tokens_are_those_of_the_model() -> None:
    prompt = real_model(tiny_config(**VARIANTS["merged"])).encode(torch.zeros(1, 2, 3, 32, 32))
    assert costs_of("merged", num_frames=2).soft_tokens == prompt.shape[1]


def test_the_language_model_is_read_where_its_sizes_are_not_given(tmp_path: Path) -> None:
    given = tiny_config()
    assert isinstance(given.text_config, OPTConfig)
    given.text_config.save_pretrained(tmp_path)
    named = tiny_config(text_config=None, language_model=str(tmp_path))
    assert estimate(named, workload()) == costs_of("image")
    assert named.text_config is None


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, {"text_tokens": 90}),
        ({}, {"new_tokens": 90}),
        ({"fusion": "concat"}, {"num_frames": 9}),
    ],
)
def test_more_tokens_than_the_language_model_has_places_are_refused(
    changes: dict[str, Any], asked: dict[str, int]
) -> None:
    with pytest.raises(UserError, match="the language model has 96 positions"):
        estimate(tiny_config(**changes), workload(**asked))


def test_more_frames_than_positions_are_refused() -> None:
    with pytest.raises(UserError, match="larger max_frames"):
        estimate(tiny_config(**VARIANTS["in_tower"], max_frames=4), workload(num_frames=5))


def test_a_model_that_looks_at_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(model: EvlVideoForCaptioning, features: torch.Tensor) -> float:
        return features.sum().item()

    monkeypatch.setattr(EvlVideoForCaptioning, "features_to_prompt", look)
    with pytest.raises(UserError, match="depends on the values"):
        estimate(tiny_config(), workload())


def test_experts_whose_products_are_not_counted_are_refused() -> None:
    experts = MixtralConfig(
        **SMALL_LLAMA, num_key_value_heads=4, num_local_experts=2, num_experts_per_tok=1, pad_token_id=1
    )
    with pytest.raises(UserError, match="_grouped_mm"):
        estimate(tiny_config(text_config=experts), workload())


def test_an_estimate_can_be_asked_for_where_gradients_are_off() -> None:
    with torch.no_grad():
        assert estimate(tiny_config(), workload()) == costs_of("image")


def full_size(**changes: Any) -> EvlVideoConfig:
    return EvlVideoConfig(**{"vision_overrides": {"depth": 39}, "text_config": OPT_2_7B, **changes})


def full_workload(num_frames: int) -> Workload:
    return Workload(
        num_frames=num_frames,
        batch_size=4,
        captions_per_clip=1,
        text_tokens=32,
        num_beams=5,
        new_tokens=20,
        precision="bf16",
    )


@pytest.mark.slow
def test_evlgen_image_at_full_size() -> None:
    started, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    costs = estimate(full_size(), full_workload(1))
    assert time.process_time() - started < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**20  # KiB on Linux
    assert costs.soft_tokens == 29
    assert round(costs.parameters.vision_tower / 1e6, 1) == 985.9
    assert round(costs.parameters.language_model / 1e6, 1) == 2651.6
    assert round(costs.trained.total / 1e6, 1) == 88.5


@pytest.mark.slow
def test_evlgen_video_at_full_size() -> None:
    image, video = (
        estimate(full_size(), full_workload(1)),
        estimate(full_size(contextualizer="in_tower"), full_workload(4)),
    )
    # A video costs the connector and the language model exactly what an image costs.
    assert video.training_clip.connector == image.training_clip.connector
    assert video.training_clip.language_model == image.training_clip.language_model


@pytest.mark.slow
def test_vicuna_at_full_size() -> None:
    costs = estimate(full_size(text_config=LlamaConfig(), bos_token_id=1, end_token_id=2), full_workload(1))
    assert round(costs.parameters.language_model / 1e9, 2) == 6.74
