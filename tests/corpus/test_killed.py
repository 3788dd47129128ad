"""Whatever ends a job, the same command goes on, and every row comes out once."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from toy_run import ROOT, environment, start

from evlvideo.corpus.job import caption_corpus
from evlvideo.corpus.output import read_records

# Batches are noted, and captioned slowly enough to be killed among them; the one that is waited for takes a minute.
SETUP = """
import os, time
from evlvideo.corpus import job, stages
job.caption_corpus.__kwdefaults__["part_rows"] = {part_rows}
caption = stages.CaptionBatches.__call__
def slowly(self, batch):
    with open({note!r}, "a") as file:
        file.write("x")
    time.sleep(60 if os.path.getsize({note!r}) == {batches} else 0.3)
    return caption(self, batch)
stages.CaptionBatches.__call__ = slowly
"""
CHANGES = ["generation.batch_size=2", "generation.do_sample=true", "data.num_workers=1"]


@pytest.fixture
def many(clips: Path) -> Path:
    """Sixteen clips, one of them broken."""
    for number in range(9):
        shutil.copy(clips / f"clip{number % 4}.mp4", clips / f"more/copy{number}.mp4")
    return clips


def command(captioner: Path, source: Path, out: Path) -> list[str]:
    changes = [word for change in CHANGES for word in ("--set", change)]
    return ["caption", str(source), "--checkpoint", str(captioner), "--out", str(out), *changes]


def outcomes(out: Path) -> list[dict[str, Any]]:
    return list(read_records(out))


def begin(captioner: Path, source: Path, out: Path, part_rows: int = 2, batches: int = 0) -> subprocess.Popen[str]:
    """Start the command, and wait until it has begun as many batches."""
    note = out.with_name("note")
    setup = SETUP.format(part_rows=part_rows, note=str(note), batches=batches)
    process = start(*command(captioner, source, out), setup=setup)
    deadline = time.monotonic() + 120
    while batches and (not note.exists() or note.stat().st_size < batches):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return process


def kill_all(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> tuple[str, str]:
    os.killpg(process.pid, number)
    return process.communicate(timeout=60)


def expected_of(captioner: Path, many: Path, tmp_path: Path) -> list[dict[str, Any]]:
    caption_corpus([many], str(captioner), tmp_path / "whole", overrides=CHANGES)
    return outcomes(tmp_path / "whole")


def test_a_killed_job_goes_on_to_the_rows_of_one_that_was_not(captioner: Path, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kill_all(begin(captioner, many, out, batches=4))
    before = outcomes(out)
    assert 4 <= len(before) < 16
    made = caption_corpus([many], str(captioner), out, overrides=CHANGES)
    assert (made.done, made.failed, made.earlier) == (15, 1, len(before))
    assert outcomes(out) == expected_of(captioner, many, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_job_with_a_sentence_and_its_whole_batches(
    captioner: Path, many: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = begin(captioner, many, out, part_rows=100, batches=4)
    _, said = kill_all(process, number)
    assert process.returncode == 130
    assert "error: Stopped by a signal; what is done is kept, and the same command goes on." in said
    assert "Traceback" not in said
    assert len(outcomes(out)) in (6, 8)
    caption_corpus([many], str(captioner), out, overrides=CHANGES)
    assert outcomes(out) == expected_of(captioner, many, tmp_path)


@pytest.mark.slow
def test_ten_kills_at_random_leave_every_row_once(captioner: Path, many: Path, tmp_path: Path) -> None:
    out, draw = tmp_path / "out", random.Random(0)
    for _ in range(10):
        process = begin(captioner, many, out)
        try:
            process.wait(draw.uniform(2, 9))
        except subprocess.TimeoutExpired:
            kill_all(process)
    caption_corpus([many], str(captioner), out, overrides=CHANGES)
    assert set(Counter(record["id"] for record in outcomes(out)).values()) == {1}
    assert outcomes(out) == expected_of(captioner, many, tmp_path)


def test_two_processes_write_what_one_does(captioner: Path, many: Path, tmp_path: Path) -> None:
    path = [str(ROOT), str(ROOT / "tests" / "helpers")]
    (tmp_path / "program.py").write_text(f"import sys; sys.path[:0] = {path!r}\nimport toy_run\ntoy_run.run()")
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*run, str(tmp_path / "program.py"), *command(captioner, many, tmp_path / "two"), "--also", "txt"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("15 rows with captions, 1 failed") == 1
    assert outcomes(tmp_path / "two") == expected_of(captioner, many, tmp_path)
