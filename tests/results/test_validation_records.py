from pathlib import Path

import pytest

from evlvideo.results.validation_records import (
    Sample,
    ValidationRecord,
    append_record,
    keep_records,
    read_records,
)

SAMPLES = (Sample("video1", "ein Mann\u2028läuft\nweg", ("a man runs", "<b>")), Sample("video7", "", ()))


def records(run: Path, *steps: int) -> list[ValidationRecord]:
    made = [ValidationRecord(step, SAMPLES, ("captions-alike: 4 clips",)) for step in steps]
    for record in made:
        append_record(run, record)
    return made


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert list(read_records(tmp_path)) == []
    made = records(tmp_path, 10, 20)
    assert list(read_records(tmp_path)) == made
    assert (tmp_path / "validations.jsonl").read_text(encoding="utf-8").count("\n") == 2


@pytest.mark.parametrize("torn", ["", '{"step": 30, "sam', '{"step": 30, "samples": 3, "warnings": []}\n', "[]\n"])
def test_a_resumed_run_drops_later_validations_and_torn_lines(tmp_path: Path, torn: str) -> None:
    made = records(tmp_path, 10, 20, 30)
    with (tmp_path / "validations.jsonl").open("a") as file:
        file.write(torn)
    keep_records(tmp_path, last_step=20)
    assert list(read_records(tmp_path)) == made[:2]
    more = records(tmp_path, 30)
    assert list(read_records(tmp_path)) == made[:2] + more


def test_a_run_that_starts_anew_has_no_validations(tmp_path: Path) -> None:
    records(tmp_path, 10)
    keep_records(tmp_path, last_step=0)
    assert not (tmp_path / "validations.jsonl").exists()
    keep_records(tmp_path, last_step=0)
