import tracemalloc
from pathlib import Path

import pytest

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.readers import webvid
from evlvideo.errors import UserError

HEADER = "videoid,contentUrl,duration,page_dir,name\n"


def write(root: Path, rows: str, header: str = HEADER) -> None:
    (root / "results_2M_train.csv").write_text(header + rows, encoding="utf-8")


def read(root: Path) -> list[CaptionedClip]:
    return list(webvid.read(root, root / "videos", "train"))


def test_a_row_is_a_clip(tmp_path: Path) -> None:
    write(tmp_path, '21179416,https://x/a.mp4,PT00H00M11S,006001_006050,"Aerial shot, winter forest"\n')
    (clip,) = read(tmp_path)
    assert clip.clip_id == "21179416"
    assert clip.captions == ("Aerial shot, winter forest",)
    assert clip.video == tmp_path / "videos" / "006001_006050" / "21179416.mp4"


def test_columns_go_by_their_names(tmp_path: Path) -> None:
    write(tmp_path, "a dog,1,p\n", header="name,videoid,page_dir\n")
    assert read(tmp_path)[0].captions == ("a dog",)


@pytest.mark.parametrize("page", ["", "nan"])
def test_rows_without_a_page_lie_in_the_root(tmp_path: Path, page: str) -> None:
    write(tmp_path, f"5,u,d,{page},a dog\n")
    assert read(tmp_path)[0].video == tmp_path / "videos" / "5.mp4"


def test_neighboring_rows_of_a_video_are_its_captions(tmp_path: Path) -> None:
    write(tmp_path, "1,u,d,p,a\n2,u,d,p,b\n2,u,d,p,c\n3,u,d,p,d\n")
    assert [(clip.clip_id, clip.captions) for clip in read(tmp_path)] == [
        ("1", ("a",)),
        ("2", ("b", "c")),
        ("3", ("d",)),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,u,d,p,a\n1,u,d,q,b\n", r"results_2M_train\.csv, line 3: the clip '1' is listed a second time"),
        ("1,u,d,p,a\n2,u,d,p,b\n1,u,d,p,c\n", "line 4: the clip '1' is listed a second time; keep one, or put"),
        ("1,u,d,p,\n", "line 2: a caption is empty"),
        (",u,d,p,a\n", "line 2: the clip id is ''"),
        ("1,u,d,../../etc,a\n", r"line 2: the file '\.\./\.\./etc/1\.mp4' lies outside"),
        ("1,u,d,/etc,a\n", "line 2: the file '/etc/1.mp4' lies outside"),
        ("../../../x,u,d,p,a\n", "lies outside"),
        ("1,u,d,p\n", "line 2: 4 values for 5 columns"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    write(tmp_path, rows)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_the_larger_release_serves_as_well(tmp_path: Path) -> None:
    (tmp_path / "results_10M_train.csv").write_text(HEADER + "1,u,d,p,a\n")
    assert len(read(tmp_path)) == 1


def test_rows_are_streamed(tmp_path: Path) -> None:
    write(tmp_path, "".join(f"{number},u,d,p,{'a word ' * 50}\n" for number in range(5000)))
    tracemalloc.start()
    count = sum(1 for _ in webvid.read(tmp_path, tmp_path, "train"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5000
    assert peak < (tmp_path / "results_2M_train.csv").stat().st_size


def test_byte_order_mark_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + (HEADER + "1,u,d,p,a caf\u00e9\n").replace("\n", "\r\n").encode()
    (tmp_path / "results_2M_train.csv").write_bytes(content)
    assert read(tmp_path)[0].captions == ("a caf\u00e9",)


def test_a_row_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "results_2M_train.csv").write_bytes((HEADER + "1,u,d,p,caf\u00e9\n").encode("latin-1"))
    with pytest.raises(UserError, match=r"results_2M_train\.csv, line 2 is not UTF-8"):
        read(tmp_path)
