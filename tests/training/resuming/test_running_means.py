import torch

from evlvideo.training.resuming.running_means import RunningMeans


def test_means_are_of_all_values_since_they_were_last_taken() -> None:
    means = RunningMeans()
    means.add("reward", 4.0, 3)
    means.add("reward", 2.0, 1)
    means.add("entropy", torch.tensor(6.0), torch.tensor(4))
    means.add("entropy", torch.tensor(4.0), torch.tensor(1))
    assert means.take() == {"reward": 1.5, "entropy": 2.0}
    means.add("reward", 7.0, 1)
    assert means.take() == {"reward": 7.0}


def test_a_number_of_values_goes_where_their_sum_is() -> None:
    means = RunningMeans()
    for _ in range(2):
        means.add("contrastive_loss", torch.zeros((), device="meta"), 1)
    assert means._sums["contrastive_loss"].is_meta


def test_of_nothing_there_is_no_mean() -> None:
    means = RunningMeans()
    means.add("reward", 0.0, 0)
    means.add("kl", torch.tensor(0.0), torch.tensor(0))
    assert means.take() == {}


def test_what_is_kept_does_not_grow_with_steps_and_holds_no_graph() -> None:
    means = RunningMeans()
    for _ in range(100):
        means.add("kl", torch.ones((), requires_grad=True) * 2, torch.tensor(1))
        means.add("reward", 1.0, 1)
    assert {name: kept.tolist() for name, kept in means._sums.items()} == {"kl": [200, 100], "reward": [100, 100]}
    assert not any(kept.requires_grad for kept in means._sums.values())
