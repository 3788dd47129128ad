"""The loss under teacher forcing.

Notation: `B` texts, `L` text tokens, `V` vocabulary.
"""

from torch import Tensor
from torch.nn import functional as F


def caption_loss(logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Compute the cross-entropy over the targets of a batch, in float32.

    Args:
        logits: `(B, ≥ L + 1, V)`; the last `L + 1` positions are the last soft token and the text.
        labels: `(B, L)`, −100 for tokens that are not targets.
        num_items_in_batch: targets to average over. Defaults to those of `labels`.

    Returns:
        a scalar.
    """
    length = labels.shape[1]
    predicting = logits[:, -(length + 1) : -1].float()  # (B, L, V)
    total = F.cross_entropy(predicting.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    return total / ((labels != -100).sum() if num_items_in_batch is None else num_items_in_batch)
