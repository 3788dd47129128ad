from hypothesis import given
from hypothesis import strategies as st

from evlvideo.comparison.tables.wins import count_wins


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
