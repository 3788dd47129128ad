"""ELIP's pruning: what it costs, and what it is worth on the mini set."""

import statistics
from typing import Any

from benchmark_page.tables import table

HOSTS = {"blip": "BLIP, ALBEF, CLIP", "meter": "METER (11 blocks)"}
WAYS = {"none": "no pruning", "exact": "`exact`", "one": "`one`", "previous": "`previous`"}


def elip_costs(report: dict[str, Any]) -> list[str]:
    """Make the section on the costs of pruning."""
    machine = report["machine"]
    return [
        "## What ELIP's pruning costs",
        "",
        f"`scripts/benchmarks/elip_costs.py`: ViT-B/16 at {report['image_size']} with random weights. The look-ahead "
        "is `exact` (as published, with the class token's attention alone in the last block), `one` (the block that "
        "follows) or `previous` (the keys of the block just run). Billions of multiply-adds (G) of the blocks for an "
        "image, counted, and equal to the formulas; the whole forward pass is real blocks and look-ahead, and the "
        "backward pass goes through the real blocks alone. Ratios are to the tower without pruning.",
        "",
        *_count_table(report),
        "",
        f"Saved for the backward pass, an image, with fused attention on a GPU; and the largest batch in "
        f"{report['budget_gib']} GiB that this leaves, beside weights, gradients and AdamW's moments in float32, for "
        "the tower alone:",
        "",
        *_memory_table(report),
        "",
        f"Measured on {machine['threads']} CPU thread(s) in float32, {report['batch']} images a step: CPU seconds as "
        "ratios to the tower without pruning in the same round, medians with their range, and the peak memory of a "
        f"process's step of {report['peak_batch']} images over that with the model alone (load {machine['load']:.1f} "
        "when it began).",
        "",
        *_measured_table(report),
        "",
        "The sizes and kept tokens of the published runs, where the last block that is looked ahead runs whole:",
        "",
        *_published_table(report),
    ]


def _count_table(report: dict[str, Any]) -> list[str]:
    rows = []
    for host, found in report["hosts"].items():
        none, backward = found["unpruned"], found["backward"]
        rows.append([HOSTS[host], WAYS["none"], "", _g(none), "–", "1.00", "1.00"])
        for way in list(WAYS)[1:]:
            ahead = found["look_ahead"][way]
            forward = found["real"] + ahead
            step = (forward + backward["pruned"]) / (none + backward["none"])
            removed = f"{found['tokens_removed']:.1%}"
            row = [
                HOSTS[host],
                WAYS[way],
                removed,
                _g(found["real"]),
                _g(ahead),
                f"{forward / none:.2f}",
                f"{step:.2f}",
            ]
            rows.append(row)
    header = [
        "schedule",
        "look-ahead",
        "tokens removed",
        "real blocks, G",
        "looked ahead, G",
        "forward",
        "with backward",
    ]
    return table(header, rows)


def _memory_table(report: dict[str, Any]) -> list[str]:
    rows = []
    for host, found in report["hosts"].items():
        for way in ("none", "exact"):
            saved, batches = found["saved_bytes"][way], found["largest_batch"][way]
            base = found["saved_bytes"]["none"]
            cells = [
                cell
                for precision in saved
                for cell in (
                    f"{saved[precision] / 2**20:.1f}",
                    f"{saved[precision] / base[precision]:.2f}",
                    f"{batches[precision]:,}",
                )
            ]
            rows.append([HOSTS[host], "no pruning" if way == "none" else "pruned", *cells])
    precisions = next(iter(report["hosts"].values()))["saved_bytes"]["none"]
    header = [f"{name}, {what}" for name in precisions for what in ("MiB", "ratio", "largest batch")]
    return table(["schedule", "", *header], rows)


def _measured_table(report: dict[str, Any]) -> list[str]:
    rows = [
        [
            HOSTS[host],
            WAYS[way],
            _spread(found["ratios"][way]["forward"]),
            _spread(found["ratios"][way]["step"]),
            f"{statistics.median(found['seconds'][way]['step']):.2f}",
            f"{found['peak_mib'][way]:,.0f}",
        ]
        for host, found in report["measured"].items()
        for way in WAYS
    ]
    return table(["schedule", "look-ahead", "forward", "forward and backward", "step, CPU s", "peak, MiB"], rows)


def _published_table(report: dict[str, Any]) -> list[str]:
    rows = []
    for name, found in report["as_published"].items():
        none, backward = found["unpruned"], found["backward"]
        ratios = [
            ratio
            for way in ("published", "exact")
            for ratio in (
                f"{(found['real'] + found['look_ahead'][way]) / none:.2f}",
                f"{(found['real'] + found['look_ahead'][way] + backward['pruned']) / (none + backward['none']):.3f}",
            )
        ]
        ahead = found["look_ahead"]
        cells = [_g(number) for number in (none, found["real"], ahead["published"], ahead["exact"])]
        rows.append([name, f"{found['tokens_removed']:.1%}", *cells, *ratios])
    header = ["run", "tokens removed", "no pruning, G", "real, G", "published, G", "`exact`, G"]
    named = [f"{what}, {way}" for way in ("published", "`exact`") for what in ("forward", "with backward")]
    return table([*header, *named], rows)


VARIANTS = {
    "none": "no pruning",
    "exact": "`exact`",
    "one": "`one`",
    "previous": "`previous`",
    "random": "random",
    "shuffled": "another clip's caption",
    "dropped": "dropped, not folded",
    "class": "class token alone (λ = 1)",
}
"""Rows, in order; then those of λ."""
GUIDES = {"none": "whole images", "class": "pruned, class token", "own caption": "pruned, own caption (leak)"}
_SHARE = "lambda_"


def elip_mini(report: dict[str, Any]) -> list[str]:
    """Make the section on pre-training with pruning on the mini set."""
    seeds = ", ".join(map(str, report["seeds"]))
    by_share = {
        float(name.removeprefix(_SHARE)): found for name, found in report["variants"].items() if name.startswith(_SHARE)
    }
    first = str(report["seeds"][0])
    for name, share in (("exact", 0.8), ("class", 1.0)):
        by_share[share] = report["variants"][name]
    return [
        "## ELIP on the mini set",
        "",
        f"`scripts/benchmarks/elip_mini.py`: `configs/elip/mini_blip.yaml` shortened to {report['steps']} steps of "
        f"{report['batch_size']} clips with {report['frames']} frame(s), without queue and teacher, seeds {seeds}. "
        "Tested on the test split, with all captions of a clip; mean recall × 100 is the mean of R@1, R@5 and R@10 in "
        "both directions, with each seed's in brackets. Models are tested on whole images, and with tokens pruned by "
        "the class token, since a caption may not guide a test. That a clip's own caption does in the last column is a "
        "leak, shown as its ceiling.",
        "",
        *_recall_table(report),
        "",
        "R@1, R@5, R@10 × 100 and median rank on whole images, means over seeds; the last losses in training; and "
        "millions of multiply-adds (M) of the tower's blocks for an image in training (forward, backward and looked "
        "ahead) and in a test that prunes:",
        "",
        *_detail_table(report),
        "",
        f"λ, the share of the class token in the guide, seed {first}:",
        "",
        *table(
            ["λ", *GUIDES.values()],
            [
                [f"{share:g}", *(_one_recall(by_share[share][first], guide) for guide in GUIDES)]
                for share in sorted(by_share)
            ],
        ),
    ]


def _recall_table(report: dict[str, Any]) -> list[str]:
    rows = []
    for name, title in VARIANTS.items():
        found = report["variants"][name]
        cells = []
        for guide in GUIDES:
            recalls = [100 * of["scores"][guide]["mean_recall"] for of in found.values() if guide in of["scores"]]
            several = ", ".join(f"{recall:.1f}" for recall in recalls)
            cells.append(f"{statistics.mean(recalls):.1f} ({several})" if recalls else "–")
        rows.append([title, *cells])
    return table(["trained with", *GUIDES.values()], rows)


def _detail_table(report: dict[str, Any]) -> list[str]:
    rows = []
    for name, title in VARIANTS.items():
        found, counted = report["variants"][name], report["multiply_adds"][name]
        scores = [of["scores"]["none"] for of in found.values()]
        directions = [
            " / ".join(f"{100 * _mean(scores, way, k):.1f}" for k in ("r1", "r5", "r10"))
            + f"; {_mean(scores, way, 'median_rank'):.1f}"
            for way in ("image_to_text", "text_to_image")
        ]
        losses = [
            f"{statistics.mean(of['losses'][loss] for of in found.values()):.2f}"
            for loss in ("contrast", "matching", "language")
        ]
        costs = [f"{counted[what] / 1e6:.1f}" for what in ("training", "pruned")]
        rows.append([title, *directions, *losses, *costs])
    header = ["trained with", "image → text", "text → image", "contrast", "matching", "language"]
    return table([*header, "M, training", "M, test"], rows)


def _mean(scores: list[dict[str, Any]], way: str, measure: str) -> float:
    return statistics.mean(of[way][measure] for of in scores)


def _one_recall(found: dict[str, Any], guide: str) -> str:
    return f"{100 * found['scores'][guide]['mean_recall']:.1f}" if guide in found["scores"] else "–"


def _g(multiply_adds: int) -> str:
    return f"{multiply_adds / 1e9:.2f}"


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
