"""What losses need of logits, in chunks: the numbers and gradients of the formulas, without their memory."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from torch.utils._python_dispatch import TorchDispatchMode

from evlvideo.training.scst import token_terms as module
from evlvideo.training.scst.policy_loss import (
    divergence,
    entropy,
    log_probabilities_inside,
    of_samples,
    outside_nucleus,
)
from evlvideo.training.scst.token_terms import token_terms

ROWS, LENGTH, VOCABULARY = 5, 4, 37


def distribution(logits: Tensor, samples: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """Log-probabilities of what samples come from, `(R, L, V)`, all at once."""
    outside = outside_nucleus(logits, samples, temperature, top_p) if top_p < 1 else None
    return log_probabilities_inside(logits, temperature, outside)


@pytest.fixture(params=[1, 2 * LENGTH * VOCABULARY, 10**6])
def chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row, two rows and all rows at a time."""
    monkeypatch.setattr(module, "CHUNK_VALUES", request.param)


@pytest.fixture
def logits() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(ROWS, LENGTH, VOCABULARY, requires_grad=True)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("temperature, top_p", [(1.0, 1.0), (0.7, 1.0), (1.5, 0.8)])
def test_values_and_gradients_are_those_of_the_formulas(logits: Tensor, temperature: float, top_p: float) -> None:
    samples, start = torch.randint(VOCABULARY, (ROWS, LENGTH)), torch.randn(ROWS, LENGTH, VOCABULARY)
    weight = torch.randn(2, ROWS, LENGTH)
    found = token_terms(logits, samples, temperature=temperature, top_p=top_p, start=start)
    (slope,) = torch.autograd.grad((weight[0] * found.log_probability + weight[1] * found.divergence).sum(), logits)

    everything = distribution(logits, samples, temperature, top_p)
    apart = divergence(distribution(logits, samples, temperature), distribution(start, samples, temperature))
    expected = of_samples(everything, samples)
    (expected_slope,) = torch.autograd.grad((weight[0] * expected + weight[1] * apart).sum(), logits)
    for one, other in zip((*found, slope), (expected, apart, entropy(everything), expected_slope), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("chunked")
def test_values_are_those_of_torchs_distributions(logits: Tensor) -> None:
    samples, start = torch.randint(VOCABULARY, (ROWS, LENGTH)), torch.randn(ROWS, LENGTH, VOCABULARY)
    found, now = token_terms(logits, samples, start=start), Categorical(logits=logits)
    torch.testing.assert_close(found.log_probability, now.log_prob(samples))
    torch.testing.assert_close(found.entropy, now.entropy().detach())
    torch.testing.assert_close(found.divergence, kl_divergence(now, Categorical(logits=start)))


def test_without_a_start_nothing_diverges_and_entropy_has_no_gradient(logits: Tensor) -> None:
    found = token_terms(logits, torch.zeros(ROWS, LENGTH, dtype=torch.long))
    assert not found.divergence.any()
    assert not found.entropy.requires_grad and found.log_probability.requires_grad


def test_half_precision_logits_are_looked_at_in_float32(logits: Tensor) -> None:
    half, samples = logits.detach().bfloat16().requires_grad_(), torch.zeros(ROWS, LENGTH, dtype=torch.long)
    found = token_terms(half, samples).log_probability
    found.sum().backward()
    torch.testing.assert_close(found, Categorical(logits=half.float()).log_prob(samples))
    assert found.dtype == torch.float32 and half.grad is not None and half.grad.dtype == torch.bfloat16


def test_no_copy_of_the_logits_is_kept_for_the_backward_pass(logits: Tensor) -> None:
    start = torch.randn_like(logits)
    given = [value.untyped_storage().data_ptr() for value in (logits, start)]
    kept: list[int] = []

    def note(value: Tensor) -> Tensor:
        if value.untyped_storage().data_ptr() not in given:
            kept.append(value.numel())
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        token_terms(logits, torch.zeros(ROWS, LENGTH, dtype=torch.long), start=start)
    assert sum(kept) <= ROWS * LENGTH


class _Largest(TorchDispatchMode):
    """Sizes of what operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        self.sizes += [result.numel()] if isinstance(result, Tensor) and not result._is_view() else []
        return result


def test_nothing_of_the_size_of_all_logits_is_made_but_their_gradient(
    logits: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_VALUES", LENGTH * VOCABULARY)
    samples, start = torch.zeros(ROWS, LENGTH, dtype=torch.long), torch.randn_like(logits)
    with _Largest() as made:
        found = token_terms(logits, samples, top_p=0.9, start=start)
        torch.autograd.grad((found.log_probability + found.divergence).sum(), logits)
    # And, of one byte each, which tokens are in the nucleus.
    assert [size for size in made.sizes if size > LENGTH * VOCABULARY] == [logits.numel()] * 2
