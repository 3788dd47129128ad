"""What validations saw, for people to read: sample captions and warnings, one JSON object a line."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evlvideo.files import parse_object, write_text
from evlvideo.results.run_directory import VALIDATIONS_NAME


@dataclass(frozen=True, slots=True)
class Sample:
    """A clip's caption with some of its references."""

    clip_id: str
    caption: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ValidationRecord:
    """One validation."""

    step: int
    samples: tuple[Sample, ...] = ()
    warnings: tuple[str, ...] = ()
    """What is wrong, such as `captions-alike: …`."""


def append_record(run: Path, record: ValidationRecord) -> None:
    """Add a validation to a run's file."""
    with (run / VALIDATIONS_NAME).open("a", encoding="utf-8") as file:
        file.write(_line(record))


def keep_records(run: Path, last_step: int) -> None:
    """Drop the validations after a step, which a resumed run makes again, and half a line that a killed run left."""
    path = run / VALIDATIONS_NAME
    kept = [record for record in read_records(run) if record.step <= last_step]
    if kept:
        write_text(path, "".join(map(_line, kept)))
    else:
        path.unlink(missing_ok=True)


def read_records(run: Path) -> Sequence[ValidationRecord]:
    """Read a run's validations in order. A run without the file has none; lines that are no records are skipped."""
    path = run / VALIDATIONS_NAME
    if not path.is_file():
        return ()
    # Captions may hold other line breaks than these.
    records = map(_record, path.read_text(encoding="utf-8", errors="replace").split("\n"))
    return tuple(record for record in records if record is not None)


def _line(record: ValidationRecord) -> str:
    return json.dumps(asdict(record), ensure_ascii=False) + "\n"


def _record(line: str) -> ValidationRecord | None:
    try:
        entry = parse_object(line) or {}
        samples = (
            Sample(sample["clip_id"], sample["caption"], tuple(sample["references"])) for sample in entry["samples"]
        )
        return ValidationRecord(int(entry["step"]), tuple(samples), tuple(entry["warnings"]))
    except (KeyError, TypeError, ValueError):
        return None
