"""Ridge regression from the tokens of clips to one target a clip, in closed form.

Pure functions of tensors. Notation: `C` clips, `M` tokens of a clip, `H` channels of a token, `E` channels of a target.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def ridge_to_targets(tokens: Iterable[Tensor], targets: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Find the linear map from every token of a clip to the clip's target, with the least squared error and penalty.

    Args:
        tokens: batches of clips, `(≤ C, M, H)`, together as many clips as there are targets.
        targets: `(C, E)`.
        penalty: of the squared weights, as a share of the mean variance of the tokens' channels.

    Returns:
        weight `(E, H)` and bias `(E)` of a linear layer, in float32 on the device of the targets.
    """
    means, scatter, first = [], None, None
    for batch in tokens:
        batch = batch.float()
        # Sums around a token instead of around zero keep float32's digits.
        first = batch[0, 0] if first is None else first
        around = (batch - first).flatten(0, 1)  # (≤ C·M, H)
        means.append(batch.mean(dim=1))
        added = around.T @ around / batch.shape[1]
        scatter = added if scatter is None else scatter + added
    assert scatter is not None and first is not None, "give at least one batch"
    clips = torch.cat(means).double()  # (C, H)
    mean, mean_target = clips.mean(dim=0), targets.double().mean(dim=0)
    covariance = scatter.double() / len(clips) - torch.outer(mean - first, mean - first)
    shared = (clips - mean).T @ (targets.double() - mean_target) / len(clips)  # (H, E)
    variance = covariance.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
    weight = torch.linalg.solve(covariance + penalty * variance * torch.eye(len(mean)).to(covariance), shared).T
    return weight.float(), (mean_target - weight @ mean).float()
