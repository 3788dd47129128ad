from evlvideo.data.annotation.messages import shown


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 1000)) < 100
