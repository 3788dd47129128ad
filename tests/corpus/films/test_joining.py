from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evlvideo.corpus.films.joining import Cue, common_words, join_captions, words_of


def test_equal_neighbors_become_one() -> None:
    cues = [Cue(0, 10, "a dog runs"), Cue(10, 20, "a dog runs"), Cue(20, 30, "a cat sleeps")]
    assert join_captions(cues) == [Cue(0, 20, "a dog runs"), Cue(20, 30, "a cat sleeps")]


def test_case_and_punctuation_make_no_difference() -> None:
    assert join_captions([Cue(0, 10, "A dog runs."), Cue(10, 20, "a dog, runs")]) == [Cue(0, 20, "A dog runs.")]


def test_most_words_in_common_make_neighbors_equal() -> None:
    one, other = "a man in a red shirt rides a horse", "a man in red shirt rides a brown horse"
    assert common_words(words_of(one), words_of(other)) == pytest.approx(7 / 8)
    assert join_captions([Cue(0, 10, one), Cue(10, 20, other)]) == [Cue(0, 20, one)]
    assert len(join_captions([Cue(0, 10, one), Cue(10, 20, other)], same_words=0.9)) == 2


def test_a_different_subject_is_no_near_equal() -> None:
    assert len(join_captions([Cue(0, 10, "a man is cooking"), Cue(10, 20, "a woman is cooking")])) == 2


def test_the_text_is_the_one_that_covers_most_time() -> None:
    texts = ["a b c d e f g h", "a b c d e f g x", "a b c d e f g x"]
    cues = [Cue(10 * place, 10 * place + 10, text) for place, text in enumerate(texts)]
    assert join_captions(cues, same_words=0.7) == [Cue(0, 30, texts[1])]


def test_a_text_that_changes_word_by_word_is_not_joined_for_ever() -> None:
    words = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
    texts = [" ".join([*"zyxwvutsrq"[:place], *words[place:]]) for place in range(10)]
    assert len(join_captions([Cue(10 * place, 10 * place + 10, text) for place, text in enumerate(texts)])) == 5


def test_equal_captions_that_are_no_neighbors_stay_apart() -> None:
    cues = [Cue(0, 10, "a dog"), Cue(10, 20, "a cat"), Cue(20, 30, "a dog")]
    assert join_captions(cues) == cues


def test_a_cue_does_not_reach_over_a_part_without_caption() -> None:
    cues = [Cue(0, 10, "a dog"), Cue(20, 30, "a dog")]
    assert join_captions(cues) == cues


def test_overlapping_windows_meet_in_the_middle() -> None:
    cues = [Cue(0, 10, "one"), Cue(8, 18, "two"), Cue(16, 26, "three")]
    assert join_captions(cues) == [Cue(0, 9, "one"), Cue(9, 17, "two"), Cue(17, 26, "three")]


def test_the_order_given_makes_no_difference() -> None:
    cues = [Cue(0, 10, "one"), Cue(8, 18, "two"), Cue(16, 26, "three")]
    assert join_captions(reversed(cues)) == join_captions(cues)


def test_what_has_no_words_or_no_time_is_left_out() -> None:
    assert join_captions([Cue(0, 1, ""), Cue(1, 2, " . "), Cue(2, 2, "a dog"), Cue(3, 2, "a dog")]) == []
    assert join_captions([]) == []


def test_an_emoji_and_other_scripts_are_words() -> None:
    assert words_of("Ein Hund läuft 🐕!") == ["ein", "hund", "läuft", "🐕"]
    assert len(join_captions([Cue(0, 1, "كلب يركض"), Cue(1, 2, "قطة نائمة")])) == 2


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.sampled_from(["one", "two", "one two", "three"]))))
def test_cues_never_overlap(given: list[tuple[float, float, str]]) -> None:
    cues = join_captions([Cue(start, start + length, text) for start, length, text in given])
    assert all(cue.start < cue.end for cue in cues)
    assert all(before.end <= after.start for before, after in pairwise(cues))
