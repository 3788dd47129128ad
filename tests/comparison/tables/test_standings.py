import pytest
from hypothesis import given
from hypothesis import strategies as st

from evlvideo.comparison.tables.standings import count_wins, kind_scores

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


def test_wins_are_counted_clip_by_clip():
    wins = count_wins([{"a": 1.0, "b": 0.2, "c": 0.5}, {"a": 0.5, "b": 0.3, "c": 0.5}, {"a": 0.0, "b": 0.3}])
    assert wins.alone == (1, 0, 0)
    assert wins.against == ((0, 1, 1), (1, 0, 1), (1, 0, 0))
    assert wins.compared == ((0, 3, 2), (3, 0, 2), (2, 2, 0))
    assert (wins.clips, wins.ties) == (3, 2)


def test_a_clip_that_one_system_was_scored_on_has_no_winner():
    wins = count_wins([{"a": 1.0}, {}])
    assert (wins.alone, wins.clips, wins.ties) == ((0, 0), 0, 0)


def test_scores_that_differ_by_rounding_are_a_tie():
    assert count_wins([{"a": 0.1 + 0.2}, {"a": 0.3}]).ties == 1


SCORES = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([0.0, 0.5, 1.0]))


@given(st.lists(SCORES, min_size=1, max_size=4))
def test_wins_losses_and_ties_add_up(scores):
    wins = count_wins(scores)
    for one in range(len(scores)):
        for other in range(len(scores)):
            assert wins.against[one][other] + wins.against[other][one] <= wins.compared[one][other]
            assert wins.alone[one] <= min([wins.clips, *(len(scores[one]),)])
    assert 0 <= wins.ties <= wins.clips
