import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState, TrainingArguments

from evlvideo.results.validation_records import Sample, ValidationRecord, append_record, read_records
from evlvideo.training.run_log import RunLog

ENTRIES: list[dict[str, Any]] = [
    {"step": 1, "loss": 2.5, "learning_rate": 1e-4, "grad_norm": 0.5},
    {"step": 1, "validation_cider": 0.25},
]


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), report_to=[])


def state(entries: list[dict[str, Any]], step: int = 1) -> TrainerState:
    found = TrainerState(max_steps=4, is_local_process_zero=True, is_world_process_zero=True)
    found.log_history, found.global_step = list(entries), step
    return found


def quiet() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


def log(progress: RunLog, arguments: TrainingArguments, found: TrainerState) -> None:
    progress.on_log(arguments, found, TrainerControl(), logs=found.log_history[-1])


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def begin(progress: RunLog, arguments: TrainingArguments, found: TrainerState) -> None:
    progress.on_train_begin(arguments, found, TrainerControl())


def test_log_holds_one_json_object_a_line(tmp_path: Path, arguments: TrainingArguments) -> None:
    progress = RunLog(tmp_path, quiet())
    for count in (1, 2):
        log(progress, arguments, state(ENTRIES[:count]))
    assert lines(tmp_path) == ENTRIES


def test_a_line_is_added_without_writing_the_others_again(tmp_path: Path, arguments: TrainingArguments) -> None:
    progress = RunLog(tmp_path, quiet())
    log(progress, arguments, state(ENTRIES[:1]))
    file, size = (tmp_path / "log.jsonl").stat().st_ino, (tmp_path / "log.jsonl").stat().st_size
    log(progress, arguments, state(ENTRIES))
    assert (tmp_path / "log.jsonl").stat().st_ino == file
    assert (tmp_path / "log.jsonl").read_bytes()[size:].count(b"\n") == 1


@pytest.mark.parametrize("torn", ["", '{"step": 2, "lo', '{"step": 2, "loss": 9.0}'])
def test_log_of_a_resumed_run_drops_what_the_checkpoint_does_not_know(
    tmp_path: Path, arguments: TrainingArguments, torn: str
) -> None:
    killed = [*ENTRIES, {"step": 2, "loss": 8.0}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in killed) + torn)
    progress = RunLog(tmp_path, quiet())
    begin(progress, arguments, state(ENTRIES))
    resumed = [*ENTRIES, {"step": 2, "loss": 2.0}]
    log(progress, arguments, state(resumed))
    assert lines(tmp_path) == resumed


def test_a_run_that_starts_anew_drops_the_log_of_one_without_a_checkpoint(
    tmp_path: Path, arguments: TrainingArguments
) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 9.0}\n')
    begin(RunLog(tmp_path, quiet()), arguments, state([], step=0))
    assert not (tmp_path / "log.jsonl").exists()


def test_other_processes_write_no_log(tmp_path: Path, arguments: TrainingArguments) -> None:
    found = state(ENTRIES)
    found.is_world_process_zero = False
    begin(RunLog(tmp_path, quiet()), arguments, found)
    log(RunLog(tmp_path, quiet()), arguments, found)
    assert not (tmp_path / "log.jsonl").exists()


def test_log_line_names_run_step_and_values(
    tmp_path: Path, arguments: TrainingArguments, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "finetune"
    with caplog.at_level(logging.INFO, "evlvideo"):
        log(RunLog(directory, quiet()), arguments, state(ENTRIES[:1]))
        log(RunLog(directory, quiet()), arguments, state(ENTRIES))
    assert caplog.messages == [
        "finetune step 1/4  loss 2.500  lr 1.0e-04  gradient norm 0.50",
        "finetune step 1/4  validation CIDEr 25.0",
    ]


def test_what_is_not_for_people_is_not_a_log_line(
    tmp_path: Path, arguments: TrainingArguments, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "evlvideo"):
        log(RunLog(tmp_path, quiet()), arguments, state([{"step": 4, "train_runtime": 3.0}]))
    assert caplog.messages == []


@pytest.mark.parametrize("terminal, shown", [(True, True), (False, False)])
def test_bar_is_drawn_on_a_terminal_only(
    tmp_path: Path, arguments: TrainingArguments, terminal: bool, shown: bool
) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    progress = RunLog(tmp_path / "finetune", console)
    progress.on_train_begin(arguments, state([], step=0), TrainerControl())
    progress.on_step_end(arguments, state([], step=3), TrainerControl())
    progress.on_train_end(arguments, state([], step=3), TrainerControl())
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("finetune" in written and "3/4" in written) is shown


def test_closing_twice_does_no_harm(tmp_path: Path, arguments: TrainingArguments) -> None:
    progress = RunLog(tmp_path, Console(file=io.StringIO(), force_terminal=True))
    progress.on_train_begin(arguments, state([], step=0), TrainerControl())
    progress.close()
    progress.close()


VALIDATION = {
    "step": 1,
    "validation_cider": 0.1234,
    "validation_loss": 3.25,
    "validation_distinct": 0.5,
    "validation_clips": 4,
    "validation_prompt_between": 0.0015,
    "validation_prompt_within": 2.0,
    "validation_prompt_norm": 9.0,
}
RECORD = ValidationRecord(
    1, (Sample("video0", "a cat", ("a cat runs", "cats")), Sample("video2", "", ())), ("prompts-alike: so.",)
)


def report(progress: RunLog, arguments: TrainingArguments, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.INFO, "evlvideo"):
        log(progress, arguments, state([ENTRIES[0], VALIDATION]))
    return caplog.messages


def test_validation_line_stands_beside_the_training_loss_and_has_samples_and_warnings(
    tmp_path: Path, arguments: TrainingArguments, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "finetune"
    assert report(RunLog(directory, quiet(), lambda: RECORD), arguments, caplog) == [
        "finetune step 1/4  loss 2.500  validation loss 3.250  validation CIDEr 12.3  distinct 50%  "
        "prompts 0.0015 apart between clips  2 within  norm 9",
        "finetune video0: a cat",
        "finetune   references: a cat runs · cats",
        "finetune video2: (no words)",
        "finetune   references: (none)",
        "finetune step 1  prompts-alike: so.",
    ]
    assert [record.levelname for record in caplog.records][-1] == "WARNING"
    assert list(read_records(directory)) == [RECORD]


def test_the_loss_of_a_self_critical_run_does_not_stand_beside_the_validation_loss(
    tmp_path: Path, arguments: TrainingArguments, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "evlvideo"):
        log(RunLog(tmp_path, quiet()), arguments, state([{**ENTRIES[0], "reward": 1.0}, VALIDATION]))
    assert "step 1/4  validation loss 3.250" in caplog.messages[0]


def test_a_resumed_run_drops_later_validations(tmp_path: Path, arguments: TrainingArguments) -> None:
    records = [ValidationRecord(step, RECORD.samples) for step in (1, 2)]
    for record in records:
        append_record(tmp_path, record)
    begin(RunLog(tmp_path, quiet()), arguments, state(ENTRIES, step=1))
    assert list(read_records(tmp_path)) == records[:1]


def test_other_processes_report_no_validation(
    tmp_path: Path, arguments: TrainingArguments, caplog: pytest.LogCaptureFixture
) -> None:
    found = state([VALIDATION])
    found.is_world_process_zero = False
    with caplog.at_level(logging.INFO, "evlvideo"):
        log(RunLog(tmp_path, quiet(), lambda: RECORD), arguments, found)
    assert caplog.messages == []
    assert not read_records(tmp_path)
