"""Run the image half in miniature: pre-train captioners in one stage, let them caption and answer, and compare."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from evlvideo.comparison.compare import Comparison, compare
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.data.annotation.splits import dataset_root
from evlvideo.errors import Interrupted
from evlvideo.evaluation.answer_questions import QuestionSet, answer_questions
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.evaluation.other_clips import drop_line, evaluate_other_clips
from evlvideo.evaluation.score_answers import answer_result
from evlvideo.experiments.demo_folders import demo_config, make_room
from evlvideo.experiments.parallel import parallel_trainings
from evlvideo.metrics.answers.blind import blind_answers
from evlvideo.metrics.answers.measures import title_of
from evlvideo.metrics.meteor import MeteorProcess
from evlvideo.processes import usable_cores
from evlvideo.results.answer_records import AnswerResult

logger = logging.getLogger(__name__)

DATASET, SPLIT = "mini_images", "test"
PRETRAINED = {"tomeformer": "pretrain", "average_pool": "average_pool"}
"""Runs that are pre-trained, and their configs."""
_ACCURACY = "vqa_accuracy"
BLIND, REPORT = "blind", "report"
FOLDERS = (*PRETRAINED, BLIND, REPORT)


@dataclass(frozen=True, slots=True)
class ImageDemo:
    """What an image demo found."""

    comparison: Comparison
    """The pre-trained captioners, by their captions."""
    drops: dict[str, str]
    """Run → what its captions lose on other pictures."""
    answers: dict[str, AnswerResult]
    """Scores of answers: the most frequent ones of each question type, and those of each run, zero-shot."""


def run_image_demo(out: Path, *, seed: int) -> ImageDemo:
    """Pre-train, caption, answer and compare.

    Args:
        out: directory of the runs and the report; an earlier demo there is replaced.
        seed: seeds every run.

    Raises:
        UserError: `out` holds something other than a demo.
        Interrupted: a signal stopped it.
    """
    started = time.perf_counter()
    make_room(out, FOLDERS)
    root = dataset_root(DATASET, None)  # rendered once, before the processes start
    try:
        drops, answers = _train_and_evaluate(out, root, seed)
    except (Interrupted, KeyboardInterrupt) as error:
        raise Interrupted("The demo was stopped; it starts over when it is run again.") from error
    comparison = compare([out / name for name in PRETRAINED], out=out / REPORT)
    logger.info("the demo took %.0f s", time.perf_counter() - started)
    return ImageDemo(comparison, drops, {BLIND: blind_result(root, out / BLIND), **answers})


def answer_line(name: str, result: AnswerResult) -> str:
    """Format the accuracy of a run's answers, overall and by answer type, in percent."""
    by_type = ", ".join(f"{kind} {100 * means[_ACCURACY].value:.1f}" for kind, means in result.answer_types.items())
    score = result.scores[_ACCURACY]
    interval = f"[{100 * score.low:.1f}, {100 * score.high:.1f}]"
    return f"{name}: {title_of(_ACCURACY)} {100 * score.value:.1f} {interval}; {by_type}"


def blind_result(root: Path, out: Path) -> AnswerResult:
    """Score and write the most frequent answers of training by question type, which need no picture."""
    trained, asked = (read_questions(DATASET, split, root) for split in ("train", SPLIT))
    result = answer_result(blind_answers(trained, asked), asked, dataset=DATASET, split=SPLIT, name=BLIND)
    result.save(out / "result.json")
    return result


def _train_and_evaluate(out: Path, root: Path, seed: int) -> tuple[dict[str, str], dict[str, AnswerResult]]:
    drops: dict[str, str] = {}
    answers: dict[str, AnswerResult] = {}
    asked = QuestionSet(DATASET, root, SPLIT)
    with parallel_trainings(min(usable_cores(), len(PRETRAINED))) as start, MeteorProcess() as meteor:
        trainings = {
            name: start(demo_config(f"image/{config}", out / name, seed)) for name, config in PRETRAINED.items()
        }
        for name, training in trainings.items():
            training.result()
            evaluate(out / name, meteor=meteor)
            plain, moved = evaluate_other_clips(out / name)
            drops[name] = drop_line(plain, moved)
            _, result = answer_questions(str(out / name), asked)
            assert result is not None, "the split has answers"
            answers[f"{name}, zero-shot"] = result
    return drops, answers
