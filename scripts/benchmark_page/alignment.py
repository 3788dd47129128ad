"""The studies of staged alignment: one table each, with intervals over seeds, and what they tell."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from benchmark_page.tables import table

_QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t at 97.5 %, by the number of seeds."""
_START = (
    "from random weights between the packaged towers on the mini images, by stages of "
    "`configs/mini/image/alignment.yaml`"
)
_ALIKE = "not told apart from"
_TOO_SMALL = " Where rows are not told apart, {} or the number of seeds may be too small to show a difference."
_NAMES = {"cider": "CIDEr", "accuracy": "accuracy"}
_MEASURES = {"cider": "CIDEr × 100", "accuracy": "VQA accuracy in percent"}
_FROZEN, _TRAINED = " (frozen)", " (trained)"
"""Ends of the names of arms that adapt to questions: what the language model is."""
_SIGNED = "{:+.1f}"
_STUDIES = {
    "masks": (
        "Alignment: who sees whom",
        "the three values of `model.visual_mask`; the connector is aligned for half of the steps, then trained with "
        "the language model. The paper (arXiv 2503.19508) finds that visual tokens should not be masked from each "
        "other",
    ),
    "captions": (
        "Alignment: captions by people and by a model",
        "captions of the same 200 pictures by people and by a captioner that has seen the other 200; half of the steps "
        "align the connector, and the others train the language model too; validation and test captions are people's. "
        "The captioner is the packaged one, trained on for half as many steps on another seed. The paper finds that "
        "captions made by models teach faster than people's",
    ),
    "length": (
        "Alignment: how long",
        "the share of the steps in which the connector is aligned with a frozen language model, which is trained too "
        "in the others. The paper finds that the alignment deserves more work",
    ),
    "questions": (
        "Alignment: adaptation to questions",
        "after each of the four stages, and after none, questions about the same pictures are trained on for as many "
        "steps as these have together, by `configs/mini/image/questions.yaml`, with the language model frozen and "
        "trained. The paper finds that the aligned model adapts easily",
    ),
    "stages": (
        "Alignment: four stages against one",
        "four stages (the connector twice, with the language model, with both towers) against one stage of as many "
        "multiply-adds, which trains all or the connector alone. The paper trains in four stages",
    ),
}


def alignment(report: dict[str, Any]) -> list[str]:
    """Make the section of a study."""
    title, compared = _STUDIES[report["study"]]
    said, sizes = report["conditions"], report["sizes"]
    other = sizes.get("language_model")
    by_name = _by_name(report["arms"])
    measure = _measure(report["arms"])
    return [
        f"## {title}{f', with {other}' if other else ''}",
        "",
        f"`scripts/benchmarks/alignment.py {report['study']}`: {compared}. All {_START}"
        f"{f', but with the language model {other}' if other else ''}, batches of {sizes['batch_size']}, "
        f"seeds {', '.join(map(str, report['seeds']))}; one training at a time on one CPU thread "
        f"of {report['machine']['cpus']}{f', {said}' if said else ''}. Numbers are means over seeds with 95 % "
        f"intervals (Student's t), and each seed's in parentheses; differences are from the first row on the same "
        f"seed. {_MEASURES[measure]} on the "
        f"{sizes['test_split']} split, greedy; the loss is that of validation in eval mode, after the last step.",
        "",
        *_table(by_name, measure),
        "",
        *_told(by_name, measure, other or "the packaged language model, of a million weights,"),
        *(_trained_against_frozen(by_name, report["blind"]) if report["study"] == "questions" else []),
        *(_over_steps(by_name) if report["study"] == "captions" else []),
    ]


def _over_steps(by_name: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Tabulate validations over steps; arms have theirs at the same ones."""
    steps = [point["step"] for point in next(iter(by_name.values()))[0]["curve"]]
    rows = [
        [
            name,
            title,
            *(f"{mean(scale * arm['curve'][place][key] for arm in arms):.{digits}f}" for place in range(len(steps))),
        ]
        for key, title, scale, digits in (("loss", "loss", 1, 2), ("cider", "CIDEr", 100, 1))
        for name, arms in by_name.items()
    ]
    return [
        "",
        "![Validation loss and CIDEr over steps](benchmarks/alignment-captions.svg)",
        "",
        "Validation over steps, means over seeds:",
        "",
        *table(["", "", *(f"step {step}" for step in steps)], rows),
    ]


def _by_name(arms: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for arm in arms:
        found.setdefault(arm["arm"], []).append(arm)
    return found


def _trained_against_frozen(by_name: Mapping[str, Sequence[Mapping[str, Any]]], blind: float) -> list[str]:
    """Compare the language model's two states from each stage, on the same seeds."""
    starts = [name.removesuffix(_FROZEN) for name in by_name if name.endswith(_FROZEN)]
    found = ((start, differences(by_name[start + _TRAINED], by_name[start + _FROZEN])) for start in starts)
    return [
        "",
        f"What training the language model adds to freezing it: "
        f"{'; '.join(f'{start} {cell(values, _SIGNED)}' for start, values in found)}. Without a look at the picture, "
        f"the most frequent answer of each question's type gets {100 * blind:.1f}.",
    ]


def _table(by_name: Mapping[str, Sequence[Mapping[str, Any]]], measure: str) -> list[str]:
    first = next(iter(by_name))
    rows = [
        [
            name,
            " + ".join(f"{stage['name']} {stage['steps']}" for stage in arms[0]["stages"]),
            f"{arms[0]['multiply_adds'] / 1e12:.2f}",
            cell(percents(arms)),
            "" if name == first else cell(differences(arms, by_name[first]), _SIGNED),
            cell([arm["curve"][-1]["loss"] for arm in arms], "{:.2f}"),
            f"{mean(arm['training_seconds'] for arm in arms):.0f}",
        ]
        for name, arms in by_name.items()
    ]
    return table(
        ["", "stages, steps", "T multiply-adds", _NAMES[measure], "difference", "validation loss", "training, s"], rows
    )


def _told(by_name: Mapping[str, Sequence[Mapping[str, Any]]], measure: str, language_model: str) -> list[str]:
    """Say which rows differ from the first one by more than their interval."""
    first, *others = by_name
    if len(by_name[first]) == 1:
        return ["One seed says nothing about how far rows lie apart by chance."]
    apart: dict[str, list[str]] = {"above": [], "below": [], _ALIKE: []}
    for name in others:
        found = differences(by_name[name], by_name[first])
        half = half_width(found)
        place = _ALIKE if half is None or abs(mean(found)) <= half else "above"
        apart["below" if place == "above" and mean(found) < 0 else place].append(name)
    said = [
        f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} {how} {first}"
        for how, names in apart.items()
        if names
    ]
    seeds = len(by_name[first])
    told = f"By these intervals over {seeds} seeds, {'; '.join(said)} in {_NAMES[measure]}."
    return [f"{told}{_TOO_SMALL.format(language_model) if apart[_ALIKE] else ''}"]


def percents(arms: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return CIDEr × 100, or the accuracy in percent, by seed."""
    measure = _measure(arms)
    return [100 * arm[measure] for arm in arms]


def differences(arms: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the differences in :func:`percents`, by seed."""
    of_others = dict(zip((arm["seed"] for arm in others), percents(others), strict=True))
    return [value - of_others[arm["seed"]] for arm, value in zip(arms, percents(arms), strict=True)]


def _measure(arms: Sequence[Mapping[str, Any]]) -> str:
    """Name what arms were tested by."""
    return next(name for name in _NAMES if name in arms[0])


def half_width(values: Sequence[float]) -> float | None:
    """Return half of the 95 % interval of a mean; None for one value."""
    if len(values) not in _QUANTILES:
        return None
    return _QUANTILES[len(values)] * stdev(values) / len(values) ** 0.5


def cell(values: Sequence[float], form: str = "{:.1f}") -> str:
    """Format a mean, its interval, and the values."""
    half = half_width(values)
    interval = "" if half is None else f" ± {form.replace('+', '').format(half)}"
    return f"{form.format(mean(values))}{interval} ({', '.join(map(form.format, values))})"
