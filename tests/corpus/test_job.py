"""Every row comes out once, as captions or as an error, by however many calls it takes."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from tiny_shards import write_shard

from evlvideo.corpus import output
from evlvideo.corpus.job import Finished, caption_corpus, write_parts
from evlvideo.corpus.output import JOB_NAME, OUTPUT_SCHEMA, Made, Parts, files_of, read_records
from evlvideo.corpus.rows import Row, row_id
from evlvideo.corpus.stages import CaptionBatches
from evlvideo.errors import Interrupted, UserError
from evlvideo.inference.caption_files import caption_files

SAMPLED = ["generation.do_sample=true", "generation.temperature=0.7", "generation.batch_size=2"]


def work(captioner: Path, sources: list[Path], out: Path, changes: list[str] | None = None, **more: Any) -> Finished:
    changes = changes or ["generation.batch_size=2"]
    return caption_corpus(sources, str(captioner), out, overrides=changes, part_rows=2, **more)


def outcomes(out: Path) -> list[dict[str, Any]]:
    return list(read_records(out))


def test_rows_come_out_with_the_captions_that_files_get(captioner: Path, clips: Path, tmp_path: Path) -> None:
    made = work(captioner, [clips], tmp_path / "out", captions_per_row=2)
    assert made[:4] == (6, 1, 0, 0)
    records = outcomes(tmp_path / "out")
    names = ["broken.mp4", *(f"clip{n}.mp4" for n in range(4)), "more/clip4.mp4", "more/clip5.mp4"]
    assert [record["path"] for record in records] == [str(clips / name) for name in names]
    good = [record for record in records if record["error"] is None]
    files = caption_files([Path(record["path"]) for record in good], str(captioner), captions_per_video=2)
    assert [record["captions"] for record in good] == [file.captions for file in files]
    first = good[0]
    assert (first["id"], first["caption"], first["frames"]) == (row_id(first["path"]), first["captions"][0], 3)
    assert first["log_probability"] == first["log_probabilities"][0] < 0
    assert (first["seed"], len(first["checkpoint"]), len(first["config"])) == (42, 16, 16)
    assert "broken.mp4 cannot be decoded" in records[0]["error"]
    assert (records[0]["caption"], records[0]["captions"], records[0]["frames"]) == (None, [], None)


def test_parts_hold_whole_batches_and_their_schema(captioner: Path, clips: Path, tmp_path: Path) -> None:
    work(captioner, [clips], tmp_path / "out", ["generation.batch_size=3"])
    files = files_of(tmp_path / "out")
    assert [file.name for file in files] == [f"part-{number:06d}.parquet" for number in (1, 2, 3)]
    assert [parquet.read_metadata(file).num_rows for file in files] == [3, 3, 1]
    assert all(parquet.read_schema(file).remove_metadata() == OUTPUT_SCHEMA for file in files)


@pytest.mark.parametrize("changes", [["generation.batch_size=2"], SAMPLED], ids=["beams", "samples"])
def test_an_interrupted_call_goes_on_to_the_same_rows(
    captioner: Path, clips: Path, tmp_path: Path, changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch that the signal comes in is dropped."""
    work(captioner, [clips], tmp_path / "whole", changes)
    expected = outcomes(tmp_path / "whole")
    caption = CaptionBatches.__call__
    for last in (1, 3):
        calls = iter(range(5))

        def interrupted(self: CaptionBatches, batch: Any, last: int = last, calls: Iterator[int] = calls) -> list[Made]:
            if next(calls) == last:
                raise KeyboardInterrupt
            return caption(self, batch)

        out = tmp_path / f"out{last}"
        monkeypatch.setattr(CaptionBatches, "__call__", interrupted)
        with pytest.raises(Interrupted, match="the same command goes on"):
            work(captioner, [clips], out, changes)
        assert outcomes(out) == expected[: 2 * last]
        monkeypatch.setattr(CaptionBatches, "__call__", caption)
        made = work(captioner, [clips], out, changes)
        assert (made.earlier, made.done, made.failed) == (2 * last, 6, 1)
        assert outcomes(out) == expected


def test_a_signal_between_writing_and_going_on_writes_no_row_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts(tmp_path, {"weights": "w", "decoding": {"seed": 1}})
    rows = [(Row(str(n), f"/{n}.mp4"), Made((f"text {n}",), (-0.5,), 4)) for n in range(4)]
    write = Parts.write

    def stopped(self: Parts, made: Any) -> None:
        write(self, made)
        monkeypatch.setattr(Parts, "write", write)
        raise KeyboardInterrupt

    monkeypatch.setattr(Parts, "write", stopped)
    with pytest.raises(Interrupted):
        write_parts(parts, rows, batch_size=2, part_rows=2)
    assert [record["id"] for record in outcomes(tmp_path)] == ["0", "1"]


def test_nothing_is_done_twice_and_a_grown_source_costs_the_new_rows(
    captioner: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    work(captioner, [clips], out)
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr("evlvideo.corpus.job.open_captioner", None)  # no model is opened
        assert work(captioner, [clips], out)[:4] == (6, 1, 7, 0)
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before
    shutil.copy(clips / "clip0.mp4", clips / "added.mp4")
    assert work(captioner, [clips], out)[:4] == (7, 1, 7, 0)
    assert [record["path"] for record in outcomes(out)][7:] == [str(clips / "added.mp4")]
    assert work(captioner, [clips / "more"], out)[:4] == (2, 0, 2, 6)


def test_a_table_cuts_a_video_and_names_its_rows(captioner: Path, clips: Path, tmp_path: Path) -> None:
    entries = [
        {"path": "clip0.mp4", "id": "begin", "start": None, "end": 0.01},
        {"path": "clip0.mp4", "id": "whole", "start": None, "end": None},
        {"path": "missing.mp4", "id": "gone", "start": None, "end": None},
        {"path": "clip0.mp4", "id": "late", "start": 1e6, "end": None},
    ]
    parquet.write_table(pa.Table.from_pylist(entries), clips / "table.parquet")
    assert work(captioner, [clips / "table.parquet"], tmp_path / "out")[:2] == (2, 2)
    by_id = {record["id"]: record for record in outcomes(tmp_path / "out")}
    assert (by_id["begin"]["frames"], by_id["begin"]["end"], by_id["whole"]["frames"]) == (1, 0.01, 3)
    assert "missing.mp4" in by_id["gone"]["error"]
    assert by_id["late"]["error"]


def test_the_members_of_a_shard_are_captioned_where_they_are(captioner: Path, clips: Path, tmp_path: Path) -> None:
    names = ["clip0.mp4", "clip1.mp4"]
    shard = write_shard(tmp_path / "0.tar", {name: (clips / name).read_bytes() for name in names} | {"bad.mp4": b"x"})
    assert work(captioner, [shard], tmp_path / "out")[:2] == (2, 1)
    work(captioner, [clips / name for name in names], tmp_path / "files")
    found, expected = outcomes(tmp_path / "out"), outcomes(tmp_path / "files")
    assert [record["path"] for record in found] == [f"{shard}::{name}" for name in [*names, "bad.mp4"]]
    assert [record["caption"] for record in found[:2]] == [record["caption"] for record in expected]


def test_a_shard_that_is_gone_is_an_error_of_its_rows(captioner: Path, clips: Path, tmp_path: Path) -> None:
    paths = [f"{tmp_path}/gone.tar::a.mp4", str(clips / "clip0.mp4")]
    parquet.write_table(pa.table({"path": paths}), tmp_path / "t.parquet")
    assert work(captioner, [tmp_path / "t.parquet"], tmp_path / "out")[:2] == (1, 1)
    assert "gone.tar" in outcomes(tmp_path / "out")[0]["error"]


@pytest.mark.parametrize(
    ("changes", "more", "difference"),
    [
        (["seed=7"], {}, "decoding.seed: 42 there, 7 asked for"),
        (["generation.num_beams=3"], {}, "decoding.num_beams: 2 there, 3 asked for"),
        (["data.num_frames=2"], {}, "decoding.num_frames: 3 there, 2 asked for"),
        ([], {"captions_per_row": 2}, "decoding.captions: 1 there, 2 asked for"),
        ([], {"prompt": "a"}, "text: "),
    ],
)
def test_rows_that_were_made_otherwise_are_refused_by_name(
    captioner: Path, clips: Path, tmp_path: Path, changes: list[str], more: dict[str, Any], difference: str
) -> None:
    work(captioner, [clips / "clip0.mp4"], tmp_path / "out")
    with pytest.raises(UserError, match=difference):
        work(captioner, [clips], tmp_path / "out", ["generation.batch_size=2", *changes], **more)
    assert len(outcomes(tmp_path / "out")) == 1


def test_a_call_that_failed_before_its_first_row_binds_nobody(
    captioner: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(TypeError):
        patched.setattr("evlvideo.corpus.job.open_captioner", None)
        work(captioner, [clips / "clip0.mp4"], tmp_path / "out", ["seed=7"])
    assert work(captioner, [clips / "clip0.mp4"], tmp_path / "out")[:2] == (1, 0)


def test_another_checkpoint_is_refused(captioner: Path, clips: Path, tmp_path: Path) -> None:
    work(captioner, [clips / "clip0.mp4"], tmp_path / "out")
    other = shutil.copytree(captioner, tmp_path / "run")
    with (other / "model.safetensors").open("rb+") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    with pytest.raises(UserError, match=r"weights: '.*' there, '.*' asked for"):
        work(other, [clips], tmp_path / "out")


def test_what_is_not_a_jobs_is_neither_written_to_nor_removed(captioner: Path, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-000001.parquet").write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"holds part-000001.parquet, but no job.json, so it is not a captioning"):
            work(captioner, [clips], out, overwrite=overwrite)
    assert [file.name for file in out.iterdir()] == ["part-000001.parquet"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file; name a directory"):
        work(captioner, [clips], tmp_path / "file")


def test_overwrite_starts_anew_and_leaves_what_is_not_the_jobs(captioner: Path, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    work(captioner, [clips], out, also=["txt", "jsonl"])
    (out / "notes.md").write_text("mine")
    assert work(captioner, [clips / "more"], out, ["seed=7"], overwrite=True)[:4] == (2, 0, 0, 0)
    assert {record["seed"] for record in outcomes(out)} == {7}
    assert {file.name for file in out.glob("[!.]*")} == {JOB_NAME, "notes.md", "part-000001.parquet"}


def test_a_part_of_another_job_a_copy_and_half_a_part_are_refused(captioner: Path, clips: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    work(captioner, [clips / "clip0.mp4"], out)
    work(captioner, [clips / "clip1.mp4"], other, ["seed=7"])
    shutil.copy(out / "part-000001.parquet", out / "part-copy.parquet")
    with pytest.raises(UserError, match="stands for several rows"):
        work(captioner, [clips], out)
    shutil.copy(other / "part-000001.parquet", out / "part-copy.parquet")
    with pytest.raises(UserError, match=r"part-copy.parquet was not written by the job of .*job.json"):
        work(captioner, [clips], out)
    (out / "part-copy.parquet").write_bytes((out / "part-000001.parquet").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"part-copy.parquet cannot be read: .*; remove it, and its rows are captioned"):
        work(captioner, [clips], out)


def test_an_id_that_came_out_for_another_file_is_refused(captioner: Path, clips: Path, tmp_path: Path) -> None:
    for number in range(2):
        parquet.write_table(pa.table({"path": [f"clip{number}.mp4"], "id": ["same"]}), clips / f"{number}.parquet")
    work(captioner, [clips / "0.parquet"], tmp_path / "out")
    with pytest.raises(UserError, match=r"The id 'same' stands for several rows: .*clip0.mp4 and .*clip1.mp4"):
        work(captioner, [clips / "1.parquet"], tmp_path / "out")


def test_a_second_writer_is_refused(captioner: Path, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        output.sole_writer(tmp_path / "out" / JOB_NAME),
        pytest.raises(UserError, match="Another process writes"),
    ):
        work(captioner, [clips], tmp_path / "out")


def test_a_full_disk_is_a_sentence_and_the_same_command_goes_on(
    captioner: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = output.write_table, iter(range(9))

    def full(table: Any, path: Path) -> None:
        if next(calls):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(table, path)

    monkeypatch.setattr(output, "write_table", full)
    with pytest.raises(UserError, match=r"part-000002.parquet cannot be written: No space left on device"):
        work(captioner, [clips], tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").glob("*part*")] == ["part-000001.parquet"]
    monkeypatch.setattr(output, "write_table", write)
    assert work(captioner, [clips], tmp_path / "out")[:3] == (6, 1, 2)


def test_what_a_killed_writer_left_does_not_look_whole_and_is_removed(
    captioner: Path, clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    work(captioner, [clips / "clip0.mp4"], out)
    half = out / ".part-000002.parquet.abcd1234.parquet"
    half.write_bytes(b"PAR1")
    assert half not in files_of(out)
    work(captioner, [clips], out)
    assert not half.exists()


def test_a_batch_too_large_for_the_memory_is_halved_and_a_row_too_large_is_an_error(
    captioner: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(captioner, [clips], tmp_path / "whole", ["generation.batch_size=1"])
    from evlvideo.corpus import stages

    encode = stages.encode_and

    def small(model: Any, work_on: Any, batch: dict[str, Any]) -> Any:
        if len(batch["clip_ids"]) > 1 or batch["clip_ids"][0] == row_id(str(clips / "clip1.mp4")):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nmore")
        return encode(model, work_on, batch)

    monkeypatch.setattr(stages, "encode_and", small)
    assert work(captioner, [clips], tmp_path / "out", ["generation.batch_size=4"])[:2] == (5, 2)
    found, expected = outcomes(tmp_path / "out"), outcomes(tmp_path / "whole")
    said = "The model has no memory for it: CUDA out of memory. Tried to allocate 20 GiB."
    assert [record["caption"] or record["error"] for record in found] == [
        said if record["path"].endswith("clip1.mp4") else record["caption"] or record["error"] for record in expected
    ]
