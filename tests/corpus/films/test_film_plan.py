"""What of a film becomes a row, by itself and in a captioning job."""

import re
import shlex
import shutil
from pathlib import Path

import av
import pytest
import typer
from tiny_data import render
from toy_run import Toy
from typer.testing import CliRunner

from evlvideo.cli.app import app
from evlvideo.corpus.films import length
from evlvideo.corpus.films.length import check_length
from evlvideo.corpus.films.plan import FilmPlan, film_rows, rows_of_films
from evlvideo.corpus.films.subtitles import SUBTITLES
from evlvideo.corpus.job import caption_corpus
from evlvideo.corpus.output import read_records
from evlvideo.corpus.rows import Row, row_id
from evlvideo.errors import UserError

PAGE = (Path(__file__).parents[3] / "docs" / "long_films.md").read_text(encoding="utf-8")
TWO = FilmPlan(windows=1.0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of two seconds."""
    return render(tmp_path_factory.mktemp("films") / "clip.mp4")


def row(path: Path, start: float | None = None, end: float | None = None) -> Row:
    return Row("film", str(path), start, end)


def times(rows: list[Row]) -> list[tuple[float | None, float | None]]:
    return [(part.start, part.end) for part in rows]


def test_a_film_is_whole_unless_asked_for(clip: Path) -> None:
    assert film_rows(row(clip), FilmPlan()) == [row(clip)]


def test_windows_have_times_and_ids_that_sort_by_time(clip: Path) -> None:
    assert film_rows(row(clip), FilmPlan(windows=1.0, overlap=0.5)) == [
        Row("film@000000000-000001000", str(clip), 0.0, 1.0),
        Row("film@000000500-000001500", str(clip), 0.5, 1.5),
        Row("film@000001000-000002000", str(clip), 1.0, 2.0),
    ]


def test_a_part_of_a_film_is_cut_within_its_times(clip: Path) -> None:
    assert times(film_rows(row(clip, 0.5, 1.5), FilmPlan(windows=0.5))) == [(0.5, 1.0), (1.0, 1.5)]
    assert times(film_rows(row(clip, 0.5, 99), FilmPlan(windows=1.5))) == [(0.5, 2.0)]


def test_shots_are_rows(clip: Path) -> None:
    assert times(film_rows(row(clip), FilmPlan(shots=True))) == [(0.0, 2.0)]


def test_an_image_and_a_film_that_cannot_be_decoded_stay_rows(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    (tmp_path / "film.mp4").write_bytes(b"no film")
    for name in ("image.png", "film.mp4", "missing.mp4"):
        for plan in (TWO, FilmPlan(shots=True)):
            assert film_rows(row(tmp_path / name), plan) == [row(tmp_path / name)]


def test_processes_give_the_same_rows_in_order(clip: Path, tmp_path: Path) -> None:
    rows = [Row(str(number), str(clip)) for number in range(3)]
    done: list[int] = []
    found = list(rows_of_films(rows, TWO, processes=2, advance=lambda: done.append(1)))
    assert found == list(rows_of_films(rows, TWO)) and len(found) == 6
    assert len(done) == 3


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"windows": 10, "shots": True}, "Both --windows and --shots are given"),
        ({"overlap": 2.0}, "The overlap is 2 s, but there are no windows; add --windows SECONDS."),
        ({"windows": 0.0}, "A window is 0 seconds long"),
        ({"windows": 4, "overlap": 3}, "Windows of 4 seconds overlap by 3; they must overlap by 0 to 2"),
    ],
)
def test_a_plan_is_checked(wrong: dict[str, float], told: str) -> None:
    with pytest.raises(UserError, match=told):
        FilmPlan(**wrong)  # type: ignore[arg-type]


def test_a_long_film_is_refused_with_what_to_do() -> None:
    assert check_length("film.mp4", 60.0) is None
    told = check_length("film.mp4", 7200.4)
    assert told is not None
    assert told.startswith("film.mp4 lasts 7,200 s")
    assert "--windows SECONDS" in told and "--shots" in told and told.count(". ") == 0


@pytest.fixture
def films(toy: Toy, tmp_path: Path) -> Path:
    (tmp_path / "films").mkdir()
    for number, clip in enumerate(toy.clips("test")[:2]):
        shutil.copy(clip.video, tmp_path / "films" / f"film{number}.mp4")
    return tmp_path / "films"


def test_a_job_captions_windows_and_writes_subtitles(captioner: Path, films: Path, tmp_path: Path) -> None:
    (films / "broken.mp4").write_bytes(b"no film")
    made = caption_corpus([films], str(captioner), tmp_path / "out", films=TWO, also=["srt", "vtt"])
    records = list(read_records(tmp_path / "out"))
    film_ids = [row_id(str(films / name)) for name in ("broken.mp4", "film0.mp4", "film1.mp4")]
    assert [record["id"].partition("@")[0] for record in records] == [
        film_ids[0],
        *2 * [film_ids[1]],
        *2 * [film_ids[2]],
    ]
    assert (made.done, made.failed) == (4, 1)
    assert len(made.exports) == 2 and "subtitles of 2 films" in made.exports[0]
    for form in ("srt", "vtt"):
        files = sorted((tmp_path / "out" / form).iterdir())
        assert [file.name for file in files] == [f"film0.{form}", f"film1.{form}"]
        with av.open(str(files[0])) as opened:
            cues = [packet for packet in opened.demux(opened.streams.subtitles[0]) if packet.size]
        texts = [record["caption"] for record in records if record["path"].endswith("film0.mp4")]
        assert cues[0].pts == 0 and len(cues) in (1, 2)
        assert " ".join(bytes(cues[0]).decode().split()) == texts[0]


def test_the_same_job_goes_on_and_another_cut_is_refused(captioner: Path, films: Path, tmp_path: Path) -> None:
    first = caption_corpus([films], str(captioner), tmp_path / "out", films=TWO)
    again = caption_corpus([films], str(captioner), tmp_path / "out", films=TWO)
    assert (first.earlier, again.earlier, again.done) == (0, 4, 4)
    with pytest.raises(UserError, match=r"films\.windows: 1\.0 there, 0\.5 asked for"):
        caption_corpus([films], str(captioner), tmp_path / "out", films=FilmPlan(windows=0.5))


def test_a_film_that_is_too_long_is_an_error_by_row(
    captioner: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(length, "MOST_SECONDS", 1.0)
    made = caption_corpus([films], str(captioner), tmp_path / "out", overrides=["data.num_workers=0"])
    assert (made.done, made.failed) == (0, 2)
    assert "--windows SECONDS" in next(read_records(tmp_path / "out"))["error"]
    made = caption_corpus([films], str(captioner), tmp_path / "cut", overrides=["data.num_workers=0"], films=TWO)
    assert (made.done, made.failed) == (4, 0)


def test_the_command_cuts_films(captioner: Path, films: Path, tmp_path: Path) -> None:
    command = ["caption", str(films), "--checkpoint", str(captioner), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*command, "--windows", "0.8", "--overlap", "0.4", "--also", "vtt"])
    assert result.exit_code == 0, result.output
    assert "6 rows with captions" in result.output
    assert (tmp_path / "out" / "vtt" / "film1.vtt").read_text().startswith("WEBVTT\n\n1\n00:00:00.000 --> ")


@pytest.mark.parametrize("line", re.findall(r"^    (evlvideo .+)$", PAGE, re.MULTILINE))
def test_the_commands_of_the_page_have_their_options(line: str) -> None:
    name, *words = shlex.split(line)[1:]
    given = typer.main.get_command(app).commands[name].make_context(name, words).params  # type: ignore[attr-defined]
    assert given["shots"] or given["windows"]
    assert set(given["also"].split(",")) <= SUBTITLES.keys()


@pytest.mark.parametrize("option", [["--windows", "10"], ["--shots"]])
def test_cutting_needs_a_directory(option: list[str], films: Path) -> None:
    result = CliRunner().invoke(app, ["caption", str(films / "film0.mp4"), "--checkpoint", "mini", *option])
    assert isinstance(result.exception, UserError)
    assert "need --out DIRECTORY" in str(result.exception)
