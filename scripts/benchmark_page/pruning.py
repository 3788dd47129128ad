"""Captioning with pruning in the vision tower."""

from statistics import mean
from typing import Any

from benchmark_page.tables import table

_TRAINED = {
    "whole": "all tokens",
    "merged": "all tokens, fewer merged ones",
    "pruned": "pruning by the class token",
}
_POLICIES = {
    None: "nothing",
    "class": "class token",
    "class, previous": "class token, `look_ahead: previous`",
    "class, exact": "class token, `look_ahead: exact`",
    "prompt": "prompt",
    "predicted": "predicted text",
    "draft": "draft",
    "draft, previous": "draft, `look_ahead: previous`",
    "draft, text alone": "draft, `vision_share: 0`",
    "random": "random scores",
    "class, dropped": "class token, `fold: false`",
    "own caption": "the clip's own caption (a leak)",
    "other caption": "another clip's caption",
}


def pruned_captioning(report: dict[str, Any]) -> list[str]:
    """Make the section on pruning in a captioner's tower."""
    systems = report["systems"]
    whole = systems["whole, as it is"]
    rows = [
        [
            _TRAINED[system["trained"]],
            _POLICIES[system["policy"]],
            f"{100 * mean(system['cider'].values()):.1f}",
            f"{100 * mean(_apart(system, whole)):+.1f}",
            ", ".join(f"{100 * difference:+.1f}" for difference in _apart(system, whole)),
            f"{system['tower'] / 1e6:.0f}",
            f"{system['captioning'] / 1e6:.0f}",
        ]
        for system in systems.values()
    ]
    schedule = report["pruning"]
    shares = " and ".join(f"{100 * share:.0f} %" for share in schedule["keep"])
    threads = report["machine"]["threads"]
    return [
        "## Captioning with pruning",
        "",
        "`scripts/benchmarks/pruned_captioning.py`: the packaged checkpoint, fine-tuned on the mini dataset for "
        f"{report['steps']} steps in three ways, then captioned with tokens pruned in the frozen tower, which keeps "
        f"{shares} of the patches before blocks {' and '.join(map(str, schedule['begin']))} of four; seeds "
        f"{', '.join(map(str, report['seeds']))}; {threads} CPU thread{'s' if threads > 1 else ''}"
        f"{', ' + said if (said := report['conditions']) else ''}. Test CIDEr × 100 on {report['clips']} clips, means "
        "over seeds, and differences from the first row on the same seed; millions of multiply-adds (M) of captioning "
        f"a clip, drafts and blocks that are looked ahead included. The prompt is “{report['prompt']}”. The last two "
        "rows of each kind of training are controls that no captioner has.",
        "",
        *table(
            ["trained with", "pruned in the test by", "CIDEr", "difference", "by seed", "M, tower", "M, captioning"],
            rows,
        ),
    ]


def _apart(system: dict[str, Any], other: dict[str, Any]) -> list[float]:
    """Return the differences of two systems' scores, by seed."""
    return [score - other["cider"][seed] for seed, score in system["cider"].items()]
