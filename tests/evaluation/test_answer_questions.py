"""A run's answers to a dataset of questions: made once, kept, continued, scored, the same however shared out."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_run import ROOT, Toy, environment

from evlvideo.config.generation import AnsweringConfig
from evlvideo.errors import UserError
from evlvideo.evaluation import answer_questions as module
from evlvideo.evaluation.answer_questions import QuestionSet, answer_questions
from evlvideo.files import read_json
from evlvideo.inference.answer_files import answer_files
from evlvideo.inference.extract_features import extract_features
from evlvideo.results.answer_records import AnswerResult

AS_FEATURES = {"train_sampling": "uniform", "augment": False}
"""What a run with features has."""
TEXTS = ["What moves?", "Which way does the ball in the middle roll?", "Is it red?"]


@pytest.fixture(scope="module")
def run(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("answers") / "run"
    toy.finished_run(directory)
    return directory


@pytest.fixture(scope="module")
def asked(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> QuestionSet:
    """One, two or three questions about each clip of the test split."""
    root = tmp_path_factory.mktemp("questions")
    write_questions(root, toy, [clip.video.name for clip in toy.clips("test")])
    return QuestionSet("jsonl_qa", root, "test", media_root=toy.data / "videos")


def write_questions(root: Path, toy: Toy, videos: Sequence[str], answers: Any = ("red", "blue")) -> None:
    lines = [
        {"video": name, "question": text, "split": "test", **({"answers": list(answers)} if answers else {})}
        for place, name in enumerate(videos)
        for text in TEXTS[: 1 + place % 3]
    ]
    (root / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def answers_of(directory: Path) -> dict[str, str]:
    return {entry["question_id"]: entry["answer"] for entry in read_json(directory / "answers.json")}


@pytest.fixture(scope="module")
def answered(run: Path, asked: QuestionSet) -> tuple[Path, AnswerResult]:
    directory, result = answer_questions(str(run), asked)
    assert result is not None
    return directory, result


def test_every_question_is_answered_as_that_of_a_file(toy: Toy, run: Path, answered: tuple[Path, AnswerResult]) -> None:
    expected: list[str] = []
    for place, clip in enumerate(toy.clips("test")):
        (file,) = answer_files([clip.video], TEXTS[: 1 + place % 3], str(run))
        expected += [answer.text for answer in file.answers]
    assert list(answers_of(answered[0]).values()) == expected


def test_the_result_is_beside_the_answers_and_says_what_it_depends_on(
    run: Path, answered: tuple[Path, AnswerResult]
) -> None:
    directory, result = answered
    assert directory == run / "answers" / "jsonl_qa-test"
    assert AnswerResult.load(directory / "result.json") == result
    assert result.prompt == "Question: {} Short answer:" and result.decoding["length_penalty"] == 0.0
    assert result.per_question.keys() == answers_of(directory).keys()
    assert result.shares.keys() == {"empty", "over_long", "cut_off"}


def test_what_was_answered_is_not_answered_again(
    run: Path, asked: QuestionSet, answered: tuple[Path, AnswerResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "answer_batches", None)
    _, again = answer_questions(str(run), asked)
    assert again is not None and again.per_question == answered[1].per_question


def test_a_call_that_was_killed_is_continued(
    run: Path, asked: QuestionSet, answered: tuple[Path, AnswerResult], tmp_path: Path
) -> None:
    lines = (answered[0] / "answers-0.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "answers-0.jsonl").write_text("".join(lines[:4]) + lines[4][:10])
    directory, result = answer_questions(str(run), asked, out=tmp_path)
    assert answers_of(directory) == answers_of(answered[0])
    assert result is not None and result.scores == answered[1].scores
    assert (tmp_path / "answers-0.jsonl").read_text().splitlines(keepends=True)[:4] == lines[:4]


def test_answers_made_with_another_prompt_are_not_continued(
    toy: Toy, run: Path, asked: QuestionSet, answered: tuple[Path, AnswerResult]
) -> None:
    config = toy.config(run, run={"answering": AnsweringConfig(prompt="{} A:")})
    with pytest.raises(UserError, match=r"other settings; name another --out[\s\S]*prompt: 'Question: \{\} Short"):
        answer_questions(str(run), asked, config=config)


def test_answers_of_another_mask_are_not_continued_and_say_so(
    toy: Toy, run: Path, asked: QuestionSet, answered: tuple[Path, AnswerResult], tmp_path: Path
) -> None:
    config = toy.config(run, model={"visual_mask": "full"})
    with pytest.raises(UserError, match=r"model\.visual_mask would make another model"):
        answer_questions(str(run), asked, config=config)
    shutil.copytree(answered[0], tmp_path / "out")
    with pytest.raises(UserError, match=r"other settings[\s\S]*model\.visual_mask: None there, 'full' asked for"):
        answer_questions(str(run), asked, config=config, out=tmp_path / "out")
    _, result = answer_questions(str(run), asked, config=config, out=tmp_path / "other")
    assert result is not None and (result.visual_mask, answered[1].visual_mask) == ("full", None)


def test_answers_are_written_before_they_are_scored(
    run: Path, asked: QuestionSet, answered: tuple[Path, AnswerResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise UserError("the scorer fails")

    monkeypatch.setattr(module, "answer_result", fail)
    with pytest.raises(UserError, match="the scorer fails"):
        answer_questions(str(run), asked, out=tmp_path)
    assert answers_of(tmp_path) == answers_of(answered[0])
    assert not (tmp_path / "result.json").exists()


def test_questions_without_answers_are_answered_and_not_scored(toy: Toy, run: Path, tmp_path: Path) -> None:
    write_questions(tmp_path, toy, [toy.clips("test")[0].video.name], answers=None)
    asked = QuestionSet("jsonl_qa", tmp_path, "test", toy.data / "videos")
    directory, result = answer_questions(str(run), asked, out=tmp_path / "out")
    assert result is None and len(answers_of(directory)) == 1


def test_a_file_that_cannot_be_decoded_is_named_and_costs_no_other_answer(toy: Toy, run: Path, tmp_path: Path) -> None:
    for clip in toy.clips("test")[:2]:
        (tmp_path / clip.video.name).write_bytes(clip.video.read_bytes())
    (tmp_path / "broken.mp4").write_bytes(b"this is no video")
    names = [clip.video.name for clip in toy.clips("test")[:2]]
    write_questions(tmp_path, toy, [names[0], "broken.mp4", names[1]])
    _, result = answer_questions(str(run), QuestionSet("jsonl_qa", tmp_path, "test"), out=tmp_path / "out")
    assert result is not None
    assert result.deviations[-1].startswith("2 of 6 questions are about files that could not be decoded: broken_1")


def test_an_image_that_is_not_there_is_told_and_nothing_is_written(toy: Toy, run: Path, tmp_path: Path) -> None:
    write_questions(tmp_path, toy, ["none.mp4"])
    with pytest.raises(UserError, match=r"1 of 1 files that questions are about are not in .*none\.mp4"):
        answer_questions(str(run), QuestionSet("jsonl_qa", tmp_path, "test"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"metrics": ["vqa"]}, "has 2 answers"),
        ({"metrics": ["accuracy"]}, "The metric is 'accuracy'; allowed: vqa"),
        ({"lemmatizer": "wordnet"}, "The lemmatizer is 'wordnet'; allowed: none, spacy"),
    ],
)
def test_what_could_not_be_scored_is_not_answered(
    run: Path,
    asked: QuestionSet,
    tmp_path: Path,
    arguments: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "open_model", None)
    with pytest.raises(UserError, match=message):
        answer_questions(str(run), asked, out=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_parts_of_one_video_are_answered_by_what_they_show(toy: Toy, run: Path, tmp_path: Path) -> None:
    name = toy.clips("test")[0].video.name
    lines = [
        {
            "video": name,
            "question": "what?",
            "split": "test",
            "answers": ["a"],
            "start_seconds": start,
            "end_seconds": end,
        }
        for start, end in ((0.0, 0.3), (0.5, 0.9))
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = QuestionSet("jsonl_qa", tmp_path, "test", toy.data / "videos")
    directory, _ = answer_questions(str(run), asked, out=tmp_path / "out")
    assert len(answers_of(directory)) == 2


def test_features_take_the_place_of_files(
    toy: Toy, run: Path, asked: QuestionSet, answered: tuple[Path, AnswerResult], tmp_path: Path
) -> None:
    config = toy.config(run, data={"features": str(tmp_path / "features"), **AS_FEATURES})
    extract_features(replace(config, init=str(run)), ["test"])
    elsewhere = replace(asked, media_root=tmp_path / "nowhere")
    directory, _ = answer_questions(str(run), elsewhere, config=config, out=tmp_path / "out")
    assert answers_of(directory) == answers_of(answered[0])


def test_clips_without_features_are_told(toy: Toy, run: Path, tmp_path: Path) -> None:
    config = toy.config(run, data={"features": str(tmp_path / "features"), **AS_FEATURES})
    extract_features(replace(config, init=str(run)), ["validate"])
    (tmp_path / "features" / "mini-validate").rename(tmp_path / "features" / "mini-test")
    write_questions(tmp_path, toy, [toy.clips("test")[0].video.name])
    asked = QuestionSet("jsonl_qa", tmp_path, "test", toy.data / "videos")
    with pytest.raises(UserError, match=r"To look at the files themselves, set data\.features=null"):
        answer_questions(str(run), asked, config=config, out=tmp_path / "out")


def test_two_processes_give_the_answers_of_one(
    run: Path, asked: QuestionSet, answered: tuple[Path, AnswerResult], tmp_path: Path
) -> None:
    path = [str(ROOT), str(ROOT / "tests" / "helpers")]
    (tmp_path / "program.py").write_text(f"import sys; sys.path[:0] = {path!r}\nimport toy_run\ntoy_run.run()")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    arguments = ["evaluate-answers", run, "--dataset", asked.dataset, "--root", asked.root, "--split", asked.split]
    arguments += ["--media-root", asked.media_root, "--out", tmp_path / "out", "answering.batch_size=2"]
    done = subprocess.run(
        [*command, str(tmp_path / "program.py"), *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert answers_of(tmp_path / "out") == answers_of(answered[0])
    assert {file.name for file in (tmp_path / "out").glob("answers-*")} == {"answers-0.jsonl", "answers-1.jsonl"}


def test_a_bare_checkpoint_needs_a_directory_for_its_answers(asked: QuestionSet) -> None:
    with pytest.raises(UserError, match="mini is no directory to write answers to; name one with --out"):
        answer_questions("mini", asked)
