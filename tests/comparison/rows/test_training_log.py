import pytest

from evlvideo.comparison.rows.training_log import read_training_log
from evlvideo.errors import UserError


def test_series_are_gathered_by_name_and_sorted_by_step(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 20, "loss": 1.5}\n{"step": 10, "loss": 2}\n{"step": 20, "validation_cider": 0.4}\n')
    assert read_training_log(path) == {"loss": ((10, 2.0), (20, 1.5)), "validation_cider": ((20, 0.4),)}


def test_a_step_logged_again_after_a_resume_counts_once(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 10, "loss": 2}\n{"step": 10, "loss": 3}\n')
    assert read_training_log(path)["loss"] == ((10, 3.0),)


def test_half_a_line_at_the_end_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 10, "loss": 2}\n{"step": 20, "lo')
    assert read_training_log(path)["loss"] == ((10, 2.0),)


def test_a_broken_line_elsewhere_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('[]\n{"step": 10, "loss": 2}\n')
    with pytest.raises(UserError, match="line 1 is not a JSON object"):
        read_training_log(path)


def test_values_that_cannot_be_drawn_are_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": NaN, "note": "x", "flag": true}\n{"loss": 3}\n{"step": 2, "loss": 4}\n')
    assert read_training_log(path) == {"loss": ((2, 4.0),)}


def test_a_run_that_logged_nothing_has_no_history(tmp_path):
    assert read_training_log(tmp_path / "log.jsonl") == {}
