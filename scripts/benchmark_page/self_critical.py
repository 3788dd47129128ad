"""The self-critical stage: step, rewards, settings."""

from typing import Any

from benchmark_page.tables import spread, table

REWARDS = {
    "cider_d": "CIDEr-D, frequencies of the split",
    "cider_d_batch_frequencies": "CIDEr-D, frequencies of the batch",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "pycocoevalcap": "pycocoevalcap's CIDEr, from words",
    "pycocoevalcap_with_tokenizer": "the same, from captions, with its tokenizer",
}


def scst_step(report: dict[str, Any]) -> list[str]:
    """Make the section on a self-critical step."""
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
        "soft prompt with every caption. Seconds are medians, with the range.",
        "",
        *table(["size", "form", "shared", "separate", "times faster"], rows),
        "",
        "With contextualizers in the tower, both ways need its backward pass, which costs as much as two encodings. "
        "Three encodings and this pass against one and this pass is a ratio of at most 5 to 3.",
    ]


def scst_ablation(report: dict[str, Any]) -> list[str]:
    """Make the section on baselines and the EOS token."""
    steps = [point["step"] for point in next(iter(report["curves"].values()))[0]]
    seeds = report["seeds"]

    def row(setting: str, key: str) -> list[str]:
        curves = report["curves"][setting]
        values = [[100 * curve[place][key] for curve in curves] for place in range(len(steps))]
        return [
            setting.replace("end of text", "EOS"),
            *(f"{sum(of) / len(of):.1f} ({', '.join(f'{value:.1f}' for value in of)})" for of in values),
        ]

    header = ["setting", *(f"step {step}" for step in steps)]
    return [
        "## Self-critical training by baseline, with and without the EOS token",
        "",
        f"`scripts/benchmarks/scst_ablation.py`: {report['steps']} steps on the mini dataset from `{report['start']}` "
        f"with the same seed, {report['machine']['threads']} thread. Validation CIDEr × 100: mean over the seeds "
        f"{', '.join(map(str, seeds))}; in brackets, each seed.",
        "",
        *table(header, [row(setting, "validation_cider") for setting in report["curves"]]),
        "",
        "Percentage of validation captions with a bad ending, such as an article or a preposition.",
        "",
        *table(header, [row(setting, "validation_bad_endings") for setting in report["curves"]]),
    ]


def scst_loss(report: dict[str, Any]) -> list[str]:
    """Make the section on the self-critical loss."""
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
        "## Memory and time of the self-critical loss",
        "",
        f"`scripts/benchmarks/scst_loss.py`: {report['rows']} samples of {report['tokens']} tokens over a vocabulary "
        f"of {report['vocabulary']:,}, whose logits take {report['bytes of the logits'] / 2**20:,.0f} MiB; "
        f"{report['machine']['threads']} thread(s). The peak is the process's memory beyond the logits; kept is "
        "what it keeps for the backward pass, without the logits. Medians, in MiB and seconds.",
        "",
        *table(["loss", "way", "peak", "kept", "wall", "CPU"], rows),
    ]


def rewards(report: dict[str, Any]) -> list[str]:
    """Make the section on what rewards and evaluations cost."""
    reward, evaluation = report["reward"], report["evaluation"]
    calls = [[REWARDS[name], *_times(call)] for name, call in reward["calls"].items()]
    evaluations = [
        ["all metrics, one tokenization", *_times(evaluation["together"], 1000)],
        ["each metric on its own", *_times(evaluation["apart"], 1000)],
    ]
    skipped = f" Without {', '.join(evaluation['skipped'])}." if evaluation["skipped"] else ""
    return [
        "## What rewards and evaluations cost",
        "",
        f"`scripts/benchmarks/rewards.py`: {reward['clips']} clips with {reward['samples']} captions each, against the "
        f"clip's 20 references; medians and 5th to 95th percentiles in ms, on a machine of "
        f"{report['machine']['cpus']} CPU threads with a load of {report['machine']['load']:.1f}. Our scorers also "
        "tokenize the captions. CPU time is the process's own, without Java.",
        "",
        *table(["320 captions", "wall", "CPU"], calls),
        "",
        f"Ours is {reward['times_faster_wall']:.0f} times as fast as pycocoevalcap's scorer in wall time, "
        f"{reward['times_faster_cpu']:.0f} times in CPU time. Over one caption for each of the "
        f"{report['agreement']['captions']:,} training clips, with EOS counted as a word, the largest difference "
        f"between the two is {report['agreement']['largest_difference']:.1e}. The scorer for the split's "
        f"{reward['split_captions']:,} captions takes {reward['build']['wall_ms']['median'] / 1000:.1f} s to build "
        f"({reward['peak_growth_while_building_mb']:.0f} MB at its peak) and holds {reward['arrays_mb']:.0f} MB, "
        f"{reward['file_mb']:.0f} MB in a file; reading it back and checking the captions takes "
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
