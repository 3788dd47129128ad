from contextlib import AbstractContextManager
from dataclasses import replace

import pytest
import torch
from tiny_architecture import BERT_SIZES, VARIANTS, costs_of, real_batch, real_model, tiny_config, workload
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from evlvideo.estimate import activations
from evlvideo.estimate.activations import saved_bytes
from evlvideo.estimate.costs import estimate


class OneLayer(nn.Module):
    """A layer whose backward pass needs its input and, where another follows, its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(2, 4, 32, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(self.query, x, x)


def on_a_pretended_gpu(module: nn.Module, *shape: int, autocast: torch.dtype | None = None) -> int:
    with FakeTensorMode(allow_non_fake_inputs=True):
        module.to_empty(device=activations.DEVICE)
        x = torch.empty(*shape, device=activations.DEVICE)
        return saved_bytes(module, lambda: module(x), autocast)


def test_inputs_of_layers_are_kept_and_weights_are_not_counted() -> None:
    assert on_a_pretended_gpu(OneLayer(), 10, 5) == 4 * 10 * (5 + 7)


def test_autocast_keeps_half_the_bytes_and_copies_of_weights() -> None:
    # The second layer's weight is needed for the gradient of its input; the first layer's input has none.
    assert on_a_pretended_gpu(OneLayer(), 10, 5, autocast=torch.bfloat16) == 2 * (10 * (5 + 7) + 7 * 3)


def test_attention_keeps_no_weights_of_attention() -> None:
    kept = on_a_pretended_gpu(Attention(), 2, 4, 64, 8)
    keys, outputs, row_sums = 2 * 4 * 64 * 8, 2 * 4 * 32 * 8, 2 * 4 * 32
    assert 4 * (keys + outputs + row_sums) <= kept < 4 * (keys + outputs + row_sums) + 64


# Dropout keeps a mask of bytes on a GPU, and one of float32 on the CPU.
NO_DROPOUT = BERT_SIZES | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture
def plain_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention as a CPU computes it."""

    def plain() -> AbstractContextManager[None]:
        return sdpa_kernel(SDPBackend.MATH)

    monkeypatch.setattr(activations, "_FusedAttention", plain)


@pytest.mark.usefixtures("plain_attention")
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_kept_equals_what_a_real_pass_keeps(variant: str) -> None:
    asked = workload()
    config = tiny_config(**VARIANTS[variant], bert_config=NO_DROPOUT)
    model, batch = real_model(config).train(), real_batch(asked)
    real = saved_bytes(model, lambda: model(**batch, logits_to_keep=asked.text_tokens + 1), None)
    assert estimate(config, asked).memory.activations == real


@pytest.mark.usefixtures("plain_attention")
@pytest.mark.parametrize("captions_per_clip", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_checkpointed_layers_keep_equals_what_a_real_pass_keeps(variant: str, captions_per_clip: int) -> None:
    asked = workload(captions_per_clip=captions_per_clip, gradient_checkpointing=True)
    config = tiny_config(**VARIANTS[variant], bert_config=NO_DROPOUT)
    model, batch = real_model(config).train(), real_batch(asked)
    model.activation_checkpointing_enable()
    real = saved_bytes(model, lambda: model(**batch, logits_to_keep=asked.text_tokens + 1), None)
    costs = estimate(config, asked)
    assert costs.memory.activations == real
    assert real < estimate(config, replace(asked, gradient_checkpointing=False)).memory.activations


def test_nothing_is_left_switched_on() -> None:
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    estimate(tiny_config(), workload(precision="bf16"))
    assert (torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")) == before


def test_a_tower_keeps_something_only_for_contextualizers_inside() -> None:
    without, within = costs_of("image"), costs_of("in_tower")
    tower_tokens = 4 * 3 * 2 * 17 * 48
    assert within.memory.activations > without.memory.activations + 10 * tower_tokens
