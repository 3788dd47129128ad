"""The spread of soft prompts, against sums written out by hand."""

import math

import numpy as np
import pytest
import torch

from evlvideo.models.tokens.prompt_statistics import (
    ALIKE,
    PromptSpread,
    joined_moments,
    prompt_spread,
    spread_of,
    token_moments,
)


def test_the_spread_is_that_of_its_definition() -> None:
    # Two clips of two tokens; mean tokens (1, 0) and (5, 0), mean of these (3, 0).
    prompts = torch.tensor([[[1.0, 1.0], [1.0, -1.0]], [[5.0, 3.0], [5.0, -3.0]]])
    spread = prompt_spread(prompts)
    assert spread.between == pytest.approx(2.0)
    assert spread.within == pytest.approx(math.sqrt((1 + 1 + 9 + 9) / 4))
    assert spread.norm == pytest.approx((2 * math.sqrt(2) + 2 * math.sqrt(34)) / 4)
    assert spread.words_norm is None


def test_the_spread_equals_an_analysis_of_variance() -> None:
    prompts = torch.randn(7, 5, 11, generator=torch.Generator().manual_seed(0))
    spread = prompt_spread(prompts)
    total = prompts.double().numpy().reshape(35, 11).var(axis=0).sum()
    assert spread.between**2 + spread.within**2 == pytest.approx(float(total), rel=1e-5)


def test_words_are_measured_by_their_mean_norm() -> None:
    words = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 1.0]])
    spread = prompt_spread(torch.full((2, 1, 2), 50.0), words)
    assert spread.words_norm == pytest.approx(2.0)
    assert spread.is_far_from_words


def test_one_clip_has_no_spread_between_clips_and_one_token_none_within() -> None:
    spread = prompt_spread(torch.ones(1, 1, 4))
    assert (spread.between, spread.within) == (0.0, 0.0)


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 3)])
def test_nothing_has_no_spread(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(clips, tokens, channels\)"):
        prompt_spread(torch.zeros(shape))


def test_prompts_count_as_alike_by_their_share_of_the_norm() -> None:
    assert PromptSpread(between=0.0015, within=4.0, norm=9.0, words_norm=3.0).is_alike
    assert not PromptSpread(between=0.7, within=4.0, norm=9.0, words_norm=3.0).is_alike
    assert PromptSpread(between=0.0, within=0.0, norm=0.0, words_norm=None).is_alike
    assert PromptSpread(between=1.0, within=0.0, norm=2.0, words_norm=None).share == 0.5


def test_a_model_gone_astray_is_not_called_alike() -> None:
    assert not prompt_spread(torch.full((2, 2, 2), torch.nan)).is_alike


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    # The squares of 300 are beyond float16, and 2,000 terms of 1 beyond bfloat16's eight bits.
    prompts = torch.zeros(2, 2000, 2, dtype=dtype)
    prompts[1, :, 0] = 300.0
    spread = prompt_spread(prompts, torch.full((2000, 4), 200.0, dtype=dtype))
    assert spread.between == pytest.approx(150.0)
    assert spread.within == 0.0
    assert spread.words_norm == pytest.approx(400.0)


def test_batches_of_clips_join_to_the_spread_of_all() -> None:
    prompts = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1))
    joined = spread_of(joined_moments([token_moments(prompts[:2]), token_moments(prompts[2:])]))
    whole = prompt_spread(prompts)
    for name in ("between", "within", "norm"):
        np.testing.assert_allclose(getattr(joined, name), getattr(whole, name), rtol=1e-6)


def test_half_precision_rounds_by_about_the_threshold() -> None:
    assert torch.finfo(torch.bfloat16).eps / 2 < ALIKE < 2 * torch.finfo(torch.bfloat16).eps
