import pytest
import torch
from tiny_architecture import NUM_TOKENS, SMALL_LLAMA, VARIANTS, costs_of, real_batch, real_model, tiny_config, workload
from torch import nn
from transformers import LlamaConfig, OPTConfig

from evlvideo.errors import UserError
from evlvideo.estimate.costs import estimate
from evlvideo.estimate.counting import count_multiply_adds
from evlvideo.models.tokens.contextualizers import InTowerContextualizer

LANGUAGE_MODELS = {
    "keys shared by heads": LlamaConfig(**SMALL_LLAMA, num_key_value_heads=2, pad_token_id=1),
    "norms after layers and narrow words, as OPT-350m": OPTConfig(
        hidden_size=32,
        word_embed_proj_dim=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        vocab_size=50,
        max_position_embeddings=96,
        do_layer_norm_before=False,
    ),
}


def test_a_matrix_product_is_counted_as_by_hand() -> None:
    layer = nn.Linear(5, 7)
    x = torch.randn(3, 5)
    assert count_multiply_adds(lambda: layer(x))[0] == 3 * 5 * 7


def test_a_backward_pass_through_frozen_weights_costs_one_product() -> None:
    layer = nn.Linear(5, 7).requires_grad_(False)
    x = torch.randn(3, 5, requires_grad=True)
    assert count_multiply_adds(lambda: layer(x).sum().backward())[0] == 2 * 3 * 5 * 7


def test_attention_is_not_free() -> None:
    query, key, value = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 9, 8), torch.randn(2, 4, 9, 16)
    count, _ = count_multiply_adds(lambda: nn.functional.scaled_dot_product_attention(query, key, value))
    assert count == 2 * 4 * 6 * 9 * (8 + 16)


@pytest.mark.parametrize(("groups", "input_gradient"), [(1, True), (6, True), (6, False)])
def test_gradients_of_a_convolution_cost_what_its_forward_pass_does(groups: int, input_gradient: bool) -> None:
    convolution = nn.Conv3d(6, 6, kernel_size=3, padding=1, groups=groups)
    x = torch.randn(2, 6, 3, 4, 5, requires_grad=input_gradient)
    forward, output = count_multiply_adds(lambda: convolution(x))
    backward, _ = count_multiply_adds(lambda: output.sum().backward())
    assert forward == 2 * (3 * 4 * 5) * 6 * (6 // groups) * 27
    assert backward == (1 + input_gradient) * forward


def test_what_the_counter_has_no_formula_for_is_refused() -> None:
    matrix, vector = torch.randn(3, 4), torch.randn(4)
    with pytest.raises(UserError, match=r"aten\.mv"):
        count_multiply_adds(lambda: torch.mv(matrix, vector))


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_equals_a_count_of_the_whole_model_with_values(variant: str) -> None:
    asked = workload()
    config = tiny_config(**VARIANTS[variant])
    model = real_model(config).train()
    batch = real_batch(asked)

    def step() -> None:
        model(**batch, logits_to_keep=asked.text_tokens + 1).loss.backward()

    assert costs_of(variant).training_batch.total == count_multiply_adds(step)[0]


@pytest.mark.parametrize(
    ("variant", "num_beams", "new_tokens"),
    [("image", 1, 1), ("image", 1, 6), ("image", 3, 2), ("image", 3, 7), ("in_tower", 3, 6), ("merged", 3, 6)],
)
def test_captioning_equals_a_count_of_the_real_loop(variant: str, num_beams: int, new_tokens: int) -> None:
    asked = workload(num_beams=num_beams, new_tokens=new_tokens)
    config = tiny_config(**VARIANTS[variant])
    model = real_model(config).eval()
    pixels = real_batch(asked)["pixel_values"][:1]
    lengths = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens}
    count, tokens = count_multiply_adds(lambda: model.generate(pixels, num_beams=num_beams, **lengths))
    assert tokens.shape[1] == new_tokens
    assert costs_of(variant, num_beams=num_beams, new_tokens=new_tokens).captioning_clip.total == count


@pytest.mark.parametrize("language_model", LANGUAGE_MODELS)
def test_other_language_models_are_counted_alike(language_model: str) -> None:
    asked = workload()
    config = tiny_config(text_config=LANGUAGE_MODELS[language_model])
    model = real_model(config)
    batch = real_batch(asked)
    lengths = {"max_new_tokens": asked.new_tokens, "min_new_tokens": asked.new_tokens}
    costs = estimate(config, asked)
    training, _ = count_multiply_adds(lambda: model(**batch, logits_to_keep=asked.text_tokens + 1).loss.backward())
    captioning, _ = count_multiply_adds(
        lambda: model.generate(batch["pixel_values"][:1], num_beams=asked.num_beams, **lengths)
    )
    assert (costs.training_batch.total, costs.captioning_clip.total) == (training, captioning)


def test_a_tower_without_contextualizers_has_no_backward_pass() -> None:
    costs = costs_of("image")
    assert costs.training_clip.vision_tower == costs.captioning_clip.vision_tower


def test_the_tower_itself_costs_the_same_with_contextualizers_inside() -> None:
    without, within = costs_of("image"), costs_of("in_tower")
    assert within.captioning_clip.vision_tower == without.captioning_clip.vision_tower


def test_the_tower_has_a_backward_pass_for_contextualizers_inside() -> None:
    costs = costs_of("in_tower")
    assert costs.training_clip.vision_tower > costs.captioning_clip.vision_tower


@pytest.mark.parametrize("variant", ["in_tower", "one_block"])
def test_in_tower_contextualizers_equal_those_of_a_real_pass(variant: str) -> None:
    asked = workload()
    config = tiny_config(**VARIANTS[variant])
    model = real_model(config)
    inside = [module for module in model.vision_tower.modules() if isinstance(module, InTowerContextualizer)]
    tokens = torch.randn(1, asked.num_frames, NUM_TOKENS, model.vision_tower.dim)
    expected = sum(count_multiply_adds(lambda module=module: module(tokens))[0] for module in inside)
    assert costs_of(variant).captioning_clip.contextualizer == expected


def test_clip_and_soft_prompt_are_counted_once_and_text_once_a_caption() -> None:
    one, two, three, four = (costs_of("image", captions_per_clip=captions).training_clip for captions in (1, 2, 3, 4))
    assert four.connector == one.connector
    assert four.language_model - three.language_model == three.language_model - two.language_model
    assert two.language_model < 2 * one.language_model
