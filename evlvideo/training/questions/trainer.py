"""Trains as captions are trained, and validates by the share of questions that are answered right."""

from typing import ClassVar

from evlvideo.training.trainer import CaptionTrainer


class AnswerTrainer(CaptionTrainer):
    """A :class:`~evlvideo.training.trainer.CaptionTrainer` with a `questionnaire`."""

    validation_key: ClassVar[str] = "validation_accuracy"
