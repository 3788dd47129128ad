"""The loss of a classifier, with a momentum teacher. Notation: `B` statements, `C` classes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evlvideo.models.vlp.hosts.classifier import AlbefClassifier
from evlvideo.models.vlp.images import Guidance
from evlvideo.models.vlp.momentum import follow, teacher_of


def classification_loss(logits: Tensor, labels: Tensor, teacher: Tensor | None, alpha: float) -> Tensor:
    """Predict labels, with a momentum teacher's probabilities as soft targets beside them.

    Args:
        logits: `(B, C)`.
        labels: `(B,)`.
        teacher: the teacher's logits, `(B, C)`, taken without gradient. If None, `alpha` is not used.
        alpha: share of the teacher.

    Returns:
        the mean, a scalar.
    """
    loss = F.cross_entropy(logits.float(), labels)
    if teacher is None:
        return loss
    soft = F.cross_entropy(logits.float(), teacher.detach().float().softmax(dim=-1))
    return (1 - alpha) * loss + alpha * soft


class ClassifierTraining(nn.Module):
    """Trains a classifier.

    Call :meth:`before_step` before every optimizer step.

    Args:
        host: the classifier.
        guidance: how its images are pruned. If None, they are not.
        momentum: share of the teacher that a step leaves. If None, there is no teacher. The teacher sees whole images.
    """

    def __init__(self, host: AlbefClassifier, guidance: Guidance | None, momentum: float | None) -> None:
        super().__init__()
        self.host = host
        self.guidance = guidance
        self.momentum = momentum
        self.teacher = None if momentum is None else teacher_of(host)

    def before_step(self) -> None:
        """Let the teacher follow."""
        if self.teacher is not None and self.momentum is not None:
            follow(self.teacher, self.host, self.momentum)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        *,
        alpha: float,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Compute the loss; see :meth:`evlvideo.models.vlp.hosts.classifier.AlbefClassifier.classify`.

        Args:
            pixel_values: `(B, I, 3, height, width)`.
            input_ids: `(B, S)`.
            attention_mask: `(B, S)`.
            labels: `(B,)`.
            alpha: share of the teacher in the targets.
            generator: draws the scores of the control `random`.

        Returns:
            `loss`.
        """
        logits = self.host.classify(pixel_values, input_ids, attention_mask, self.guidance, generator)
        taught = None
        if self.teacher is not None and alpha:
            with torch.no_grad():
                taught = self.teacher.classify(pixel_values, input_ids, attention_mask)
        return {"loss": classification_loss(logits, labels, taught, alpha)}
