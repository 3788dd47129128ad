"""One stage against two: a Q-Former with and without BLIP-2's first stage, and the TomeFormer, on equal budgets."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from benchmark_page.tables import table

BUDGETS = {"examples": "as many examples", "multiply_adds": "as many multiply-adds"}


def stages(report: dict[str, Any]) -> list[str]:
    """Make the section."""
    said, seeds = report["conditions"], ", ".join(map(str, report["seeds"]))
    arms = report["arms"]
    return [
        "## One stage against two",
        "",
        "`scripts/benchmarks/stages.py`: BLIP-2's Q-Former after a first stage of contrast, matching and generation, "
        "the same Q-Former without one, and the TomeFormer, from random weights between the same frozen towers on the "
        f"mini images, batches of {report['sizes']['batch_size']}, seeds {seeds}; each training on one CPU "
        f"thread{f', {said}' if said else ''}. The Q-Former in one stage sets the budget; multiply-adds are those of "
        "texts of the maximum length, without the vision tower. Half of the budget of two stages goes to the first. "
        "Numbers are means over seeds, with each seed's in parentheses. CIDEr × 100 on the test split is of "
        f"captions on their own pictures, and on other pictures; distinct captions are out of {arms[0]['captions']}; "
        "the loss is that of validation captions in eval mode. Answers are zero-shot: the frozen language model has "
        "read no question.",
        "",
        *_table(arms),
        "",
        "What the first stages had learned by their end, on the validation split:",
        "",
        *_first_stages(arms),
    ]


def _table(arms: Sequence[dict[str, Any]]) -> list[str]:
    rows = []
    for budget, title in BUDGETS.items():
        for system in dict.fromkeys(arm["system"] for arm in arms):
            found = [arm for arm in arms if (arm["system"], arm["budget"]) == (system, budget)]
            answers = list(dict.fromkeys(name for arm in found for name in arm["answers"]))
            rows.append(
                [
                    title,
                    system,
                    " + ".join(map(str, found[0]["steps"])),
                    f"{found[0]['multiply_adds'] / 1e12:.2f}",
                    _cell([100 * arm["scores"]["cider"] for arm in found]),
                    _cell([100 * arm["other_pictures_cider"] for arm in found]),
                    _cell([arm["distinct_captions"] for arm in found], "{:.0f}"),
                    _cell([arm["validation_loss"] for arm in found], "{:.2f}"),
                    "; ".join(
                        f"{name} {_cell([100 * arm['answers'][name]['value'] for arm in found])}"
                        for name in answers[:1]
                    ),
                    f"{mean(arm['training_seconds'] for arm in found):.0f}",
                ]
            )
    titles = ["budget", "system", "steps", "T multiply-adds", "CIDEr", "on other pictures", "distinct captions"]
    return table([*titles, "validation loss", "answers, %", "training, s"], rows)


def _first_stages(arms: Sequence[dict[str, Any]]) -> list[str]:
    names = {
        "contrast_loss": "contrast",
        "matching_loss": "matching",
        "generation_loss": "generation",
        "image_to_text_r1": "R@1, image to text",
        "text_to_image_r1": "R@1, text to image",
    }
    rows = []
    for budget, title in BUDGETS.items():
        found = [arm["first_stage"] for arm in arms if arm["first_stage"] is not None and arm["budget"] == budget]
        if found:
            rows.append([title, *(_cell([stage[name] for stage in found], "{:.2f}") for name in names)])
    return table(["budget", *names.values()], rows)


def _cell(values: Sequence[float], form: str = "{:.1f}") -> str:
    return f"{form.format(mean(values))} ({', '.join(map(form.format, values))})"
