import pytest

from evlvideo.comparison.rows.quoted import quoted_rows
from evlvideo.comparison.rows.row import Row, group_row, system_row
from evlvideo.comparison.rows.runs import read_runs
from evlvideo.comparison.rows.seeds import SeedGroup
from evlvideo.comparison.tables.table import Table, build_table, mark_of, short_number


def entry(name: str, cider: float | None, **fields: object) -> Row:
    return Row(name=name, regime="trained", values={"cider": cider}, **fields)  # type: ignore[arg-type]


def cells(table: Table, key: str) -> list[tuple[str, bool]]:
    place = [column.key for column in table.columns].index(key)
    return [(row.cells[place].text, row.cells[place].best) for row in table.rows]


def test_columns_stand_in_the_poster_s_order(make_run):
    table = build_table("t", [system_row(run) for run in read_runs([make_run("mean")], "test")])
    titles = ["CIDEr", "BLEU-4", "METEOR", "ROUGE-L", "trained parameters", "training seconds"]
    assert [column.title for column in table.columns] == titles
    assert [cell.text for cell in table.rows[0].cells] == ["50.0", "40.0", "30.0", "60.0", "1,234,567", "61"]


def test_evidence_classes_get_columns_from_least_to_most(make_run):
    scores = {name: {"cider": 0.25} for name in ("frame_order", "one_frame", "several_frames")}
    table = build_table("t", [system_row(run) for run in read_runs([make_run("mean", evidence_scores=scores)], "test")])
    grouped = [column.title for column in table.columns if column.group]
    assert grouped == ["one frame", "several frames", "frame order"]


def test_the_best_value_is_marked():
    assert cells(build_table("t", [entry("a", 0.5), entry("b", 0.7)]), "cider") == [("50.0", False), ("70.0", True)]


def test_values_that_print_alike_are_marked_alike():
    table = build_table("t", [entry("a", 0.70001), entry("b", 0.70002), entry("c", 0.1)])
    assert cells(table, "cider") == [("70.0", True), ("70.0", True), ("10.0", False)]


def test_one_row_alone_is_not_the_best():
    assert cells(build_table("t", [entry("a", 0.5)]), "cider") == [("50.0", False)]


def test_quoted_rows_are_marked_and_never_the_best():
    table = build_table("t", [*quoted_rows("msrvtt", "test"), entry("a", 0.1), entry("b", 0.2)])
    assert table.rows[0].tags == ("quoted",)
    assert [text for text, best in cells(table, "cider") if best] == ["20.0"]
    assert any("not measured here" in remark for remark in table.remarks)


def test_partial_rows_are_marked_and_never_the_best():
    partial = entry("a", 0.9, clips_scored=5, clips_expected=1000)
    table = build_table("t", [partial, entry("b", 0.5), entry("c", 0.4)])
    assert table.rows[0].tags == ("5 of 1,000 clips",)
    assert cells(table, "cider") == [("90.0", False), ("50.0", True), ("40.0", False)]


def test_a_skipped_metric_is_a_dash_with_its_reason_once(make_run):
    scores = {"bleu_4": 0.4, "rouge_l": 0.6, "cider": 0.5}
    runs = [make_run(name, scores=scores, skipped={"meteor": "no Java runtime."}) for name in ("one", "two")]
    table = build_table("t", [system_row(run) for run in read_runs(runs, "test")])
    assert table.footnotes == ("METEOR: no Java runtime.",)
    assert [(row.cells[2].text, row.cells[2].note) for row in table.rows] == [("–", 1), ("–", 1)]


@pytest.mark.parametrize(("dataset", "split"), [("mini", "test"), ("msrvtt", "validate")])
def test_nothing_is_quoted_where_nothing_was_published(dataset, split):
    assert quoted_rows(dataset, split) == []


def test_the_quoted_numbers_are_the_poster_s():
    quoted = {row.name: row.values for row in quoted_rows("msrvtt", "test")}
    assert quoted["EVLGen-video-scst"] == {"cider": 0.740, "bleu_4": 0.492, "meteor": 0.330, "rouge_l": 0.665}
    assert quoted["Video-LLaMA"]["cider"] == 0.593
    assert len(quoted) == 8


def test_each_row_says_its_regime_where_there_are_several():
    entries = [entry("a", 0.1), Row("b", "scored", {"cider": 0.2}), Row("c", "quoted", {"cider": 0.3})]
    assert [row.tags for row in build_table("t", entries).rows] == [("trained",), ("scored",), ("quoted",)]
    assert [row.regime for row in build_table("t", entries).rows] == ["trained", "scored", "quoted"]
    assert build_table("t", entries[:1]).rows[0].tags == ()
    assert build_table("t", entries[1:2]).rows[0].tags == ("scored",)


def test_a_scored_row_can_be_the_best_and_one_with_other_references_cannot():
    entries = [entry("a", 0.1), Row("b", "scored", {"cider": 0.2}), entry("c", 0.3, is_human=True)]
    assert [best for _, best in cells(build_table("t", entries), "cider")] == [False, True, False]
    assert build_table("t", entries).rows[2].tags == ("trained", "other references")


def test_cells_hold_the_interval_and_the_mark_of_the_strictest_level():
    row = build_table("t", [entry("a", 0.5, intervals={"cider": (0.4812, 0.5234)}, p_values={"cider": 0.009})]).rows[0]
    assert (row.cells[0].interval, row.cells[0].interval_text) == ((0.4812, 0.5234), "48.1–52.3")
    assert (row.cells[0].p_value, row.cells[0].significance) == (0.009, "‡")
    assert [mark_of(value) for value in (0.009, 0.01, 0.049, 0.05, 1.0, None)] == ["‡", "†", "†", "", "", ""]


def test_costs_have_columns_where_a_row_has_them(make_run):
    old, new = make_run("old"), make_run("new", captioning_seconds=4.0, captioning_clips=6)
    table = build_table("t", [system_row(run) for run in read_runs([old, new], "test")])
    assert cells(table, "clips_per_second") == [("–", False), ("1.5", False)]
    table = build_table("t", [Row("a", "scored", {"cider": 0.1})])
    assert [column.key for column in table.columns] == ["cider", "bleu_4", "meteor", "rouge_l"]


def test_large_numbers_are_short():
    numbers = [short_number(value) for value in (615_900_000_000, 2_543_700_000_000, 12_700_000, 999)]
    assert numbers == ["616 G", "2.54 T", "12.7 M", "999"]


class TestOverSeeds:
    @pytest.fixture
    def pool(self, make_run):
        runs = [
            make_run(f"a-{seed}", scores={"cider": score, "rouge_l": 0.5}, training_seconds=60.0 + seed)
            for seed, score in ((1, 0.4), (2, 0.5), (6, 0.9))
        ]
        return SeedGroup("a", tuple(read_runs(runs, "test")), (1, 2, 6))

    def test_values_are_means_and_whole_numbers_stay(self, pool):
        entry = group_row(pool)
        assert (entry.name, entry.values["cider"]) == ("a", pytest.approx(0.6))
        assert entry.values["training_seconds"] == pytest.approx(63.0)
        assert entry.values["trained_parameters"] == 1_234_567
        assert isinstance(entry.values["trained_parameters"], int)

    def test_the_spread_over_seeds_has_columns_beside_the_scores(self, pool, make_run):
        table = build_table("t", [group_row(pool), system_row(read_runs([make_run("b")], "test")[0])])
        titles = [column.title for column in table.columns]
        assert titles[4:7] == ["SD", "lowest", "highest"]
        # The sample's, by hand: deviations -0.2, -0.1, 0.3.
        assert [cells(table, key)[0] for key in ("cider_sd", "cider_lowest", "cider_highest")] == [
            ("26.5", False),
            ("40.0", False),
            ("90.0", False),
        ]
        assert cells(table, "cider_sd")[1] == ("–", False)
        assert table.rows[0].tags == ("3 seeds",)

    def test_each_seed_s_scores_are_kept(self, pool):
        assert group_row(pool).by_seed == {
            1: {"cider": 0.4, "rouge_l": 0.5},
            2: {"cider": 0.5, "rouge_l": 0.5},
            6: {"cider": 0.9, "rouge_l": 0.5},
        }

    def test_a_score_that_a_seed_lacks_has_no_mean(self, make_run):
        runs = [make_run("a-1"), make_run("a-2", scores={"cider": 0.5}, skipped={"meteor": "METEOR needs Java."})]
        entry = group_row(SeedGroup("a", tuple(read_runs(runs, "test")), (1, 2)))
        assert entry.values["meteor"] is None
        assert entry.reasons["meteor"] == "METEOR needs Java."

    def test_one_run_is_as_it_is(self, make_run):
        (run,) = read_runs([make_run("a")], "test")
        assert group_row(SeedGroup.of_one(run)) == system_row(run)
