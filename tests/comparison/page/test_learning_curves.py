import pytest
from hypothesis import given
from hypothesis import strategies as st

from evlvideo.comparison.page import learning_curves as curves
from evlvideo.comparison.rows.runs import read_runs


@given(st.floats(-1e6, 1e6), st.floats(1e-2, 1e6))  # what is closer is beside the precision of floats
def test_ticks_are_few_and_enclose_the_values(low, width):
    ticks = curves.nice_ticks(low, low + width)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-6 * width
    assert ticks[-1] >= low + width - 1e-6 * width


def test_ticks_are_round():
    assert curves.nice_ticks(0, 400) == [0, 100, 200, 300, 400]
    assert curves.nice_ticks(0.13, 0.94) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize("value", [0.0, 0.7, -3.0])
def test_one_value_is_drawn_inside_the_chart(value):
    chart = curves.draw("Loss", "loss", ["a"], [((5, value),)])
    assert chart is not None
    (dot,) = chart.curves[0].dots
    assert curves.LEFT <= dot.x <= curves.WIDTH - curves.RIGHT
    assert curves.TOP <= dot.y <= curves.HEIGHT - curves.BOTTOM


def test_a_chart_without_points_is_not_drawn():
    assert curves.draw("Loss", "loss", ["a"], [()]) is None


def test_a_system_keeps_its_place_where_another_has_no_line():
    chart = curves.draw("Loss", "loss", ["a", "b"], [(), ((1, 1.0), (2, 0.5))])
    assert chart is not None
    assert [(curve.name, curve.system) for curve in chart.curves] == [("b", 1)]


def test_higher_values_are_drawn_higher_and_later_steps_further_right():
    chart = curves.draw("Loss", "loss", ["a"], [((1, 1.0), (2, 2.0))])
    assert chart is not None
    first, last = chart.curves[0].dots
    assert last.x > first.x
    assert last.y < first.y


def test_long_curves_are_averaged(make_run):
    log = [{"step": step, "loss": float(step % 2)} for step in range(1, 1001)]
    (chart,) = curves.draw_learning_curves(read_runs([make_run("mean", log=log)], "test"))
    assert len(chart.curves[0].path.split()) <= curves.MOST_POINTS


def test_loss_is_drawn_for_cross_entropy_and_reward_for_self_critical_runs(make_run):
    log = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "reward": 0.3}, {"step": 2, "validation_cider": 0.5}]
    runs = [make_run("ce", log=[log[0], log[2]]), make_run("scst", stage="scst", log=log)]
    charts = {chart.title: chart for chart in curves.draw_learning_curves(read_runs(runs, "test"))}
    drawn = {title: [curve.name for curve in chart.curves] for title, chart in charts.items()}
    assert drawn == {
        "Training loss": ["ce"],
        "Reward in self-critical training": ["scst"],
        "Validation CIDEr": ["ce", "scst"],
    }
    assert "left out" in charts["Training loss"].remark
    assert "ce 50" in charts["Validation CIDEr"].summary


def test_the_validation_loss_has_a_chart_of_its_own(make_run):
    log = [{"step": 2, "loss": 1.0}, {"step": 2, "validation_loss": 2.5}, {"step": 4, "validation_loss": 2.0}]
    runs = read_runs([make_run("ce", log=log), make_run("scst", stage="scst", log=log[1:])], "test")
    charts = {chart.title: chart for chart in curves.draw_learning_curves(runs)}
    assert [curve.name for curve in charts["Validation loss"].curves] == ["ce", "scst"]
