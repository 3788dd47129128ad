"""Bipartite soft matching against ToMe's own values, its invariants, and the schedules of r."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_models import FIXTURES, chirp, every_device
from torch import Tensor
from torch.nn import functional as F

from evlvideo.errors import UserError
from evlvideo.models.tokens.merging import (
    bipartite_soft_matching,
    identity_source,
    merge_mean,
    merge_schedule,
    merge_schedule_to,
    merge_size_weighted,
    merge_source,
    mergeable_tokens,
    tokens_after,
)

CASES = load_file(FIXTURES / "tome" / "cases.safetensors")
every_case = pytest.mark.parametrize("case", [f"r{r}_cls{cls}" for r in (1, 4, 8) for cls in (0, 1)])


def case_values(case: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{case}_"): value for name, value in CASES.items() if name.startswith(f"{case}_")}


def case_matching(case: str, metric: Tensor):
    r, class_token = case.removeprefix("r").split("_cls")
    return bipartite_soft_matching(metric, int(r), class_token=class_token == "1")


@every_case
def test_plain_mean_equals_the_reference(case: str) -> None:
    values = case_values(case)
    merge = case_matching(case, values["metric"])
    torch.testing.assert_close(merge_mean(merge, values["x"]), values["mean"], rtol=0, atol=1e-6)


@every_case
def test_size_weighted_mean_equals_the_reference(case: str) -> None:
    values = case_values(case)
    merge = case_matching(case, values["metric"])
    x, size = merge_size_weighted(merge, values["x"], values["size"])
    torch.testing.assert_close(x, values["wavg"], rtol=0, atol=1e-6)
    assert torch.equal(size, values["wsize"])


@every_case
def test_source_equals_the_reference(case: str) -> None:
    values = case_values(case)
    merge = case_matching(case, values["metric"])
    assert torch.equal(merge_source(merge, identity_source(2, 17)), values["source"])


def test_no_merge_returns_the_tokens_themselves() -> None:
    x = chirp(2, 7, 4)
    assert merge_mean(bipartite_soft_matching(x, 0), x) is x


def test_one_token_cannot_be_merged() -> None:
    x = chirp(2, 1, 4)
    merge = bipartite_soft_matching(x, 5)
    assert torch.equal(merge_mean(merge, x), x)


def test_negative_r_is_an_error() -> None:
    with pytest.raises(ValueError, match="r is -1"):
        bipartite_soft_matching(chirp(1, 4, 4), -1)


@pytest.mark.parametrize(
    ("tokens", "class_token", "left"), [(17, True, 9), (17, False, 9), (16, True, 9), (16, False, 8), (2, True, 2)]
)
def test_r_is_capped_at_half_of_the_mergeable_tokens(tokens: int, class_token: bool, left: int) -> None:
    x = chirp(2, tokens, 6)
    merge = bipartite_soft_matching(x, 100, class_token=class_token)
    assert merge_mean(merge, x).shape == (2, left, 6)
    assert tokens - mergeable_tokens(tokens, class_token) == left


@pytest.mark.parametrize("r", [1, 4, 8])
def test_class_token_stays_first_and_untouched(r: int) -> None:
    x = chirp(2, 17, 6)
    x[:, 1] = x[:, 0]  # the best pair of all, were the class token not protected
    merge = bipartite_soft_matching(x, r, class_token=True)
    assert torch.equal(merge_mean(merge, x)[:, 0], x[:, 0])
    assert torch.equal(merge_source(merge, identity_source(2, 17))[:, 0], torch.eye(17)[:1].expand(2, -1))


def test_unprotected_first_token_is_merged_like_any_other() -> None:
    x = chirp(2, 17, 6)
    x[:, 1] = x[:, 0]
    merge = bipartite_soft_matching(x, 1)
    pair = merge_source(merge, identity_source(2, 17))[..., :2].sum(dim=-1)
    assert (pair.max(dim=-1).values == 2).all()


def test_most_similar_pairs_are_merged() -> None:
    # Even tokens 0, 2, 4 point at 0°, 50° and 90°; odd tokens 1, 3 at 10° and 85°.
    degrees = torch.tensor([0.0, 10.0, 50.0, 85.0, 90.0])
    metric = torch.stack([torch.deg2rad(degrees).cos(), torch.deg2rad(degrees).sin()], dim=-1)[None]
    merge = bipartite_soft_matching(metric, 2)
    merged = merge_mean(merge, degrees[None, :, None])
    assert merged.flatten().tolist() == [50.0, 5.0, 87.5]


def test_similarity_ignores_length() -> None:
    metric = chirp(2, 12, 6)
    longer = metric * torch.arange(1, 13)[None, :, None]
    plain, long = (merge_source(bipartite_soft_matching(m, 4), identity_source(2, 12)) for m in (metric, longer))
    assert torch.equal(plain, long)


def test_half_precision_metric_is_compared_in_float32() -> None:
    metric = (1 + 0.05 * chirp(4, 64, 32)).bfloat16()
    half, full = (
        merge_source(bipartite_soft_matching(m, 16), identity_source(4, 64)) for m in (metric, metric.float())
    )
    assert torch.equal(half, full)
    # The case can tell: similarities in bfloat16 choose other partners.
    unit = metric / metric.norm(dim=-1, keepdim=True)
    assert not torch.equal((unit[:, ::2] @ unit[:, 1::2].mT).argmax(-1), _best_partners(metric.float()))


@every_device
def test_autocast_does_not_change_the_matching(device: str) -> None:
    metric = (1 + 0.05 * chirp(4, 64, 32)).bfloat16()
    plain = merge_source(bipartite_soft_matching(metric, 16), identity_source(4, 64))
    with torch.autocast(device, torch.bfloat16):
        merge = bipartite_soft_matching(metric.to(device), 16)
    cast = merge_source(merge, identity_source(4, 64, torch.device(device)))
    assert torch.equal(cast.cpu(), plain)


def test_a_token_without_direction_is_similar_to_nothing() -> None:
    # Even tokens 0 and 4 are nearer to an odd token than at right angles, token 6 is farther, and token 2 is nowhere.
    metric = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 0.0], [1.0, 0.2], [0.5, -1.0], [1.0, 0.3], [-1.0, 0.0]]])
    similarity = F.cosine_similarity(metric[:, ::2, None], metric[:, None, 1::2], dim=-1)
    assert similarity.max(dim=-1).values[0].argsort(descending=True).tolist() == [0, 2, 1, 3]
    unmerged = [
        merge_source(bipartite_soft_matching(metric, r), identity_source(1, 7))[0, : 4 - r].argmax(dim=-1).tolist()
        for r in (1, 2, 3)
    ]
    assert unmerged == [[4, 2, 6], [2, 6], [6]]


def _best_partners(metric: Tensor) -> Tensor:
    unit = metric / metric.norm(dim=-1, keepdim=True)
    return (unit[:, ::2] @ unit[:, 1::2].mT).argmax(-1)


def test_metric_is_not_changed() -> None:
    metric = chirp(2, 9, 4)
    before = metric.clone()
    bipartite_soft_matching(metric, 3, class_token=True)
    assert torch.equal(metric, before)


def test_gradient_of_a_merged_token_is_shared_by_its_sources() -> None:
    x = chirp(2, 17, 6).requires_grad_()
    merge = bipartite_soft_matching(x, 6, class_token=True)
    merge_mean(merge, x).sum().backward()
    source = merge_source(merge, identity_source(2, 17))
    share = source.transpose(1, 2) @ (1 / source.sum(dim=-1, keepdim=True))  # (B, N, 1)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, share.expand(-1, -1, 6))


def test_choice_of_pairs_has_no_gradient() -> None:
    metric = chirp(1, 8, 4).requires_grad_()
    merge = bipartite_soft_matching(metric, 2)
    assert not merge_mean(merge, chirp(1, 8, 3)).requires_grad


matchings = st.tuples(st.integers(1, 24), st.integers(0, 15), st.booleans(), st.integers(0, 10_000))


@settings(deadline=None, max_examples=60)
@given(matchings)
def test_any_matching_leaves_the_expected_number_of_tokens(matching: tuple[int, int, bool, int]) -> None:
    tokens, r, class_token, seed = matching
    x = torch.randn(2, tokens, 5, generator=torch.Generator().manual_seed(seed))
    merge = bipartite_soft_matching(x, r, class_token=class_token)
    merged = merge_mean(merge, x)
    assert merged.shape == (2, tokens_after(tokens, [r], class_token), 5)


@settings(deadline=None, max_examples=60)
@given(matchings)
def test_size_weighted_merges_conserve_mass(matching: tuple[int, int, bool, int]) -> None:
    tokens, r, class_token, seed = matching
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, tokens, 5, generator=generator, dtype=torch.float64)
    merged, size = x, torch.ones(2, tokens, 1, dtype=torch.float64)
    for _ in range(2):
        merge = bipartite_soft_matching(merged, r, class_token=class_token)
        merged, size = merge_size_weighted(merge, merged, size)
    assert (size.sum(dim=1) == tokens).all()
    torch.testing.assert_close((merged * size).sum(dim=1), x.sum(dim=1))


@settings(deadline=None, max_examples=60)
@given(matchings)
def test_every_original_token_is_in_one_merged_token(matching: tuple[int, int, bool, int]) -> None:
    tokens, r, class_token, seed = matching
    x = torch.randn(2, tokens, 5, generator=torch.Generator().manual_seed(seed))
    source = identity_source(2, tokens)
    for _ in range(2):
        merge = bipartite_soft_matching(x, r, class_token=class_token)
        x, source = merge_mean(merge, x), merge_source(merge, source)
    assert torch.equal(source.sum(dim=1), torch.ones(2, tokens))


@pytest.mark.parametrize(
    ("r", "layers", "expected"),
    [
        (19, 3, [19, 19, 19]),
        (0, 2, [0, 0]),
        ([5, 0, 7], 3, [5, 0, 7]),
        ([4, 1], 2, [4, 1]),
        ((8, 0.0), 4, [8, 8, 8, 8]),
        ((8, -1.0), 5, [16, 12, 8, 4, 0]),
        ((8, 1.0), 5, [0, 4, 8, 12, 16]),
        ((8, 1), 5, [0, 4, 8, 12, 16]),
        ((8, 0.5), 3, [4, 8, 12]),
        ((7, -0.3), 4, [9, 7, 6, 5]),
        ([3], 1, [3]),
    ],
)
def test_schedule_forms(r: int | list[float], layers: int, expected: list[int]) -> None:
    assert merge_schedule(r, layers) == expected


@given(st.integers(0, 40), st.floats(-1, 1), st.integers(3, 40))
def test_ramp_follows_tomes_formula(r: int, inflection: float, layers: int) -> None:
    first = int(r * (1 - inflection))
    last = 2 * r - first
    ramp = [int(first + (last - first) / (layers - 1) * layer) for layer in range(layers)]
    assert merge_schedule((r, inflection), layers) == ramp


@pytest.mark.parametrize(
    ("r", "message"),
    [
        (-1, "merge_r is -1"),
        ([1, 2, -3, 4], "0 or more"),
        ([1, 2, 3], "3 numbers for 4 layers"),
        ([1.5, 2, 3, 4], "4 numbers for 4 layers"),
        ((8, 1.5), "between -1 and 1"),
        ((-8, 0.5), "0 or more"),
        ([], "0 numbers for 4 layers"),
    ],
)
def test_impossible_schedules_are_user_errors(r: int | list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        merge_schedule(r, 4)


def test_evlgens_schedule_leaves_29_of_257_tokens() -> None:
    assert tokens_after(257, merge_schedule(19, 12), class_token=True) == 29
    assert merge_schedule_to(29, 257, 12, class_token=True) == [19] * 12


def test_first_layers_merge_what_does_not_divide() -> None:
    assert merge_schedule_to(32, 197, 6, class_token=True) == [28, 28, 28, 27, 27, 27]
    assert merge_schedule_to(197, 197, 6, class_token=True) == [0] * 6


def test_layers_merge_more_where_a_later_one_is_at_its_cap() -> None:
    # The last layer has a class token and 4 others, of which it can merge 2.
    assert merge_schedule_to(3, 17, 4, class_token=True) == [4, 4, 4, 2]
    assert merge_schedule_to(2, 17, 4, class_token=True) == [8, 4, 2, 1]


@given(st.integers(1, 300), st.integers(1, 12), st.booleans(), st.data())
def test_exactly_as_many_tokens_are_left_as_asked(tokens: int, layers: int, class_token: bool, data: Any) -> None:
    least = tokens_after(tokens, [tokens] * layers, class_token)
    target = data.draw(st.integers(least, tokens))
    schedule = merge_schedule_to(target, tokens, layers, class_token=class_token)
    assert tokens_after(tokens, schedule, class_token) == target
    assert tokens - sum(schedule) == target, "no layer is asked for more than it can merge"
    # What the layers merge differs by more than one only where caps lower it, which are lower in later layers.
    assert schedule == sorted(schedule, reverse=True)


@pytest.mark.parametrize(
    ("target", "tokens", "layers", "allowed"),
    [(28, 257, 3, "33 to 257"), (258, 257, 3, "33 to 257"), (0, 17, 9, "2 to")],
)
def test_tokens_that_cannot_be_left_are_told_with_the_fewest_that_can(
    target: int, tokens: int, layers: int, allowed: str
) -> None:
    with pytest.raises(UserError, match=f"merge_to is {target}; allowed: {allowed}.*{layers} layers"):
        merge_schedule_to(target, tokens, layers, class_token=True)
