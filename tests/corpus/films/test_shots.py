"""Shots of rendered films, through the decoder."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from evlvideo.corpus.films import thumbnails
from evlvideo.corpus.films.shots import find_shots
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.decode import FileFacts
from evlvideo.data.video.guarded import describe_guarded
from evlvideo.errors import UserError

SIZE = 64
COLORS = [(200, 60, 60), (60, 129, 60), (240, 240, 240), (20, 20, 90)]


def film(path: Path, lengths: Sequence[float], rate: int = 25, codec: str = "libx264", **options: str) -> Path:
    """Write a film of shots of one color each, a keyframe a second."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options={"g": str(rate), **options})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        noise = np.random.default_rng(0).integers(-9, 10, (SIZE, SIZE, 1))
        for place, length in enumerate(lengths):
            picture = np.clip(np.array(COLORS[place % 4]) + noise, 0, 255).astype(np.uint8)
            for _ in range(round(length * rate)):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


def slides(path: Path, seconds: Sequence[float]) -> Path:
    """Write a recording with a frame only where the picture changes; each slide is one frame."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for place, second in enumerate(seconds):
            frame = av.VideoFrame.from_ndarray(np.full((SIZE, SIZE, 3), COLORS[place % 4], np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(second * 25), Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """The parts of films that are decoded."""
    asked: list[tuple[float, float]] = []
    real = thumbnails.decode_frames_guarded

    def noted(*args: object, start_seconds: float, end_seconds: float, **options: object) -> object:
        asked.append((start_seconds, end_seconds))
        return real(*args, start_seconds=start_seconds, end_seconds=end_seconds, **options)

    monkeypatch.setattr(thumbnails, "decode_frames_guarded", noted)
    return asked


def starts(shots: Sequence[tuple[float, float]]) -> list[float]:
    return [shot[0] for shot in shots]


def test_shots_begin_at_their_first_frames(tmp_path: Path) -> None:
    found = find_shots(film(tmp_path / "film.mp4", [3, 4.2, 2, 5]))
    assert found.broken == []
    assert starts(found.shots) == [
        0,
        pytest.approx(3, abs=0.1),
        pytest.approx(7.2, abs=0.1),
        pytest.approx(9.2, abs=0.1),
    ]
    assert all(before[1] == after[0] for before, after in pairwise(found.shots))
    assert found.shots[-1][1] == pytest.approx(14.2)


def test_a_film_is_decoded_in_parts(tmp_path: Path, decoded: list[tuple[float, float]]) -> None:
    found = find_shots(film(tmp_path / "film.mp4", [63, 60, 40], rate=10), most_seconds=100)
    assert decoded == [(0, 64), (64, 128), (128, 163)]
    assert starts(found.shots) == [0, 63, 123]


def test_a_long_shot_is_cut_evenly_and_a_short_one_belongs_to_a_neighbor(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", [0.5, 9.5, 0.4, 2], rate=10)
    assert find_shots(path, most_seconds=4).shots == [(0, 3.333), (3.333, 6.667), (6.667, 10), (10, 12.4)]


def test_a_part_of_a_film_has_the_shots_in_it(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", [3, 4, 2, 5], rate=10)
    assert find_shots(path, start=1.5, end=8).shots == [(1.5, 3), (3, 7), (7, 8)]


def test_slides_stay_until_the_next_one_appears(tmp_path: Path) -> None:
    found = find_shots(slides(tmp_path / "slides.mp4", [0, 20, 90, 140, 145]), most_seconds=1000)
    assert starts(found.shots) == [0, 20, 90, 140]


def test_a_format_without_times_of_frames_is_decoded_in_one_part(
    tmp_path: Path, decoded: list[tuple[float, float]]
) -> None:
    path = film(tmp_path / "film.avi", [40, 40, 20], rate=5, codec="mpeg4")
    assert starts(find_shots(path, most_seconds=1000).shots) == [0, 40, 80]
    assert decoded == [(0, pytest.approx(100))]


def test_an_image_has_no_shots(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    assert find_shots(tmp_path / "image.png").shots == []


@pytest.mark.parametrize("content", [None, b"", b"no film"])
def test_a_film_that_cannot_be_opened_is_an_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DecodeError, match=r"film\.mp4"):
        find_shots(path)


def test_the_longest_shot_is_at_least_twice_the_shortest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Shots last 2 to 3 seconds"):
        find_shots(tmp_path / "film.mp4", least_seconds=2, most_seconds=3)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A film of which the decoder fails from 20 s to 25 s."""
    real = thumbnails.decode_frames_guarded

    def failing(media: object, *args: object, start_seconds: float, end_seconds: float, **options: object) -> object:
        if start_seconds < 25 and end_seconds > 20:
            raise DecodeError(f"{media} cannot be decoded: broken.")
        return real(media, *args, start_seconds=start_seconds, end_seconds=end_seconds, **options)

    monkeypatch.setattr(thumbnails, "decode_frames_guarded", failing)
    yield film(tmp_path / "film.mp4", [10, 30, 60], rate=10)


def test_the_film_goes_on_behind_a_broken_part(broken: Path) -> None:
    found = find_shots(broken, most_seconds=100)
    assert [(gap.start, gap.end) for gap in found.broken] == [(16, 32)]
    assert starts(found.shots) == [0, 10, 16, 32, 40]


def test_a_film_of_which_nothing_can_be_decoded_is_an_error(broken: Path) -> None:
    with pytest.raises(DecodeError, match=r"film\.mp4 cannot be decoded: broken\."):
        find_shots(broken, start=20, end=25)


def test_a_film_that_wastes_too_much_time_is_given_up(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "MOST_WASTED_SECONDS", -1)
    with pytest.raises(DecodeError, match=r"film\.mp4 is given up at 0 s of 100 s: what cannot be decoded in it"):
        find_shots(broken)


def test_damage_in_the_file_costs_its_part_alone(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mkv", [10, 30, 60, 20], rate=10)
    content = bytearray(path.read_bytes())
    place = len(content) // 2
    content[place : place + 3000] = bytes(3000)
    path.write_bytes(content)
    found = find_shots(path, most_seconds=100)
    assert {0, 10, 40, 100} <= {round(start) for start in starts(found.shots)}
    assert sum(gap.end - gap.start for gap in found.broken) <= 16


def test_facts_of_a_film_are_known_without_decoding(tmp_path: Path) -> None:
    facts = describe_guarded(film(tmp_path / "film.mp4", [3, 4], rate=10))
    assert isinstance(facts, FileFacts)
    assert (facts.metadata.frames, facts.metadata.duration_seconds, facts.seekable) == (70, 7, True)
    assert not describe_guarded(film(tmp_path / "film.avi", [1], rate=5, codec="mpeg4")).seekable
