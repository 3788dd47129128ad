import pytest

from evlvideo.comparison.tables.kinds import kind_scores

KINDS = {"a": "music", "b": "music", "c": "news", "d": ""}


def test_kinds_have_the_means_of_their_clips():
    music, news = kind_scores([{"a": 0.2, "b": 0.4, "c": 1.0, "d": 9.0}, {"a": 0.5, "b": 0.5, "c": 0.9}], KINDS)
    assert (music.name, music.clips, news.name, news.clips) == ("music", 2, "news", 1)
    assert music.means == pytest.approx((0.3, 0.5))
    assert (music.best, news.best) == ((False, True), (True, False))


def test_clips_without_a_score_are_left_out_of_a_mean():
    music, news = kind_scores([{"a": 0.2}], KINDS)
    assert music.means == (0.2,)
    assert news.means == (None,)


def test_means_that_print_alike_are_marked_alike_and_equal_systems_not_at_all():
    (kind,) = kind_scores([{"a": 0.50001}, {"a": 0.5}, {"a": 0.1}], {"a": "music"})
    assert kind.best == (True, True, False)
    (kind,) = kind_scores([{"a": 0.5}, {"a": 0.5}], {"a": "music"})
    assert kind.best == (False, False)


def test_systems_that_stand_apart_are_never_the_best():
    (kind,) = kind_scores([{"a": 0.9}, {"a": 0.5}, {"a": 0.1}], {"a": "music"}, apart={0})
    assert kind.means == (0.9, 0.5, 0.1)
    assert kind.best == (False, True, False)
