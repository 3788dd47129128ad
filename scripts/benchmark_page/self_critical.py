"""The self-critical stage: its step, its reward, its settings."""

from typing import Any

from benchmark_page.tables import spread, table

REWARDS = {
    "cider_d": "CIDEr-D, frequencies of the split",
    "cider_d_batch_frequencies": "CIDEr-D, frequencies of the batch",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "pycocoevalcap": "pycocoevalcap's CIDEr, from words",
    "pycocoevalcap_with_tokenizer": "the same, from captions with its tokenizer",
}


def scst_step(report: dict[str, Any]) -> list[str]:
    """The section on a self-critical step."""
    rows = [
        [
            size,
            form,
            *(f"{run['median_seconds'][way]:.2f} ({spread(run['seconds'][way], 2)})" for way in ("shared", "separate")),
            f"{run['ratio']:.1f}",
        ]
        for size, forms in report["runs"].items()
        for form, run in forms.items()
    ]
    return [
        "## A self-critical step",
        "",
        f"`scripts/benchmarks/scst_step.py`: {report['clips']} clips of {report['frames']} frames, {report['samples']} "
        f"samples each and the greedy caption, {report['machine']['threads']} threads. `shared` encodes a clip and "
        "reads its soft prompt once; `separate` encodes it for samples, greedy caption and gradient, and reads the "
        "prompt with every caption. Seconds are medians, with the least and the most.",
        "",
        *table(["size", "form", "shared", "separate", "times faster"], rows),
        "",
        "With contextualizers in the tower, its backward pass, which both ways need, costs as much as two encodings: "
        "three encodings and that pass against one and that pass are at most 5 to 3.",
    ]


def scst_ablation(report: dict[str, Any]) -> list[str]:
    """The section on baselines and the end of text."""
    steps = [point["step"] for point in next(iter(report["curves"].values()))[0]]
    seeds = report["seeds"]

    def row(setting: str, key: str) -> list[str]:
        curves = report["curves"][setting]
        values = [[100 * curve[place][key] for curve in curves] for place in range(len(steps))]
        return [setting, *(f"{sum(of) / len(of):.1f} ({', '.join(f'{value:.1f}' for value in of)})" for of in values)]

    header = ["setting", *(f"step {step}" for step in steps)]
    return [
        "## Self-critical training, by baseline and with the end of text or without",
        "",
        f"`scripts/benchmarks/scst_ablation.py`: {report['steps']} steps on the mini set from `{report['start']}` of "
        f"the same seed, {report['machine']['threads']} thread. Validation CIDEr × 100, mean of the seeds "
        f"({', '.join(map(str, seeds))}) and each.",
        "",
        *table(header, [row(setting, "validation_cider") for setting in report["curves"]]),
        "",
        "Percent of the validation captions that end badly, with an article, a preposition or the like.",
        "",
        *table(header, [row(setting, "validation_bad_endings") for setting in report["curves"]]),
    ]


def scst_loss(report: dict[str, Any]) -> list[str]:
    """The section on what a self-critical loss makes of logits."""
    rows = [
        [
            form,
            way,
            *(f"{found[key]['median'] / 2**20:,.0f}" for key in ("peak_bytes", "bytes_kept")),
            *(f"{found[key]['median']:.2f}" for key in ("seconds", "cpu_seconds")),
        ]
        for form, ways in report["runs"].items()
        for way, found in ways.items()
    ]
    return [
        "## What a self-critical loss makes of logits",
        "",
        f"`scripts/benchmarks/scst_loss.py`: {report['rows']} samples of {report['tokens']} tokens over a vocabulary "
        f"of {report['vocabulary']:,}, whose logits take {report['bytes of the logits'] / 2**20:,.0f} MiB; "
        f"{report['machine']['threads']} thread(s). The peak is the process's above what it holds with the logits "
        "made; kept is what waits for the backward pass, without the logits. Medians, MiB and seconds.",
        "",
        *table(["loss", "way", "peak", "kept", "wall", "CPU"], rows),
    ]


def rewards(report: dict[str, Any]) -> list[str]:
    """The section on what rewards and evaluations cost."""
    reward, evaluation = report["reward"], report["evaluation"]
    calls = [[REWARDS[name], *_times(call)] for name, call in reward["calls"].items()]
    evaluations = [
        ["all metrics on one tokenization", *_times(evaluation["together"], 1000)],
        ["each metric on its own", *_times(evaluation["apart"], 1000)],
    ]
    skipped = f" Without {', '.join(evaluation['skipped'])}." if evaluation["skipped"] else ""
    return [
        "## What rewards and evaluations cost",
        "",
        f"`scripts/benchmarks/rewards.py`: {reward['clips']} clips with {reward['samples']} captions each, against the "
        f"20 references of the clip; medians and 5th to 95th percentiles in ms, on a machine of "
        f"{report['machine']['cpus']} CPU threads with a load of {report['machine']['load']:.1f}. Ours tokenize the "
        "captions too. The CPU's time is of the process alone, so that Java's is not in it.",
        "",
        *table(["320 captions", "wall", "CPU"], calls),
        "",
        f"Ours is {reward['times_faster_wall']:.0f} times as fast as pycocoevalcap's scorer on the wall, "
        f"{reward['times_faster_cpu']:.0f} times by the CPU's time. Over a caption for each of the "
        f"{report['agreement']['captions']:,} training clips, with the end of text counted, the largest difference of "
        f"the two is {report['agreement']['largest_difference']:.1e}. The scorer of the split's "
        f"{reward['split_captions']:,} captions takes {reward['build']['wall_ms']['median'] / 1000:.1f} s to build "
        f"({reward['peak_growth_while_building_mb']:.0f} MB at most) and {reward['arrays_mb']:.0f} MB to keep, "
        f"{reward['file_mb']:.0f} MB in a file; reading it back, the check of the captions included, takes "
        f"{reward['load']['wall_ms']['median'] / 1000:.2f} s.",
        "",
        f"Evaluation of {evaluation['captions']:,} captions against {evaluation['references']:,} references, in "
        f"seconds, tokenizer {evaluation['tokenizer']}.{skipped}",
        "",
        *table(["evaluation", "wall", "CPU"], evaluations),
    ]


def _times(call: dict[str, Any], divisor: float = 1) -> list[str]:
    return [
        f"{times['median'] / divisor:.1f} ({times['p5'] / divisor:.1f}–{times['p95'] / divisor:.1f})"
        for times in (call["wall_ms"], call["cpu_ms"])
    ]
