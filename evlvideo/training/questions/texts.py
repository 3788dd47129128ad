"""What a run that trains or validates on questions asks, as its config words it."""

from collections.abc import Hashable, Iterable
from functools import partial

from evlvideo.config.data import QUESTIONS
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.loading.collate import AnswerTexts
from evlvideo.inference.answering import Questionnaire, answer_texts, check_asks
from evlvideo.models.processing import EvlVideoProcessor


def answers_of(config: RunConfig, processor: EvlVideoProcessor) -> AnswerTexts | None:
    """Return what tokenizes the answers that a run trains on; None if it trains on captions alone.

    Raises:
        UserError: the checkpoint's texts have no place for questions.
    """
    if not config.data.has_questions:
        return None
    check_asks(processor, config.answering)
    return partial(answer_texts, processor, config.answering)


def questionnaire_of(
    config: RunConfig, processor: EvlVideoProcessor, clips: Iterable[CaptionedClip]
) -> Questionnaire | None:
    """Return what asks a run's validation questions; None if it validates by captions.

    Raises:
        UserError: the checkpoint's texts have no place for questions.
    """
    if config.data.kind != QUESTIONS:
        return None
    check_asks(processor, config.answering)
    clips = list(clips)
    firsts: dict[Hashable, str] = {}
    for clip in clips:
        firsts.setdefault((clip.video, clip.start_seconds, clip.end_seconds), clip.clip_id)
    questions = {clip.clip_id: str(clip.question) for clip in clips}
    return Questionnaire(processor, config.answering, questions, frozenset(firsts.values()))
