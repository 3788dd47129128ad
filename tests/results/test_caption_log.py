import json
from pathlib import Path

import pytest

from evlvideo.errors import UserError
from evlvideo.results.caption_log import CaptionLog

FACTS = {"model": "hf:m", "decoding": {"num_beams": 2}}


def written(directory: Path, captions: dict[str, str], process: int = 0) -> Path:
    log = CaptionLog(directory, FACTS, process=process)
    log.open()
    log.append(captions)
    return directory / f"captions-{process}.jsonl"


def test_captions_of_all_processes_are_read_back(tmp_path: Path) -> None:
    written(tmp_path, {"a": "eins\u2028zwei", "b": ""})
    written(tmp_path, {"c": "drei"}, process=1)
    assert CaptionLog(tmp_path, FACTS, process=1).captions == {"a": "eins\u2028zwei", "b": "", "c": "drei"}


def test_half_a_line_is_cut_off_and_its_clip_made_again(tmp_path: Path) -> None:
    path = written(tmp_path, {"a": "one", "b": "two"})
    path.write_bytes(path.read_bytes()[:-4])
    log = CaptionLog(tmp_path, FACTS)
    assert log.captions == {"a": "one"}
    log.open()
    log.append({"b": "again"})
    assert CaptionLog(tmp_path, FACTS).captions == {"a": "one", "b": "again"}
    assert json.loads(path.read_text().splitlines()[0]) == {"facts": FACTS}


def test_the_later_caption_counts(tmp_path: Path) -> None:
    written(tmp_path, {"a": "first"})
    written(tmp_path, {"a": "second"})
    assert CaptionLog(tmp_path, FACTS).captions == {"a": "second"}


def test_captions_of_something_else_are_refused_with_every_difference(tmp_path: Path) -> None:
    path = written(tmp_path, {"a": "one"})
    with pytest.raises(UserError, match="were made with other settings") as error:
        CaptionLog(tmp_path, {"model": "hf:other", "decoding": {"num_beams": 5}})
    assert str(path) in str(error.value)
    assert "model: 'hf:m' there, 'hf:other' asked for" in str(error.value)
    assert "decoding: {'num_beams': 2} there, {'num_beams': 5} asked for" in str(error.value)


def test_a_file_without_captions_is_begun_anew(tmp_path: Path) -> None:
    CaptionLog(tmp_path, {"model": "hf:other"}).open()
    path = written(tmp_path, {"a": "one"})
    assert json.loads(path.read_text().splitlines()[0]) == {"facts": FACTS}
