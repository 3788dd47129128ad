"""The demo on several seeds."""

from typing import Any

from benchmark_page.tables import table

NAMES = {
    "concat": "frames concatenated",
    "mean": "frames averaged",
    "in_tower": "in-tower contextualizer",
    "in_tower_positions": "in-tower, with frame positions",
    "merged": "contextualizer over merged tokens",
    "merged_positions": "over merged tokens, with frame positions",
    "scst": "SCST",
}
SUBSETS = {
    "all": "all clips",
    "one_frame": "one frame",
    "several_frames": "several frames",
    "frame_order": "frame order",
}


def mini_seeds(report: dict[str, Any]) -> list[str]:
    """Make the section on the demo's runs."""
    seeds = list(report["cider"])
    lines = [
        "## The demo on several seeds",
        "",
        "`scripts/benchmarks/mini_seeds.py`: test CIDEr × 100 on the mini dataset, one column per seed. The annotation "
        "sorts clips by what their captions can be told from.",
        "",
        *_cider_table(report, seeds),
        "",
        "### Against the frame mean",
        "",
        "Mean difference in test CIDEr from `mean` on the same seed; in brackets, the difference on each seed.",
        "",
        *_difference_table({name: report["cider_over_mean"][name] for name in report["cider_over_mean"]}),
        "",
        "### SCST against its initial cross-entropy run",
        "",
        "SCST starts from the run with the best validation CIDEr: "
        + ", ".join(f"`{start}` ({seed})" for seed, start in report["scst_start"].items())
        + ".",
        "",
        *_difference_table({"scst": report["scst_over_start"]}),
        "",
        "Beam search already finds the safest caption; greedy captions show what SCST changes. Test CIDEr × 100 of "
        "greedy captions, initial run → SCST: "
        + "; ".join(
            f"{pair['start']:.1f} → {pair['scst']:.1f} ({seed})" for seed, pair in report["greedy_cider"].items()
        )
        + ".",
        "",
        "### Shuffled frames",
        "",
        "Share of test clips whose caption changes if their four frames are shuffled.",
        "",
        *_shuffling_table(report, seeds),
        "",
        f"Versions: {', '.join(f'{name} {number}' for name, number in report['versions'].items())}; "
        f"{report['machine']['cpus']} CPU threads. "
        "Median training seconds: "
        + ", ".join(f"{name} {_median(values):.0f}" for name, values in report["training_seconds"].items())
        + ".",
    ]
    return lines


def _cider_table(report: dict[str, Any], seeds: list[str]) -> list[str]:
    titles = {"all": "all", "frame_order": "order"}
    header = ["system", *(f"{title}, {seed}" for title in titles.values() for seed in seeds)]
    rows = [
        [NAMES[name], *(f"{report['cider'][seed][name][subset]:.1f}" for subset in titles for seed in seeds)]
        for name in NAMES
    ]
    return table(header, rows)


def _difference_table(differences: dict[str, Any]) -> list[str]:
    rows = []
    for name, by_subset in differences.items():
        cells = [
            f"{by_subset[subset]['mean']:+.1f} ({', '.join(f'{value:+.1f}' for value in by_subset[subset]['seeds'])})"
            for subset in SUBSETS
        ]
        rows.append([NAMES[name], *cells])
    return table(["system", *SUBSETS.values()], rows)


def _shuffling_table(report: dict[str, Any], seeds: list[str]) -> list[str]:
    rows = [
        [NAMES[name], *(f"{share:.1%}" for share in shares)] for name, shares in report["changed_by_shuffling"].items()
    ]
    return table(["system", *seeds], rows)


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
