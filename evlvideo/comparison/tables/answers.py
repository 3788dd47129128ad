"""The table of answers to the questions of one split: scores, scores by type, flaws of answers, costs."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby

from evlvideo.comparison.rows.answers import AnsweredSet, AnsweringSystem
from evlvideo.comparison.rows.row import Row, row_of_seeds, spread_key
from evlvideo.comparison.rows.seeds import SeedGroup, seed_remarks
from evlvideo.comparison.rows.training_differences import training_difference_remarks
from evlvideo.comparison.tables.multiply_adds import add_answering_multiply_adds
from evlvideo.comparison.tables.significance import (
    Resampling,
    remark_on_intervals,
    remarks_on_tests,
    with_certainty,
)
from evlvideo.comparison.tables.table import COSTS, SPREAD, Column, Table, lay_out, row_remarks
from evlvideo.evaluation.score_answers import SHARES
from evlvideo.metrics.answers.measures import NAMES, title_of
from evlvideo.metrics.answers.scores import Means
from evlvideo.metrics.bootstrap import Statistics, mean_statistics
from evlvideo.results.records import NOT_PUBLISHED

MOST_QUESTION_TYPES = 8
"""Question types with columns: those with the most questions, of which VQA has 65."""
_ITEMS = "questions"


def answer_table(
    answered: AnsweredSet, title: str, plan: Resampling, quoted: Sequence[Row] = (), remarks: Sequence[str] = ()
) -> Table:
    """Lay answers out as a table.

    Args:
        answered: the systems.
        title: of the table.
        plan: number of resamples, seed, and the row to test against.
        quoted: published rows, which come first.
        remarks: sentences to add.
    """
    names = _names(answered.systems, quoted)
    groups = sorted(answered.groups, key=lambda group: group.systems[0].regime == "trained")
    rows = [_group_row(group, answered) for group in groups]
    for name in names:
        rows = with_certainty(rows, groups, partial(_statistics, name=name), plan)
    rows, counted = add_answering_multiply_adds(rows, [group.representative for group in groups])
    columns = _columns(answered, names, rows)
    rows = [*quoted, *rows]
    said = [
        *row_remarks(rows, "answers", _ITEMS),
        *_how_answered(answered.systems),
        *remarks,
        *seed_remarks(groups),
        remark_on_intervals(plan, _ITEMS),
        *remarks_on_tests(rows, plan),
        *counted,
        *_result_remarks(answered),
        *training_difference_remarks(groups),
    ]
    return lay_out(title, columns, rows, said, _ITEMS)


def _names(systems: Sequence[AnsweringSystem], quoted: Sequence[Row]) -> list[str]:
    """List the scores that some row has."""
    known = {name for system in systems for name in system.result.scores} | {
        key for row in quoted for key in row.values
    }
    return [name for name in NAMES if name in known]


def _group_row(group: SeedGroup[AnsweringSystem], answered: AnsweredSet) -> Row:
    return row_of_seeds(group, lambda system: _row(system, answered.score), NAMES, spread_of=answered.score)


def _row(system: AnsweringSystem, score: str) -> Row:
    """Make the row of one system, with one score of each type."""
    result = system.result
    by_type = {
        _type_key(what, name): means[score]
        for what, types in _types(system).items()
        for name, means in types.items()
        if score in means
    }
    values: dict[str, float | None] = {name: mean.value for name, mean in result.scores.items()}
    values |= {key: mean.value for key, mean in by_type.items()}
    values |= {_share_key(name): result.shares.get(name) for name in SHARES}
    values["trained_parameters"] = system.training.get("trained_parameters")
    return Row(
        name=system.name,
        regime=system.regime,
        values=values,
        reasons={_share_key("cut_off"): "a file of answers does not tell."} if "cut_off" not in result.shares else {},
        clips_scored=result.questions,
        clips_expected=result.questions,
        source=system.source,
        intervals={key: (mean.low, mean.high) for key, mean in by_type.items()},
    )


def _types(system: AnsweringSystem) -> dict[str, Mapping[str, Means]]:
    return {"answer type": system.result.answer_types, "question type": system.result.question_types}


def _type_key(what: str, name: str) -> str:
    return f"{what}: {name}"


def _share_key(name: str) -> str:
    return f"share_{name}"


def _statistics(system: AnsweringSystem, name: str) -> dict[str, Statistics]:
    """Collect the statistics of a score over the questions that it applies to, in the order of their ids."""
    of_question = system.result.per_question
    scores = [found[name] for question in sorted(of_question) if name in (found := of_question[question])]
    return {name: mean_statistics(scores)} if scores else {}


def _columns(answered: AnsweredSet, names: Sequence[str], rows: Sequence[Row]) -> list[Column]:
    score, title = answered.score, title_of(answered.score)
    present = {key for row in rows for key, value in row.values.items() if value is not None}
    spread = {spread_key(score, name): heading for name, heading in SPREAD.items()}
    known = present | {key for row in rows for key in row.reasons}
    return [
        *(Column(name, title_of(name), is_score=True) for name in names),
        *(
            Column(key, heading, is_score=True, group=f"{title} over seeds", ranked=key != spread_key(score, "sd"))
            for key, heading in spread.items()
            if key in present
        ),
        *_type_columns(answered),
        *(
            Column(_share_key(name), heading, is_score=True, group="Share of answers", ranked=False)
            for name, heading in SHARES.items()
            if _share_key(name) in present
        ),
        *(Column(key, heading, is_score=False) for key, heading in COSTS.items() if key in known),
    ]


def _type_columns(answered: AnsweredSet) -> list[Column]:
    """Make the columns of all answer types, and of the largest question types, the largest first.

    Types that a score is of already, as GQA's binary and open questions are, have none.
    """
    score, columns = answered.score, []
    of_first = answered.systems[0]
    for what, types in _types(of_first).items():
        sizes = {name: means[score].questions for name, means in types.items() if score in means}
        largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:MOST_QUESTION_TYPES]
        if len(sizes) < 2 or any(known.endswith(f"_{name}") for known in of_first.result.scores for name in largest):
            continue
        more = f", the {len(largest)} largest of {len(sizes)}" if len(largest) < len(sizes) else ""
        columns += [
            Column(_type_key(what, name), name, is_score=True, group=f"{title_of(score)} by {what}{more}")
            for name in largest
        ]
    return columns


def _how_answered(systems: Sequence[AnsweringSystem]) -> list[str]:
    """Say what the questions were put into, and how answers were decoded."""
    told = sorted((_how(system), system.name) for system in systems)
    remarks = []
    for how, same in groupby(told, key=lambda one: one[0]):
        names = [name for _, name in same]
        of = "" if len(names) == len(systems) else f" ({', '.join(names)})"
        remarks += [f"Answered with {how}{of}."] if how else []
    return remarks


def _how(system: AnsweringSystem) -> str:
    """The prompt and decoding of a system, as far as known."""
    result = system.result
    known = {name: value for name, value in result.decoding.items() if name != "prompt" and value is not None}
    decoding = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in known.items())
    prompt = "" if result.prompt is None else f"the prompt {result.prompt!r}"
    return "; ".join(filter(None, (prompt, decoding)))


def _result_remarks(answered: AnsweredSet) -> list[str]:
    """Say how scores compare with published ones, and which are missing."""
    deviations = list(dict.fromkeys(line for system in answered.systems for line in system.result.deviations))
    skipped = dict.fromkeys(
        f"{name}: {reason}." for system in answered.systems for name, reason in system.result.skipped.items()
    )
    return [*([f"{'. '.join(deviations)}. {NOT_PUBLISHED}"] if deviations else []), *skipped]
