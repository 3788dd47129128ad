import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numbered import render as render_numbers
from PIL import Image
from tiny_data import render, write_layout

from evlvideo.data.annotation.facts import DATASETS
from evlvideo.data.verify import VerifyReport, verify
from evlvideo.errors import UserError

SIZES = {"train": 3, "validate": 1, "test": 2}
FACTS = replace(DATASETS["msrvtt"], clips=lambda: SIZES, captions_per_clip=2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_layout(tmp_path, SIZES, captions=2)
    (tmp_path / "videos").mkdir()
    for number in range(sum(SIZES.values())):
        (tmp_path / "videos" / f"video{number}.mp4").write_bytes(b"content")
    return tmp_path


def check(root: Path, **options: Any) -> VerifyReport:
    return verify("msrvtt", root, facts=FACTS, **options)


def jsonl(root: Path, *lines: tuple[str, str]) -> Path:
    """Lines of split and file; the files are there."""
    content = [{"video": name, "captions": ["a"], "split": split} for split, name in lines]
    (root / "captions.jsonl").write_text("\n".join(map(json.dumps, content)))
    for _, name in lines:
        (root / name).write_bytes(b"content")
    return root


def test_a_complete_data_set_is_complete(root: Path) -> None:
    report = check(root)
    assert report.complete
    assert [(split.split, split.clips, split.captions) for split in report.splits] == [
        ("train", 3, 6),
        ("validate", 1, 2),
        ("test", 2, 4),
    ]


def test_a_complete_report_says_so(root: Path) -> None:
    lines = check(root).lines()
    assert lines[0] == f"msrvtt in {root}, files in {root / 'videos'}"
    assert lines[1] == "  train: 3 of 3 clips, 6 captions (2 each); files: all there"
    assert lines[-1] == "Complete."


def test_wrong_counts_are_reported_all_at_once(root: Path) -> None:
    facts = replace(FACTS, clips=lambda: {"train": 4, "validate": 1, "test": 1}, captions_per_clip=3)
    report = verify("msrvtt", root, facts=facts)
    text = "\n".join(report.lines())
    assert "lists 3 clips of msrvtt:train, which has 4" in text
    assert "lists 2 clips of msrvtt:test, which has 1" in text
    assert text.count("does not have 3 captions") == 3
    assert "5 problems:" in text


def test_lists_for_retrieval_are_checked_where_they_are(root: Path) -> None:
    (root / "MSRVTT_JSFUSION_test.csv").write_text("video_id,sentence\nvideo4,a query\n")
    (root / "MSRVTT_train.9k.csv").write_text("video_id\nvideo0\nvideo4\n")
    facts = replace(FACTS, retrieval_splits={"train_7k": 3, "train_9k": 2, "jsfusion": 2})
    report = verify("msrvtt", root, facts=facts)
    assert [(split.split, split.clips, split.expected_clips) for split in report.splits[3:]] == [("jsfusion", 1, 2)]
    assert len(report.problems) == 2
    assert "'video4' is a clip of MSRVTT_JSFUSION_test.csv, on which retrieval is tested" in report.problems[0]
    assert "lists 1 clips of msrvtt:jsfusion, which has 2" in report.problems[1]


def test_counts_that_are_meant_are_no_problem(root: Path) -> None:
    facts = replace(FACTS, clips=lambda: {"train": 4, "validate": 1, "test": 1}, captions_per_clip=3)
    report = verify("msrvtt", root, facts=facts, check_counts=False)
    assert report.complete
    assert "train: 3 of 4 clips" in report.lines()[1]


def test_a_split_may_be_absent_if_counts_are_not_checked(root: Path) -> None:
    (root / "test_videodatainfo.json").unlink()
    assert [split.split for split in check(root, check_counts=False).splits] == ["train", "validate"]
    assert "no test_videodatainfo.json" in "\n".join(check(root).problems)


def test_missing_and_empty_files_are_named(root: Path) -> None:
    (root / "videos" / "video4.mp4").unlink()
    (root / "videos" / "video5.mp4").write_bytes(b"")
    report = check(root)
    assert (report.splits[2].missing, report.splits[2].empty) == (("video4.mp4",), ("video5.mp4",))
    assert "  test: 2 of 2 clips, 4 captions (2 each); files: 1 missing, 1 empty" in report.lines()
    assert any("1 files of msrvtt:test are not in" in problem for problem in report.problems)


def test_a_directory_is_no_file(root: Path) -> None:
    (root / "videos" / "video4.mp4").unlink()
    (root / "videos" / "video4.mp4").mkdir()
    assert check(root).splits[2].missing == ("video4.mp4",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_files_without_permission_are_unreadable(root: Path) -> None:
    (root / "videos" / "video4.mp4").chmod(0)
    assert check(root).splits[2].unreadable == ("video4.mp4 (Permission denied)",)


def test_a_missing_annotation_is_a_problem(root: Path) -> None:
    (root / "test_videodatainfo.json").unlink()
    report = check(root)
    assert [split.split for split in report.splits] == ["train", "validate"]
    assert "There is no test_videodatainfo.json" in report.problems[0]


def test_a_malformed_annotation_is_a_problem(root: Path) -> None:
    (root / "test_videodatainfo.json").write_text("{")
    assert "is not a JSON file" in check(root).problems[0]


def test_a_missing_video_directory_is_the_one_problem(root: Path) -> None:
    report = check(root, video_root=root / "none")
    assert report.problems == (f"{root / 'none'} is not a directory; name the one with the files.",)
    assert len(report.splits[0].missing) == 3


def test_a_missing_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none is not a directory; name the one that holds msrvtt"):
        check(tmp_path / "none")


def test_an_unknown_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="The dataset is 'tgif'"):
        verify("tgif", tmp_path)


def test_splits_that_a_data_set_need_not_have_may_be_absent(tmp_path: Path) -> None:
    report = verify("jsonl", jsonl(tmp_path, ("train", "a.mp4")))
    assert report.complete
    assert [split.split for split in report.splits] == ["train"]


def test_nothing_at_all_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    assert verify("webvid", tmp_path).problems == (
        f"There is no annotation of any split in {tmp_path}; see datasets/webvid/README.md.",
    )


def test_clips_in_two_splits_are_reported(tmp_path: Path) -> None:
    report = verify("jsonl", jsonl(tmp_path, ("train", "a.mp4"), ("test", "a.mp4"), ("test", "b.mp4")))
    assert "1 clips are in both jsonl:train and jsonl:test, such as a; " in report.problems[0]


def test_parts_of_a_file_in_two_splits_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"content")
    parts = [("train", 0), ("train", 5), ("test", 10)]
    lines = [{"video": "a.mp4", "captions": ["a"], "split": split, "start_seconds": start} for split, start in parts]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (problem,) = verify("jsonl", tmp_path).problems
    assert f"1 files are in both jsonl:train and jsonl:test, such as {tmp_path / 'a.mp4'}; " in problem


def test_a_file_of_several_clips_is_checked_once(tmp_path: Path) -> None:
    lines = [{"video": "a.mp4", "captions": ["a"], "split": "train", "start_seconds": start} for start in range(3)]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert verify("jsonl", tmp_path).splits[0].missing == ("a.mp4",)


def test_missing_files_of_open_ended_sets_may_be_left_out(tmp_path: Path) -> None:
    jsonl(tmp_path, ("train", "a.mp4"))
    (tmp_path / "a.mp4").unlink()
    assert "or remove clips without a file from the annotation" in verify("jsonl", tmp_path).problems[0]


def test_first_frames_are_decoded_where_asked(tmp_path: Path) -> None:
    jsonl(tmp_path, ("train", "good.mp4"), ("train", "bad.mp4"), ("train", "picture.png"), ("train", "sound.wav"))
    render(tmp_path / "good.mp4", frames=2)
    write_picture(tmp_path / "picture.png")
    write_sound(tmp_path / "sound.wav")
    assert verify("jsonl", tmp_path).complete
    (split,) = verify("jsonl", tmp_path, decode=True).splits
    assert [name.partition(" ")[0] for name in split.unreadable] == ["bad.mp4", "sound.wav"]


def test_times_outside_the_files_are_told_where_frames_are_decoded(tmp_path: Path) -> None:
    def part(start: float, end: float | None) -> str:
        times = {"start_seconds": start} if end is None else {"start_seconds": start, "end_seconds": end}
        return json.dumps({"video": "slides.mp4", "captions": ["a slide"], "split": "train", **times}) + "\n"

    render_numbers(tmp_path / "slides.mp4", 12, times=[5000 * number for number in range(12)])
    parts = [(6.0, 9.0), (100.0, 110.0), (50.0, 70.0), (50.0, 55.5), (54.0, None), (60.0, None)]
    (tmp_path / "captions.jsonl").write_text("".join(part(*times) for times in parts))
    assert verify("jsonl", tmp_path).complete
    report = verify("jsonl", tmp_path, decode=True)
    (split,) = report.splits
    times = {kind: [name.partition(" (")[2] for name in getattr(split, kind)] for kind in ("outside", "late")}
    assert times["outside"] == ["100 s to 110 s of 55.04 s)", "60 s to the end of 55.04 s)"]
    assert times["late"] == ["50 s to 70 s of 55.04 s)"]
    assert "2 clips of jsonl:train begin after the end of their files" in report.problems[0]
    assert "1 clips of jsonl:train end later than their files" in report.problems[1]
    assert "2 parts outside; 1 parts beyond the end" in report.lines()[1]


def test_an_image_is_shown_at_any_time(tmp_path: Path) -> None:
    write_picture(tmp_path / "picture.png")
    line = {"video": "picture.png", "captions": ["x"], "split": "train", "start_seconds": 3.0, "end_seconds": 9.0}
    (tmp_path / "captions.jsonl").write_text(json.dumps(line) + "\n")
    assert verify("jsonl", tmp_path, decode=True).complete


def test_files_are_decoded_as_in_training(tmp_path: Path) -> None:
    # FFmpeg conceals what is missing of a picture, and does not read animated WebP.
    jsonl(tmp_path, ("train", "cut.jpg"), ("train", "animated.webp"))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    pictures = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (0, 200)]
    pictures[0].save(tmp_path / "animated.webp", save_all=True, append_images=pictures[1:])
    (split,) = verify("jsonl", tmp_path, decode=True).splits
    (bad,) = split.unreadable
    assert bad.startswith("cut.jpg (image file is truncated")


def write_picture(path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_captions_that_models_made_are_told_apart(tmp_path: Path) -> None:
    jsonl(tmp_path, ("train", "a.mp4"), ("train", "b.mp4"), ("test", "c.mp4"))
    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    lines[0]["generated"] = {"model": "run", "weights": "01ab"}
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    shown = verify("jsonl", tmp_path).lines()
    assert "  train: 2 clips, 2 captions (1 each, 1 generated by run (01ab)); files: all there" in shown
    assert "  test: 1 clips, 1 captions (1 each); files: all there" in shown
