from evlvideo.metrics.names import format_score


def test_scores_print_times_100_with_one_decimal() -> None:
    assert [format_score(value) for value in (0.7402, 1.582, 0.0, None)] == ["74.0", "158.2", "0.0", "–"]
