"""Captions that lose their ending are counted, and told once."""

import logging

import pytest
import torch
from tiny_models import character_tokenizer

from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.text.cut_texts import CutTexts


def test_texts_beyond_the_limit_lose_their_ending() -> None:
    processor = EvlVideoProcessor(character_tokenizer(), max_text_tokens=7)
    batch = processor.text(["a dog", "a dogs", "ab", "a red ball"])
    assert processor.lost_endings(batch["input_ids"], batch["attention_mask"]).tolist() == [False, True, False, True]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


def test_the_first_cut_captions_are_told_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    counted = CutTexts(7)
    with caplog.at_level(logging.INFO, "evlvideo"):
        counted.note(torch.tensor([False, False]))
        counted.tell()
        assert lines(caplog) == []
        counted.note(torch.tensor([True, False]))
        counted.tell()
        counted.note(torch.tensor([True, True]))
        counted.tell()
    (line,) = lines(caplog)
    assert line.startswith("1 of 4 captions so far were cut off at text.max_tokens=7; raise")


def test_the_whole_run_is_told_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    counted = CutTexts(7)
    with caplog.at_level(logging.INFO, "evlvideo"):
        counted.note(torch.tensor([True, False]))
        counted.tell()
        counted.note(torch.tensor([True, True]))
        counted.tell(finished=True)
    assert lines(caplog)[1] == "3 of 4 captions so far were cut off at text.max_tokens=7"


def test_a_run_without_them_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    counted = CutTexts(7)
    with caplog.at_level(logging.INFO, "evlvideo"):
        counted.tell(finished=True)
    assert lines(caplog) == []
