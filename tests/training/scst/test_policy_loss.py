from itertools import product

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from evlvideo.training.scst.baselines import loo_baseline
from evlvideo.training.scst.policy_loss import (
    divergence,
    entropy,
    log_probabilities_inside,
    masked_sum,
    of_samples,
    outside_nucleus,
    policy_loss,
    sampled_tokens_mask,
)

END = 0
VOCABULARY = 4
LENGTH = 3


def distribution(logits: Tensor, samples: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """Log-probabilities of what samples come from, `(R, L, V)`, all at once."""
    outside = outside_nucleus(logits, samples, temperature, top_p) if top_p < 1 else None
    return log_probabilities_inside(logits, temperature, outside)


@pytest.mark.parametrize(
    "sample, mask",
    [
        ([5, 6, END, 1, 1], [1, 1, 1, 0, 0]),
        ([5, 6, END, END, 7], [1, 1, 1, 0, 0]),
        ([END, 1, 1, 1, 1], [1, 0, 0, 0, 0]),
        ([5, 6, 7, 8, 9], [1, 1, 1, 1, 1]),
        ([5, 6, 7, 8, END], [1, 1, 1, 1, 1]),
    ],
)
def test_mask_ends_with_the_first_ending(sample: list[int], mask: list[int]) -> None:
    assert sampled_tokens_mask(torch.tensor([sample]), END).int().tolist() == [mask]


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_log_probabilities_are_those_of_the_categorical_distribution(temperature: float) -> None:
    logits, samples = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    expected = Categorical(logits=logits / temperature)
    found = distribution(logits, samples, temperature)
    torch.testing.assert_close(of_samples(found, samples), expected.log_prob(samples))
    torch.testing.assert_close(entropy(found), expected.entropy())


def test_log_probabilities_are_float32_for_half_precision_logits() -> None:
    logits, samples = torch.randn(2, 5, 7, dtype=torch.bfloat16), torch.randint(7, (2, 5))
    found = of_samples(distribution(logits, samples), samples)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, Categorical(logits=logits.float()).log_prob(samples))


def test_a_nucleus_is_renormalised_and_leaves_nothing_outside() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(1, 1, 4)
    found = distribution(logits, torch.tensor([[1]]), top_p=0.75).exp()
    torch.testing.assert_close(found, torch.tensor([[[0.625, 0.375, 0.0, 0.0]]]))


def test_the_temperature_comes_before_the_nucleus() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(1, 1, 4)
    found = distribution(logits, torch.tensor([[0]]), temperature=0.25, top_p=0.75).exp()
    assert found.tolist() == [[[1.0, 0.0, 0.0, 0.0]]]


def test_what_was_drawn_is_in_the_nucleus_also_where_rounding_leaves_it_out() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(1, 1, 4).clone().requires_grad_()
    samples = torch.tensor([[3]])
    found = of_samples(distribution(logits, samples, top_p=0.75), samples)
    assert found.item() == pytest.approx(torch.tensor(0.05 / 0.85).log().item())
    found.sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_tokens_of_probability_zero_add_no_entropy() -> None:
    logits = torch.tensor([[[0.0, 0.0, -torch.inf]]])
    found = entropy(distribution(logits, torch.zeros(1, 1, dtype=torch.long)))
    assert found.item() == pytest.approx(torch.log(torch.tensor(2.0)).item())


def test_divergence_is_torchs_over_sampled_tokens() -> None:
    logits, start = torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    expected = kl_divergence(Categorical(logits=logits), Categorical(logits=start))[mask].mean()
    found = divergence(logits.log_softmax(-1), start.log_softmax(-1))
    torch.testing.assert_close(masked_sum(found, mask) / 3, expected)


def test_no_change_diverges_by_nothing_and_has_no_gradient() -> None:
    logits = torch.randn(1, 3, 7, requires_grad=True)
    found = divergence(logits.log_softmax(-1), logits.detach().log_softmax(-1))
    found.sum().backward()
    assert not found.any()
    assert logits.grad is not None and logits.grad.abs().max() < 1e-7


def test_what_the_nucleus_leaves_out_does_not_diverge() -> None:
    logits = torch.tensor([[[0.0, 0.0, -torch.inf]]])
    start = torch.tensor([[[0.0, 1.0, -torch.inf]]])
    found = divergence(logits.log_softmax(-1), start.log_softmax(-1))
    expected = kl_divergence(Categorical(logits=logits[..., :2]), Categorical(logits=start[..., :2]))
    assert found.item() == pytest.approx(expected.item())


def test_losses_are_averaged_over_the_tokens_that_are_named() -> None:
    log_probability, mask, advantage = torch.randn(3, 4), torch.ones(3, 4).bool(), torch.tensor([0.5, -1.0, 2.0])
    halves = [policy_loss(log_probability[rows], mask[rows], advantage[rows], 12) for rows in ([0], [1, 2])]
    torch.testing.assert_close(sum(halves), policy_loss(log_probability, mask, advantage))


def test_loss_is_the_mean_over_tokens_of_advantage_times_log_probability() -> None:
    log_probability, advantage = torch.randn(3, 4), torch.tensor([0.5, -1.0, 2.0])
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]).bool()
    total, tokens = 0.0, 0
    for row, column in product(range(3), range(4)):
        if mask[row, column]:
            total += float(advantage[row] * log_probability[row, column])
            tokens += 1
    assert policy_loss(log_probability, mask, advantage).item() == pytest.approx(-total / tokens)


def test_what_follows_the_ending_has_no_gradient_even_where_it_is_not_finite() -> None:
    log_probability = torch.tensor([[-1.0, -2.0, -torch.inf]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    policy_loss(log_probability, mask, torch.tensor([3.0])).backward()
    assert log_probability.grad is not None
    assert log_probability.grad.tolist() == [[-1.5, -1.5, 0]]


def test_samples_of_equal_reward_have_no_gradient() -> None:
    log_probability = torch.randn(4, 3, requires_grad=True)
    rewards = torch.full((2, 2), 0.25)
    advantage = (rewards - loo_baseline(rewards)).flatten()
    policy_loss(log_probability, torch.ones(4, 3).bool(), advantage).backward()
    assert log_probability.grad is not None and not log_probability.grad.any()


def test_masked_sum_looks_at_sampled_tokens_only() -> None:
    values, mask = torch.tensor([[1.0, 3.0, torch.nan]]), torch.tensor([[True, True, False]])
    assert masked_sum(values, mask) == 4


class Language:
    """All captions of at most three tokens over four, one of which ends; their logits are a table by prefix."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        prefixes = [prefix for length in range(LENGTH) for prefix in product(range(1, VOCABULARY), repeat=length)]
        self.row = {prefix: place for place, prefix in enumerate(prefixes)}
        self.table = torch.randn(len(prefixes), VOCABULARY, generator=generator, dtype=torch.float64)
        self.table.requires_grad_()
        self.captions = [(*prefix, END) for prefix in prefixes] + list(product(range(1, VOCABULARY), repeat=LENGTH))
        self.rewards = torch.rand(len(self.captions), generator=generator, dtype=torch.float64)
        self.padded = torch.tensor([[*caption, *[END] * (LENGTH - len(caption))] for caption in self.captions])

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits that predict tokens `(R, L)`: `(R, L, V)`; of any value after an ending."""
        rows = [[self.row.get(tuple(line[:place]), 0) for place in range(LENGTH)] for line in tokens.tolist()]
        return self.table[torch.tensor(rows)]

    def probabilities(self) -> Tensor:
        found = Categorical(logits=self.logits(self.padded)).log_prob(self.padded)
        return (found * sampled_tokens_mask(self.padded, END)).sum(dim=1).exp()

    def exact_gradient(self) -> Tensor:
        """Of minus the expected reward, over the expected number of tokens."""
        probabilities = self.probabilities()
        tokens = (probabilities * sampled_tokens_mask(self.padded, END).sum(dim=1)).sum().detach()
        return torch.autograd.grad(-(probabilities * self.rewards).sum() / tokens, self.table)[0]

    def sampled_gradient(self, clips: int, samples: int) -> Tensor:
        """Of the policy loss of `clips` groups of samples against their leave-one-out baseline."""
        chosen = torch.multinomial(self.probabilities().detach(), clips * samples, replacement=True)
        rewards = self.rewards[chosen].unflatten(0, (clips, samples))
        advantage = (rewards - loo_baseline(rewards)).flatten()
        tokens = self.padded[chosen]
        log_probability = of_samples(distribution(self.logits(tokens), tokens), tokens)
        loss = policy_loss(log_probability, sampled_tokens_mask(tokens, END), advantage)
        return torch.autograd.grad(loss, self.table)[0]


def test_every_caption_of_the_toy_language_is_enumerated() -> None:
    assert Language().probabilities().sum().item() == pytest.approx(1)


@pytest.mark.parametrize("samples", [2, 5])
def test_gradient_approaches_that_of_the_expected_reward(samples: int) -> None:
    torch.manual_seed(0)
    language = Language()
    exact = language.exact_gradient()
    errors = [
        float((language.sampled_gradient(clips, samples) - exact).norm() / exact.norm()) for clips in (100, 25_600)
    ]
    # 256 times the clips: a 16th of the error, where the estimate has no bias.
    assert errors[1] < 0.1
    assert errors[1] < errors[0] / 6
