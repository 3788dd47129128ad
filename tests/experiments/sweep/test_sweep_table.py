import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from PIL import Image
from rich.console import Console

from evlvideo.experiments.sweep.figure import draw_figure
from evlvideo.experiments.sweep.plan import Sweep
from evlvideo.experiments.sweep.table import Outcome, Point, to_csv, to_markdown, to_rich


def point(label: str, merged: int, cider: float | None, seconds: float | None = 30.0, **more: Any) -> Point:
    values: dict[str, Any] = {
        "value": int(label) if label.isdecimal() else label,
        "label": label,
        "run": f"sweep/r-{label}",
        "merged_tokens": merged,
        "soft_tokens": 65 - merged,
        "training_multiply_adds": 2_000_000_000,
        "captioning_multiply_adds": 1_500_000_000,
        "training_seconds": seconds,
        "trained_parameters": 1000,
        "clips_scored": 6,
        "clips_expected": 6,
        "scores": {} if cider is None else {"cider": cider, "bleu_4": 0.25},
    }
    return Point(**(values | more))


def outcome(*points: Point, key: str = "model.merge_r", name: str = "r", checkpoint: str | None = None) -> Outcome:
    variant = SimpleNamespace(config=SimpleNamespace(data=SimpleNamespace(dataset="mini")), label="0")
    plan = Sweep(key, name, checkpoint, Path("sweep"), cast(Any, (variant,)))
    return Outcome(plan, "test", points)


THREE = outcome(point("0", 0, 0.9), point("4", 16, 1.05, 20.0), point("8", 32, 0.87, 12.5, notes=("capped",)))


def test_the_table_has_a_row_for_each_value_and_its_notes_below() -> None:
    text = to_markdown(THREE)
    assert "| r | merged | soft | CIDEr | BLEU-4 | METEOR | ROUGE-L | train s | train G | caption G |" in text
    assert "| 4 | 16 | 49 | 105.0 | 25.0 | – | – | 20.0 | 2 | 1.5 |" in text
    assert "- r=8: capped." in text


def test_without_training_there_is_no_time_of_it() -> None:
    text = to_markdown(outcome(point("0", 0, 0.9, None), checkpoint="runs/x"))
    assert "train s" not in text and "runs/x, not trained again" in text
    assert "| 0 | 0 | 65 | 90.0 | 25.0 | – | – | 1.5 |" in text


def test_the_terminal_shows_the_same_cells() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(to_rich(THREE))
    shown = console.export_text()
    assert "105.0" in shown and "r=8: capped." in shown and "model.merge_r on mini:test" in shown


def test_csv_has_numbers_in_full() -> None:
    rows = list(csv.DictReader(to_csv(THREE).splitlines()))
    assert [row["label"] for row in rows] == ["0", "4", "8"]
    assert (rows[1]["cider"], rows[1]["training_seconds"], rows[2]["notes"]) == ("1.05", "20.0", "capped")


def test_the_record_is_plain() -> None:
    record = json.loads(json.dumps(THREE.record()))
    assert (record["key"], record["split"], len(record["points"])) == ("model.merge_r", "test", 3)
    assert record["points"][1]["scores"]["cider"] == 1.05


def drawn(directory: Path, of: Outcome) -> str:
    draw_figure(of, [directory / "sweep.svg", directory / "sweep.png"])
    return (directory / "sweep.svg").read_text()


def test_the_figure_shows_score_and_time_against_tokens_merged(tmp_path: Path) -> None:
    text = drawn(tmp_path, THREE)
    for part in ("CIDEr", "training time, s", "tokens of a frame merged", "r=0", "r=4", "r=8"):
        assert f">{part}" in text
    with Image.open(tmp_path / "sweep.png") as picture:
        assert picture.width > 1000


def test_the_same_numbers_give_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert drawn(tmp_path / "a", THREE) == drawn(tmp_path / "a", THREE)


def test_values_at_one_place_share_a_label(tmp_path: Path) -> None:
    assert ">r=4, 6<" in drawn(tmp_path, outcome(point("4", 16, 0.8), point("6", 16, 0.9), point("0", 0, 0.7)))


def test_other_keys_stand_on_the_axis_themselves_also_names(tmp_path: Path) -> None:
    frames = outcome(point("1", 0, 0.8), point("4", 0, 0.9), key="data.num_frames", name="num_frames")
    assert ">data.num_frames<" in drawn(tmp_path, frames)
    names = outcome(point("mean", 0, 0.8), point("concat", 0, 0.9), key="model.fusion", name="fusion")
    assert ">concat<" in drawn(tmp_path, names)


def test_long_trainings_are_told_in_hours_and_none_by_what_captioning_costs(tmp_path: Path) -> None:
    assert ">training time, h<" in drawn(tmp_path, outcome(point("0", 0, 0.8, 7200.0)))
    assert ">captioning, G multiply-adds a clip<" in drawn(
        tmp_path, outcome(point("0", 0, 0.8, None), checkpoint="runs/x")
    )


def test_a_value_without_a_score_and_one_of_a_part_of_the_clips_are_drawn(tmp_path: Path) -> None:
    partial = replace(point("4", 16, 0.9), clips_scored=5)
    assert ">r=4<" in drawn(tmp_path, outcome(point("0", 0, None), partial))
