from pathlib import Path

import pytest

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.facts import DATASETS
from evlvideo.data.annotation.readers import msvd
from evlvideo.data.annotation.splits import read_split
from evlvideo.errors import UserError

DESCRIPTIONS = b"""\xef\xbb\xbf# MSVD descriptions\r
# <id> <caption>\r
\r
-4wsuPCjDBc_5_15 a squirrel is eating a peanut in it's shell\r
a_b-c_d_e_f_0_10 two birds\r
-4wsuPCjDBc_5_15 a chipmunk is eating\r
unlisted____1_2 a clip that was not kept\r
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "AllVideoDescriptions.txt").write_bytes(DESCRIPTIONS)
    for name, ids in {"train": "-4wsuPCjDBc_5_15\r\n", "val": "a_b-c_d_e_f_0_10.avi\n\n", "test": ""}.items():
        (tmp_path / f"{name}_list.txt").write_text(ids)
    return tmp_path


def read(root: Path, split: str) -> list[CaptionedClip]:
    return list(msvd.read(root, root / "videos", split))


def test_a_clip_has_its_captions_in_order_and_its_file(root: Path) -> None:
    (clip,) = read(root, "train")
    assert clip.clip_id == "-4wsuPCjDBc_5_15"
    assert clip.captions == ("a squirrel is eating a peanut in it's shell", "a chipmunk is eating")
    assert clip.video == root / "videos" / "-4wsuPCjDBc_5_15.avi"


def test_files_are_cut_already(root: Path) -> None:
    (clip,) = read(root, "train")
    assert (clip.start_seconds, clip.end_seconds) == (None, None)


def test_lists_may_name_files(root: Path) -> None:
    assert [clip.clip_id for clip in read(root, "validate")] == ["a_b-c_d_e_f_0_10"]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".mov", ".MP4"])
def test_lists_and_files_may_have_another_suffix(root: Path, suffix: str) -> None:
    (root / "train_list.txt").write_text(f"-4wsuPCjDBc_5_15{suffix}\n")
    (root / "videos").mkdir()
    video = root / "videos" / f"-4wsuPCjDBc_5_15{suffix.lower()}"
    video.touch()
    (clip,) = read(root, "train")
    assert (clip.clip_id, clip.video) == ("-4wsuPCjDBc_5_15", video)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("nobody_1_2\n", r"train_list\.txt, line 1: .* has no description of 'nobody_1_2'"),
        ("-4wsuPCjDBc_5_15\n-4wsuPCjDBc_5_15.avi\n", "line 2: the clip '-4wsuPCjDBc_5_15' is listed a second time"),
    ],
)
def test_wrong_lists_are_refused(root: Path, ids: str, message: str) -> None:
    (root / "train_list.txt").write_text(ids)
    with pytest.raises(UserError, match=message):
        read(root, "train")


@pytest.mark.parametrize(
    ("line", "message"),
    [(b"alone_1_2\n", "line 8: a caption is empty"), (b"a_1_2 caf\xe9\n", "line 8 is not UTF-8")],
)
def test_wrong_descriptions_are_refused(root: Path, line: bytes, message: str) -> None:
    (root / "AllVideoDescriptions.txt").write_bytes(DESCRIPTIONS + line)
    with pytest.raises(UserError, match=message):
        read(root, "train")


def test_ids_stay_under_the_video_root(root: Path) -> None:
    (root / "AllVideoDescriptions.txt").write_text("../../x_1_2 a caption\n")
    (root / "train_list.txt").write_text("../../x_1_2\n")
    with pytest.raises(UserError, match="lies outside"):
        read(root, "train")


@pytest.mark.parametrize(("name", "split"), [("AllVideoDescriptions.txt", "test"), ("test_list.txt", "test")])
def test_missing_files_are_named(root: Path, name: str, split: str) -> None:
    (root / name).unlink()
    with pytest.raises(UserError, match=f"There is no {name}"):
        read(root, split)


def test_the_published_splits_are_counted(root: Path) -> None:
    assert dict(DATASETS["msvd"].clips()) == {"train": 1200, "validate": 100, "test": 670}
    with pytest.raises(UserError, match="lists 1 clips of msvd:train, which has 1200"):
        read_split("msvd", "train", root, check_files=False)
