"""The captions of a job in other forms, each read back by what reads that form."""

from pathlib import Path

import pytest

from evlvideo.corpus.exports import export
from evlvideo.corpus.job import caption_corpus
from evlvideo.corpus.output import Made, Parts, read_records
from evlvideo.corpus.rows import Row
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.readers import jsonl, webvid
from evlvideo.errors import UserError

MADE_BY = {"model": "m", "weights": "w", "decoding": {"seed": 1}}


def fill(directory: Path, rows: list[Row]) -> None:
    parts = Parts(directory, MADE_BY)
    parts.write([(row, Made((f"text of {row.id}", "more"), (-0.5, -1.0), 4)) for row in rows])
    parts.begin_next()
    parts.write([(Row("bad", "/media/bad.mp4"), Made(error="broken"))])


ROWS = [
    Row("whole", "/media/a/clip.mp4"),
    Row("part", "/media/a/clip.mp4", 1.0, 2.5),
    Row("same name", "/media/b/clip.mp4"),
    Row("image", "/media/picture.jpg"),
    Row("member", "/media/0.tar::x/1.mp4"),
    Row("leads out", "/media/0.tar::../../etc/2.mp4"),
]


def test_the_dataset_has_the_rows_as_clips(tmp_path: Path) -> None:
    fill(tmp_path / "out", ROWS)
    told = export(tmp_path / "out", ["jsonl"], MADE_BY, "validate")
    file = tmp_path / "out/captions.jsonl"
    assert told == [
        f"{file}: Train on it with dataset: jsonl, root: {tmp_path}/out, video_root: /media. 2 rows are left out: in "
        "tar shards, which it cannot name."
    ]
    clips = list(jsonl.read(tmp_path / "out", Path("/media"), "validate"))
    assert clips[1] == CaptionedClip(
        "part", Path("/media/a/clip.mp4"), ("text of part", "more"), None, None, 1.0, 2.5, generated_by="m (w)"
    )
    assert [(clip.clip_id, str(clip.video)) for clip in clips] == [(row.id, row.path) for row in ROWS[:4]]


def test_webvids_form_is_read_as_webvid_and_has_whole_videos(tmp_path: Path) -> None:
    fill(tmp_path / "out", ROWS)
    (line,) = export(tmp_path / "out", ["webvid"], MADE_BY, "train")
    assert "4 rows are left out: no whole .mp4 files." in line
    (tmp_path / "out/webvid.csv").rename(tmp_path / "results_2M_train.csv")
    clips = list(webvid.read(tmp_path, Path("/media"), "train"))
    assert [(str(clip.video), clip.captions) for clip in clips] == [
        (row.path, (f"text of {row.id}",)) for row in (ROWS[0], ROWS[2])
    ]


def test_each_row_has_a_text_file_that_stays_in_its_folder(tmp_path: Path) -> None:
    fill(tmp_path / "out", ROWS)
    (tmp_path / "out/txt").mkdir()
    (tmp_path / "out/txt/of an earlier call.txt").touch()
    export(tmp_path / "out", ["txt"], MADE_BY, "train")
    files = {str(file.relative_to(tmp_path / "out/txt")) for file in (tmp_path / "out/txt").rglob("*.txt")}
    assert files == {
        "a/clip.txt",
        "a/clip.part.txt",
        "b/clip.txt",
        "picture.txt",
        "0/x/1.txt",
        "etc/2.txt",
    }
    assert (tmp_path / "out/txt/a/clip.txt").read_text() == "text of whole\nmore\n"


def test_an_unknown_form_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="The form 'xml' is unknown; allowed: jsonl, webvid, txt, srt, vtt"):
        caption_corpus([tmp_path], "mini", tmp_path / "out", also=["jsonl", "xml"])
    assert not (tmp_path / "out").exists()


def test_nothing_to_export_is_no_error(tmp_path: Path) -> None:
    Parts(tmp_path, MADE_BY)
    assert export(tmp_path, ["jsonl", "txt"], MADE_BY, "train") == []
    assert list(read_records(tmp_path)) == []


def test_exports_and_tables_keep_names_of_any_script(tmp_path: Path) -> None:
    fill(tmp_path / "out", [Row("ü", '/media/日本, "x".mp4')])
    export(tmp_path / "out", ["jsonl", "webvid", "txt"], MADE_BY, "train")
    (clip,) = jsonl.read(tmp_path / "out", Path("/media"), "train")
    assert (clip.clip_id, clip.video) == ("ü", Path('/media/日本, "x".mp4'))
    assert (tmp_path / 'out/txt/日本, "x".txt').exists()
