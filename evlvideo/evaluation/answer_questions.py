"""Answer the questions of a split with a run's checkpoint, score the answers, and record what the scores depend on."""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from rich.console import Console
from torch.utils.data import Dataset
from transformers import set_seed

from evlvideo.assembly.datasets import evaluation_dataset
from evlvideo.assembly.models import open_model
from evlvideo.assembly.precision import resolve_precision
from evlvideo.config.run import RunConfig
from evlvideo.config.settings import flat_settings
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.facts import question_facts
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.errors import UserError, first_ten
from evlvideo.evaluation.model_facts import check_same_model, model_facts
from evlvideo.evaluation.score_answers import answer_result
from evlvideo.inference.answering import Answer, answer_batches, check_asks
from evlvideo.inference.caption_files import checkpoint_config
from evlvideo.inference.captioning import share_of
from evlvideo.inference.pipeline import Outcome
from evlvideo.metrics.answers.measures import MEASURES
from evlvideo.metrics.answers.scores import AnswerMetric, Lemmatizer, score_answers
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory, weights_digest
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.processes import is_main, join_processes, on_main_process, wait_for_all
from evlvideo.progress import Progress
from evlvideo.results.answer_files import write_answers
from evlvideo.results.answer_records import AnswerResult
from evlvideo.results.caption_log import AnswerLog
from evlvideo.results.run_directory import ANSWERS_NAME, EVALUATION_LOG_NAME, RESULT_NAME
from evlvideo.terminal import log_file

SUBMISSION_NAME = "answers.json"
"""Answers as the dataset's server wants them, in the directory of an evaluation."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """A split of a dataset of questions, and where it is."""

    dataset: str
    """A key of :data:`evlvideo.data.annotation.questions.facts.QUESTION_DATASETS`."""
    root: Path
    """Directory of the dataset."""
    split: str
    """One of its splits."""
    media_root: Path | None = None
    """Directory of the images or videos. Defaults to the dataset's folder under `root`."""
    check_counts: bool = True
    """Whether there must be as many questions and answers as published."""

    def __str__(self) -> str:
        return f"{self.dataset}:{self.split}"

    @property
    def place(self) -> dict[str, Any]:
        """Where the questions and their files are, for the record of a result."""
        media = {} if self.media_root is None else {"media_root": str(self.media_root)}
        return {"root": str(self.root), **media, "check_counts": self.check_counts}

    def read(self, *, check_files: bool) -> Sequence[Question]:
        """Read the questions; see :func:`~evlvideo.data.annotation.questions.splits.read_questions`."""
        where = (self.dataset, self.split, self.root, self.media_root)
        return read_questions(*where, check_counts=self.check_counts, check_files=check_files)


def answer_questions(
    run: str,
    asked: QuestionSet,
    *,
    config: RunConfig | None = None,
    overrides: list[str] | None = None,
    out: Path | None = None,
    metrics: Sequence[AnswerMetric] = (),
    lemmatizer: Lemmatizer | None = None,
    console: Console | None = None,
) -> tuple[Path, AnswerResult | None]:
    """Answer and score a split.

    Answers are written as they are made. A call that was interrupted is continued by the next one like it, and answers
    are in their file before they are scored. The processes that `torchrun` starts share the images.

    Args:
        run: directory of a finished run, a checkpoint, or a hub name.
        asked: the questions.
        config: frames, prompt and decoding. Defaults to the run's config, or to the default config for a bare
            checkpoint. With `data.features`, clips are read from the features of its `data.dataset` and the split of
            this name.
        overrides: `key=value` changes to the run's config.
        out: directory of the answers. Defaults to one under the run's `answers`.
        metrics: see :func:`evlvideo.evaluation.score_answers.answer_result`.
        lemmatizer: likewise.
        console: where to draw a progress bar.

    Returns:
        the directory, and the result, or None if the split has no answers to score against; in every process.

    Raises:
        UserError: there is no checkpoint, the questions or files are missing or wrong, answers to them could not be
            scored, answers of the directory were made with other settings, or no file can be decoded.
    """
    state = join_processes()
    checkpoint = checkpoint_directory(run)
    config = config or checkpoint_config(checkpoint, overrides)
    if out is None:
        check_same_model(checkpoint, config)
    directory = out or _default_directory(run, asked)
    questions = _read(asked, check_files=config.data.features is None)
    _check_scoring(questions, metrics or question_facts(asked.dataset).metrics, lemmatizer)
    log = AnswerLog(directory, _log_facts(checkpoint, asked, questions, config), process=state.process_index)
    model, processor = open_model(run, config)
    check_asks(processor, config.answering)
    set_seed(config.seed)
    if log.entries and is_main():
        logger.info("%s: %d answers of an earlier call are kept", directory, len(log.entries))
    pending = [question for question in questions if question.question_id not in log.entries]
    by_clip = _by_clip(pending)
    dataset = _dataset(config, model, processor, list(by_clip), asked.split)
    wait_for_all()  # no process writes answers before all have read the earlier ones
    with log_file(directory / EVALUATION_LOG_NAME):
        made = _answer(model, processor, dataset, by_clip, config, log, console)
        found = {**log.entries, **made}
        return directory, on_main_process(
            lambda: _write(directory, asked, questions, found, config, run, model.config, metrics, lemmatizer)
        )


def _read(asked: QuestionSet, *, check_files: bool) -> Sequence[Question]:
    """Read the questions in every process; the main one alone looks for their files."""
    if not check_files or PartialState().num_processes == 1:
        return asked.read(check_files=check_files)
    on_main_process(lambda: len(asked.read(check_files=True)))
    return asked.read(check_files=False)


def _check_scoring(
    questions: Sequence[Question], metrics: Sequence[AnswerMetric], lemmatizer: Lemmatizer | None
) -> None:
    """Find out before questions are answered whether the answers can be scored, if there is something to score against.

    Raises:
        UserError: a metric or lemmatizer is unknown or not installed, or the answers of some questions do not do.
    """
    if not any(question.answers for question in questions):
        return
    bare = [question for question in questions if not question.answers]
    few = bare[:1] or questions[:1]
    for metric in metrics:
        score_answers(
            {question.question_id: "" for question in few}, few, metric=metric, lemmatizer=lemmatizer or "none"
        )
        for question in questions:
            MEASURES[metric]("", question)


def _default_directory(run: str, asked: QuestionSet) -> Path:
    if not Path(run).is_dir():
        raise UserError(f"{run} is no directory to write answers to; name one with --out.")
    return Path(run) / ANSWERS_NAME / f"{asked.dataset}-{asked.split}"


def _log_facts(
    checkpoint: Path, asked: QuestionSet, questions: Sequence[Question], config: RunConfig
) -> dict[str, Any]:
    """Collect what answers depend on. Answers that depend on something else are not continued."""
    texts = hashlib.sha256(repr([(one.question_id, one.clip_id, one.text) for one in questions]).encode())
    return {
        "weights": weights_digest(checkpoint),
        "data": str(asked),
        "questions": texts.hexdigest(),
        **flat_settings({"model": asdict(config.model)}),
        **answering_facts(config),
        "seed": config.seed,
        "precision": resolve_precision(config.training.precision),
    }


def answering_facts(config: RunConfig) -> dict[str, Any]:
    """Return what answers depend on beside the model. Leaves out the batch size."""
    answering = {name: value for name, value in asdict(config.answering).items() if name != "batch_size"}
    return {**answering, "num_frames": config.data.num_frames, "sampling": config.data.eval_sampling}


def _by_clip(questions: Sequence[Question]) -> dict[CaptionedClip, list[Question]]:
    """Group questions by what they are about, each once, in the order of the first question about it."""
    found: dict[tuple[str, float | None, float | None], list[Question]] = defaultdict(list)
    for one in questions:
        found[one.clip_id, one.start_seconds, one.end_seconds].append(one)
    parts = Counter(clip_id for clip_id, _, _ in found)
    return {
        CaptionedClip(
            # Several parts of one video have names of their own.
            clip_id if parts[clip_id] == 1 else f"{clip_id}@{start}-{end}",
            asked[0].video,
            (),
            start_seconds=start,
            end_seconds=end,
        ): asked
        for (clip_id, start, end), asked in found.items()
    }


def _dataset(
    config: RunConfig,
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    clips: Sequence[CaptionedClip],
    split: str,
) -> Dataset[dict[str, Any]] | None:
    if not clips:
        return None
    try:
        return evaluation_dataset(config.data, model, processor, clips, split)
    except UserError as error:
        if config.data.features is None:
            raise
        raise UserError(f"{error} To look at the files themselves, set data.features=null.") from error


def _answer(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    dataset: Dataset[dict[str, Any]] | None,
    by_clip: Mapping[CaptionedClip, Sequence[Question]],
    config: RunConfig,
    log: AnswerLog,
    console: Console | None,
) -> dict[str, Any]:
    """Answer questions, and return question → entry of the log, in every process."""
    if dataset is None:
        return {}
    of_clip = {clip.clip_id: asked for clip, asked in by_clip.items()}
    texts = {clip_id: [question.text for question in asked] for clip_id, asked in of_clip.items()}
    batches = answer_batches(model, processor, dataset, texts, config.answering, num_workers=config.data.num_workers)
    log.open()
    made: dict[str, Any] = {}
    with Progress(
        "answering", sum(map(len, share_of(dataset, config.answering.batch_size))), console=console
    ) as progress:
        for outcomes in progress.track(batches, count=len):
            entries = dict(_entries(outcomes, of_clip))
            log.append(entries)
            made |= entries
    return dict(gather_object(list(made.items())))


def _entries(
    outcomes: Sequence[Outcome[list[Answer]]], of_clip: Mapping[str, Sequence[Question]]
) -> Iterator[tuple[str, Any]]:
    for clip_id, answers, _ in outcomes:
        if answers is not None:
            for question, answer in zip(of_clip[clip_id], answers, strict=True):
                yield question.question_id, [answer.text, answer.ended]


def _write(
    directory: Path,
    asked: QuestionSet,
    questions: Sequence[Question],
    found: Mapping[str, Any],
    config: RunConfig,
    run: str,
    evaluated: EvlVideoConfig,
    metrics: Sequence[AnswerMetric],
    lemmatizer: Lemmatizer | None,
) -> AnswerResult | None:
    """Write the answers, then score them and write the result."""
    answered = [question for question in questions if question.question_id in found]
    if not answered:
        raise UserError("No file could be decoded, so there are no answers; see the log above.")
    answers = {question.question_id: str(found[question.question_id][0]) for question in answered}
    write_answers(directory / SUBMISSION_NAME, answers, question_facts(asked.dataset).result_keys)
    lost = [question.question_id for question in questions if question.question_id not in found]
    missing = f"{len(lost)} of {len(questions)} questions are about files that could not be decoded: {first_ten(lost)}"
    if lost:
        logger.warning("%s", missing)
    if not any(question.answers for question in questions):
        return None
    result = answer_result(
        answers,
        answered,
        dataset=asked.dataset,
        split=asked.split,
        name=Path(run).name,
        metrics=metrics,
        lemmatizer=lemmatizer,
        cut_off={question_id for question_id in answers if not found[question_id][1]},
        decoding=answering_facts(config),
        prompt=config.answering.prompt,
        seed=config.seed,
        checkpoint=run,
        data=asked.place,
        **model_facts(checkpoint_directory(run), evaluated),
    )
    if lost:
        result.deviations.append(missing)
    result.save(directory / RESULT_NAME)
    return result
