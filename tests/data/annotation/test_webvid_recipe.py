"""The card of WebVid tells how to keep the rows whose files are there; the program is run as it stands there."""

import subprocess
import sys
import textwrap
from pathlib import Path

from evlvideo.data.annotation.readers import webvid

CARD = Path(__file__).parents[3] / "datasets" / "webvid" / "README.md"
HEADER = "videoid,contentUrl,duration,page_dir,name\n"
ROWS = """1,u,PT5S,,a man
walks
2,u,PT5S,,a dog
2,u,PT5S,,a dog runs
3,u,PT5S,nan,a cat
4,u,PT5S,p,"a ""big"" bird,
with wings"
5,u,PT5S,,
1,u,PT5S,,a man again
6,u,PT5S,,gone
"""


def run_recipe(folder: Path, rows: str) -> subprocess.CompletedProcess[str]:
    root = folder / "data" / "webvid"
    for place in (root / "all", root / "videos" / "p"):
        place.mkdir(parents=True)
    (root / "all" / "results_2M_train.csv").write_text(HEADER + rows)
    for name in ("1.mp4", "2.mp4", "3.mp4", "p/4.mp4"):
        (root / "videos" / name).touch()
    _, _, code = CARD.read_text(encoding="utf-8").partition("<<'PYTHON'\n")
    code = textwrap.dedent(code.partition("    PYTHON\n")[0])
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_the_rows_that_serve_are_kept(tmp_path: Path) -> None:
    done = run_recipe(tmp_path, ROWS)
    assert (done.returncode, done.stderr) == (0, "")
    root = tmp_path / "data" / "webvid"
    assert {clip.clip_id: clip.captions for clip in webvid.read(root, root / "videos", "train")} == {
        "1": ("a man",),
        "2": ("a dog", "a dog runs"),
        "3": ("a cat",),
        "4": ('a "big" bird,\nwith wings',),
    }


def test_a_quote_left_open_ends_it_and_leaves_no_csv(tmp_path: Path) -> None:
    done = run_recipe(tmp_path, '1,u,PT5S,,a man\n2,u,PT5S,,"5 inch\n3,u,PT5S,,a cat\n')
    assert done.returncode == 1
    assert done.stderr.startswith("The row after line 2 of")
    assert not (tmp_path / "data/webvid/results_2M_train.csv").exists()
