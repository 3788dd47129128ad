"""Questions about clips are answered one by one, in whatever batches, and files are answered as clips are."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from toy_run import Toy

from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.config.generation import AnsweringConfig
from evlvideo.errors import UserError
from evlvideo.inference import answer_files as answer_files_module
from evlvideo.inference.answer_files import answer_files
from evlvideo.inference.answering import Answer, answer_batches, asked
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor

ANSWERING = AnsweringConfig(num_beams=2)
QUESTIONS = ["What moves?", "Which way does the ball in the middle of the picture roll?", "Is it red?"]


@pytest.fixture(scope="module")
def opened(toy: Toy) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    return open_model(toy.checkpoint, toy.config(Path("unused")))


@pytest.fixture(scope="module")
def clips(toy: Toy, opened: tuple[EvlVideoForCaptioning, EvlVideoProcessor]) -> Dataset[dict[str, Any]]:
    return video_dataset(toy.config(Path("unused")).data, opened[1], toy.clips("test"))


@pytest.fixture(scope="module")
def questions(toy: Toy) -> dict[str, list[str]]:
    """One, two or three questions about each clip."""
    return {clip.clip_id: QUESTIONS[: 1 + place % 3] for place, clip in enumerate(toy.clips("test"))}


def answers_of(
    opened: tuple[EvlVideoForCaptioning, EvlVideoProcessor],
    clips: Dataset[dict[str, Any]],
    questions: dict[str, list[str]],
    answering: AnsweringConfig,
) -> dict[str, list[Answer] | None]:
    outcomes = chain.from_iterable(answer_batches(*opened, clips, questions, answering))
    return {outcome.clip_id: outcome.result for outcome in outcomes}


def test_the_prompt_holds_the_cleaned_question() -> None:
    assert asked("Is it RED?!", AnsweringConfig()) == "Question: is it red? Short answer:"
    assert asked("Is it RED?!", AnsweringConfig(clean=False, prompt="{} A:")) == "Is it RED?!  A:".replace("  ", " ")


def test_a_prompt_without_a_place_for_the_question_is_refused(toy: Toy) -> None:
    with pytest.raises(UserError, match=r"answering\.prompt is 'Say it\.'; it must hold \{\} once"):
        toy.config(Path("unused"), run={"answering": AnsweringConfig(prompt="Say it.")})


def test_lengths_that_contradict_each_other_are_named_by_their_section(toy: Toy) -> None:
    with pytest.raises(UserError, match=r"answering\.min_new_tokens is 20, more than answering\.max_new_tokens, 10"):
        toy.config(Path("unused"), run={"answering": AnsweringConfig(min_new_tokens=20)})


def test_each_question_of_each_clip_is_answered_as_if_it_were_alone(
    opened: tuple[EvlVideoForCaptioning, EvlVideoProcessor],
    clips: Dataset[dict[str, Any]],
    questions: dict[str, list[str]],
) -> None:
    model, processor = opened
    found = answers_of(opened, clips, questions, ANSWERING)
    assert list(found) == list(questions)
    for place, clip_id in enumerate(questions):
        for text, answer in zip(questions[clip_id], found[clip_id] or [], strict=True):
            ids = torch.tensor(processor.tokenizer(asked(text, ANSWERING), add_special_tokens=False)["input_ids"])
            tokens = model.generate(
                clips[place]["pixel_values"][None], prompt_ids=ids, num_beams=2, max_new_tokens=10, length_penalty=0.0
            )
            assert answer == Answer(processor.captions(tokens)[0], processor.ended(tokens)[0])


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_batch_size_changes_no_answer(
    opened: tuple[EvlVideoForCaptioning, EvlVideoProcessor],
    clips: Dataset[dict[str, Any]],
    questions: dict[str, list[str]],
    batch_size: int,
) -> None:
    expected = answers_of(opened, clips, questions, ANSWERING)
    assert answers_of(opened, clips, questions, replace(ANSWERING, batch_size=batch_size)) == expected


def test_files_get_the_answers_that_clips_get(
    toy: Toy, opened: tuple[EvlVideoForCaptioning, EvlVideoProcessor], clips: Dataset[dict[str, Any]], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no video")
    videos = [clip.video for clip in toy.clips("test")[:2]]
    config = toy.config(tmp_path, run={"answering": ANSWERING})
    found = list(answer_files([videos[0], broken, videos[1]], QUESTIONS[:2], str(toy.checkpoint), config=config))
    every = {clip.clip_id: QUESTIONS[:2] for clip in toy.clips("test")}
    expected = list(answers_of(opened, clips, every, ANSWERING).values())[:2]
    assert [file.answers for file in found] == [expected[0], [], expected[1]]
    assert "cannot be decoded" in str(found[1].bad)


@pytest.mark.parametrize(
    "files, questions, message",
    [
        ([], ["why?"], "No videos were given"),
        (["none.png"], ["why?"], "1 of 1 videos do not exist"),
        (["none.png"], [" "], r"The questions are \[' '\]; give at least one"),
    ],
)
def test_what_is_missing_is_told_before_a_model_is_opened(
    files: list[str], questions: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_files_module, "open_model", None)
    with pytest.raises(UserError, match=message):
        answer_files([Path(name) for name in files], questions, "mini")
