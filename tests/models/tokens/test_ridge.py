"""Ridge regression from tokens to a target a clip."""

import torch

from evlvideo.models.tokens.ridge import ridge_to_targets


def clips(shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (9, 5, 4) and targets (9, 3)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(9, 5, 4, generator=generator) + shift, torch.randn(9, 3, generator=generator)


def by_least_squares(tokens: torch.Tensor, targets: torch.Tensor, penalty: float) -> torch.Tensor:
    """The same map by LAPACK's least squares: a penalty is rows that pull the weights to zero."""
    x = (tokens - tokens.mean(dim=(0, 1))).flatten(0, 1).double()
    y = (targets - targets.mean(dim=0)).repeat_interleave(tokens.shape[1], dim=0).double()
    variance = x.square().mean()
    pull = (penalty * variance * len(x)).sqrt() * torch.eye(x.shape[1], dtype=torch.float64)
    rows = torch.cat([x, pull]), torch.cat([y, torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64)])
    return torch.linalg.lstsq(*rows).solution.T.float()


def test_weight_is_that_of_penalized_least_squares() -> None:
    tokens, targets = clips()
    weight, _ = ridge_to_targets([tokens], targets, 0.3)
    torch.testing.assert_close(weight, by_least_squares(tokens, targets, 0.3))


def test_mean_token_maps_to_the_mean_target() -> None:
    tokens, targets = clips()
    weight, bias = ridge_to_targets([tokens], targets, 0.3)
    torch.testing.assert_close(weight @ tokens.mean(dim=(0, 1)) + bias, targets.mean(dim=0))


def test_batches_do_not_matter() -> None:
    tokens, targets = clips()
    whole = ridge_to_targets([tokens], targets, 0.3)
    torch.testing.assert_close(ridge_to_targets(list(tokens.split(4)), targets, 0.3), whole)


def test_large_common_part_costs_no_digits() -> None:
    tokens, targets = clips()
    near, _ = ridge_to_targets([tokens], targets, 0.3)
    far, _ = ridge_to_targets([tokens + 1000], targets, 0.3)
    torch.testing.assert_close(far, near, rtol=1e-3, atol=1e-3)


def test_tokens_that_are_all_alike_give_a_map_to_the_mean() -> None:
    _, targets = clips()
    weight, bias = ridge_to_targets([torch.ones(9, 5, 4)], targets, 0.3)
    assert not weight.any()
    torch.testing.assert_close(bias, targets.mean(dim=0))


def test_half_precision_tokens_are_taken() -> None:
    tokens, targets = clips()
    weight, _ = ridge_to_targets([tokens.bfloat16()], targets, 0.3)
    torch.testing.assert_close(weight, by_least_squares(tokens.bfloat16().float(), targets, 0.3))
