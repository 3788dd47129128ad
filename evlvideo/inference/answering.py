"""Answer questions about every clip of a dataset, in one process or several."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from evlvideo.config.generation import QUESTION, AnsweringConfig
from evlvideo.inference.captioning import decoding_arguments, encode_batches
from evlvideo.inference.pipeline import Outcome, batches_of
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.text.question import clean_question


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that a model generated."""

    text: str
    ended: bool
    """Whether it reached its ending, rather than the limit of new tokens."""


def asked(question: str, answering: AnsweringConfig) -> str:
    """Put a question into the prompt, cleaned if so configured."""
    return answering.prompt.replace(QUESTION, clean_question(question) if answering.clean else question)


def answer_texts(
    processor: EvlVideoProcessor, answering: AnsweringConfig, captions: Sequence[str], questions: Sequence[str | None]
) -> dict[str, Tensor]:
    """Tokenize answers to train on, behind their questions as :func:`answer_batches` asks them.

    Args:
        processor: tokenizes them.
        answering: the prompt.
        captions: `B` answers, and captions among them.
        questions: the question of each answer, as it stands in its file; None for a caption.

    Returns:
        as :meth:`EvlVideoProcessor.text`.
    """
    prompts = [None if question is None else asked(question, answering) for question in questions]
    return processor.text(captions, prompts, max_prompt_tokens=answering.max_prompt_tokens)


class Questionnaire:
    """Asks a question about each clip, and tokenizes its answers.

    Args:
        processor: tokenizes them.
        answering: the prompt.
        questions: clip id → its question, as it stands in its file.
        firsts: the first clip of those that ask about one picture. Defaults to all.
    """

    def __init__(
        self,
        processor: EvlVideoProcessor,
        answering: AnsweringConfig,
        questions: Mapping[str, str],
        firsts: Collection[str] | None = None,
    ) -> None:
        self._processor, self._answering, self._questions = processor, answering, questions
        self.firsts = questions.keys() if firsts is None else firsts

    def ask(self, clip_ids: Sequence[str]) -> dict[str, Tensor]:
        """Tokenize the questions of clips, as :meth:`EvlVideoProcessor.questions` does."""
        prompts = [asked(self._questions[clip_id], self._answering) for clip_id in clip_ids]
        return self._processor.questions(prompts, max_tokens=self._answering.max_prompt_tokens)

    def answers(self, texts: Sequence[str], clip_ids: Sequence[str]) -> dict[str, Tensor]:
        """Tokenize an answer to the question of each clip, as :func:`answer_texts` does."""
        questions = [self._questions[clip_id] for clip_id in clip_ids]
        return answer_texts(self._processor, self._answering, texts, questions)


def check_asks(processor: EvlVideoProcessor, answering: AnsweringConfig) -> None:
    """Check that a checkpoint's texts have a place for questions, before anything is decoded.

    Raises:
        UserError: they have none.
    """
    processor.questions([asked("", answering)], max_tokens=answering.max_prompt_tokens)


def answer_batches(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    dataset: Dataset[dict[str, Any]],
    questions: Mapping[str, Sequence[str]],
    answering: AnsweringConfig,
    *,
    num_workers: int = 0,
) -> Iterator[list[Outcome[list[Answer]]]]:
    """Answer the questions of this process's share of the clips. Each clip is encoded and read once.

    Neither batches nor the number of processes change an answer of greedy or beam search.

    Args:
        model: the captioner; in eval mode meanwhile.
        processor: its processor.
        dataset: items of one clip each.
        questions: clip id → its questions, as they stand in a file.
        answering: prompt and decoding. `batch_size` clips are encoded, and as many questions answered, at once.
        num_workers: upper bound of processes that decode video.

    Yields:
        for each batch, the answers to the questions of each clip, in order.
    """

    def answer(soft_prompt: Tensor, clip_ids: Sequence[str]) -> list[list[Answer]]:
        prompt = model.read_prompt(soft_prompt)
        texts = [asked(text, answering) for clip_id in clip_ids for text in questions[clip_id]]
        counts = [len(questions[clip_id]) for clip_id in clip_ids]
        clips = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(soft_prompt.device)
        answers: list[Answer] = []
        for batch in batches_of(len(texts), answering.batch_size):
            rows = slice(batch.start, batch.stop)
            given: dict[str, Any] = processor.questions(texts[rows], max_tokens=answering.max_prompt_tokens)
            given |= decoding_arguments(answering, processor.tokenizer)
            tokens = model.generate(prompt=prompt.of_clips(clips[rows]), **given).cpu()
            answers += map(Answer, processor.captions(tokens), processor.ended(tokens))
        found = iter(answers)
        return [[next(found) for _ in range(count)] for count in counts]

    return encode_batches(model, dataset, answer, batch_size=answering.batch_size, num_workers=num_workers)
