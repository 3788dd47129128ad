"""A statement about one or two images, and the tasks that ask for its truth."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence about images, and whether it is true of them."""

    statement_id: str
    """Its name in the list, or its number there, from 0."""
    images: tuple[Path, ...]
    """As many as its task has."""
    text: str
    label: int
    """Index among the labels of its task."""


@dataclass(frozen=True, slots=True)
class StatementTask:
    """What a task gives, and what it asks for."""

    images: int
    """Images of a statement."""
    labels: tuple[str, ...]
    """In the order of their classes."""


ENTAILMENT, NLVR2 = "entailment", "nlvr2"
TASKS = {
    ENTAILMENT: StatementTask(images=1, labels=("contradiction", "neutral", "entailment")),
    NLVR2: StatementTask(images=2, labels=("False", "True")),
}
"""Visual entailment, and NLVR2's statements about two images."""
