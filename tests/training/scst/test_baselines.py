import pytest
import torch

from evlvideo.config.loading import config_of
from evlvideo.errors import UserError
from evlvideo.training.scst.baselines import BASELINES, advantages, greedy_baseline, loo_baseline, mean_baseline

REWARDS = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
GREEDY = torch.tensor([2.0, 5.0])


def test_greedy_baseline_is_the_clips_greedy_reward_for_all_its_samples() -> None:
    assert greedy_baseline(REWARDS, GREEDY).tolist() == [[2, 2, 2], [5, 5, 5]]


def test_loo_baseline_is_the_mean_of_the_clips_other_samples() -> None:
    assert loo_baseline(REWARDS).tolist() == [[4, 3.5, 1.5], [1.5, 1.5, 0]]


def test_loo_advantages_of_a_clip_sum_to_zero() -> None:
    rewards = torch.rand(4, 5, dtype=torch.float64)
    assert (rewards - loo_baseline(rewards)).sum(dim=1).abs().max() < 1e-12


def test_loo_baseline_does_not_look_at_the_greedy_reward() -> None:
    assert torch.equal(loo_baseline(REWARDS, GREEDY), loo_baseline(REWARDS, GREEDY + 1))


def test_equal_rewards_have_no_loo_advantage() -> None:
    rewards = torch.full((2, 3), 0.7)
    assert (rewards - loo_baseline(rewards)).abs().max() < 1e-6


def test_mean_baseline_is_the_mean_of_all_samples_of_the_clip() -> None:
    assert mean_baseline(REWARDS).tolist() == [[3, 3, 3], [1, 1, 1]]


def test_mean_advantages_are_the_loo_advantages_made_smaller() -> None:
    rewards = torch.rand(4, 5, dtype=torch.float64)
    torch.testing.assert_close(rewards - mean_baseline(rewards), (rewards - loo_baseline(rewards)) * 4 / 5)


def test_mean_baseline_leaves_out_what_has_no_reward() -> None:
    rewards = torch.tensor([[1.0, torch.nan, 4.0], [torch.nan, torch.nan, torch.nan]])
    assert advantages(rewards, mean_baseline(rewards)).tolist() == [[-1.5, 0.0, 1.5], [0.0, 0.0, 0.0]]


def test_configs_name_every_baseline() -> None:
    with pytest.raises(UserError, match=f"allowed: {', '.join(BASELINES)}$"):
        config_of(["scst.baseline=other"])


def test_a_sample_without_reward_is_in_no_mean() -> None:
    rewards = torch.tensor([[1.0, torch.nan, 4.0], [torch.nan, 2.0, torch.nan]])
    found = advantages(rewards, loo_baseline(rewards))
    assert found.tolist() == [[-3.0, 0.0, 3.0], [0.0, 0.0, 0.0]]


def test_no_greedy_reward_trains_nothing() -> None:
    rewards = torch.tensor([[1.0, 2.0], [3.0, torch.nan]])
    found = advantages(rewards, greedy_baseline(rewards, torch.tensor([torch.nan, 1.0])))
    assert found.tolist() == [[0.0, 0.0], [2.0, 0.0]]
