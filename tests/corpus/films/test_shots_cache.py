"""Shots are found once, until the film changes."""

import json
from pathlib import Path

import pytest
from tiny_data import render

from evlvideo.corpus.films import shots_cache
from evlvideo.corpus.films.shots import Shots
from evlvideo.corpus.films.shots_cache import cached_shots
from evlvideo.corpus.films.thumbnails import Gap
from evlvideo.data.media.errors import DecodeError

FOUND = Shots([(0.0, 1.5), (1.5, 2.0)], [Gap(1.5, 2.0, "why")])


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[object, ...]]:
    """What is searched for shots, in a cache of its own."""
    asked: list[tuple[object, ...]] = []

    def find(*arguments: object) -> Shots:
        asked.append(arguments)
        return FOUND

    monkeypatch.setattr(shots_cache, "find_shots", find)
    monkeypatch.setenv("EVLVIDEO_CACHE", str(tmp_path / "cache"))
    return asked


def test_a_film_is_searched_once(searches: list[object], tmp_path: Path) -> None:
    film = render(tmp_path / "film.mp4")
    assert cached_shots(film) == cached_shots(film) == FOUND
    assert len(searches) == 1


def test_another_part_and_a_changed_film_are_searched_anew(searches: list[object], tmp_path: Path) -> None:
    film = render(tmp_path / "film.mp4")
    cached_shots(film)
    cached_shots(film, 0.5, 1.5)
    assert len(searches) == 2
    render(film, frames=12)
    cached_shots(film)
    assert len(searches) == 3


@pytest.mark.parametrize("content", ["", "{}", '{"shots": [[1]], "broken": []}', json.dumps({"shots": 1, "broken": 2})])
def test_a_broken_entry_is_ignored(content: str, searches: list[object], tmp_path: Path) -> None:
    film = render(tmp_path / "film.mp4")
    cached_shots(film)
    (entry,) = (tmp_path / "cache").rglob("*.json")
    entry.write_text(content)
    assert cached_shots(film) == FOUND
    assert len(searches) == 2


def test_a_cache_that_cannot_be_written_costs_nothing(searches: list[object], tmp_path: Path) -> None:
    film = render(tmp_path / "film.mp4")
    (tmp_path / "cache").write_text("no folder")
    assert cached_shots(film) == cached_shots(film) == FOUND


def test_a_missing_film_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="does not exist"):
        cached_shots(tmp_path / "film.mp4")
