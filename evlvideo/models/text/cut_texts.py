"""Counts the texts of a training run that were longer than the limit, and says so once."""

import logging

from accelerate.utils import gather_object
from torch import Tensor

from evlvideo.processes import is_main

logger = logging.getLogger(__name__)


class CutTexts:
    """Counts texts that lost their endings; what a device counts stays on it until it is asked for.

    Args:
        limit: longest text, in tokens.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._texts = 0
        self._lost: Tensor | int = 0
        self._told = False

    def note(self, lost: Tensor) -> None:
        """Count the texts of a batch: booleans `(B)`, true for those without an ending."""
        self._texts += len(lost)
        self._lost = self._lost + lost.sum()

    def restore(self, lost: int, texts: int) -> None:
        """Count on from those of a checkpoint; one process does."""
        self._lost, self._texts = self._lost + lost, self._texts + texts

    def counts(self) -> tuple[int, int]:
        """Return how many texts were cut off, and of how many, in all processes; all processes must call this."""
        of_processes = gather_object([(int(self._lost), self._texts)])
        lost, texts = (sum(counts) for counts in zip(*of_processes, strict=True))
        return lost, texts

    def tell(self, *, finished: bool = False) -> int:
        """Log how many texts were cut off, if any were, the first time; all processes must call this.

        Args:
            finished: log it again, as the number of the whole run.

        Returns:
            how many.
        """
        lost, texts = self.counts()
        if lost and is_main() and (finished or not self._told):
            advice = "" if self._told else "; raise text.max_tokens to keep their endings, which the model learns from"
            logger.warning(
                "%d of %d captions so far were cut off at text.max_tokens=%d%s", lost, texts, self._limit, advice
            )
        self._told = lost > 0
        return lost
