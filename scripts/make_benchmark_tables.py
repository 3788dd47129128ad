"""Make `docs/benchmarks.md` from the JSON files in `docs/benchmarks/`.

    python scripts/make_benchmark_tables.py

The JSON files are what the programs in `scripts/benchmarks` write; no number is typed by hand.
"""

import argparse
from pathlib import Path
from typing import Any

from evlvideo.files import read_json, write_text

ROOT = Path(__file__).parents[1] / "docs"
NAMES = {
    "concat": "frames concatenated",
    "mean": "frames averaged",
    "in_tower": "in-tower contextualizer",
    "in_tower_positions": "in-tower, with frame positions",
    "merged": "contextualizer over merged tokens",
    "merged_positions": "over merged tokens, with frame positions",
    "scst": "SCST",
}
CONNECTORS = {
    "evlgen_r19": "EVLGen, r = 19",
    "evlgen_r9": "EVLGen, r = 9",
    "evlgen_r0": "EVLGen, r = 0",
    "blip2_second": "BLIP-2, second stage",
    "blip2_first": "BLIP-2, first stage",
    "blip2_clip": "BLIP-2, frame by frame",
    "video_llama": "Video-LLaMA",
    "videochat": "VideoChat",
    "video_coca": "VideoCoCa's pooler",
    "average_pool": "average pool and linear layer",
    "linear": "linear layer",
}
REWARDS = {
    "cider_d": "CIDEr-D, frequencies of the split",
    "cider_d_batch_frequencies": "CIDEr-D, frequencies of the batch",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "pycocoevalcap": "pycocoevalcap's CIDEr, from words",
    "pycocoevalcap_with_tokenizer": "the same, from captions with its tokeniser",
}
READINGS = {
    "linear_forward": "transformer, linear layers",
    "transformer_forward": "transformer",
    "whole_forward": "with projections and heads",
    "whole_forward_and_backward": "forward and backward",
}
SUBSETS = {
    "all": "all clips",
    "one_frame": "one frame",
    "several_frames": "several frames",
    "frame_order": "frame order",
}


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    sections = {
        "mini_seeds": mini_seeds,
        "connector_costs": connector_costs,
        "full_size": full_size,
        "scst_step": scst_step,
        "scst_ablation": scst_ablation,
        "rewards": rewards,
        "comparison": comparison,
        "decoding": decoding,
        "features": features,
    }
    lines = ["# Benchmarks", "", "Made by `scripts/make_benchmark_tables.py` from `docs/benchmarks/*.json`."]
    for name, section in sections.items():
        lines += ["", *section(read_json(ROOT / "benchmarks" / f"{name}.json"))]
    write_text(ROOT / "benchmarks.md", "\n".join(lines) + "\n")


def mini_seeds(report: dict[str, Any]) -> list[str]:
    """The section on the demo's runs."""
    seeds = list(report["cider"])
    lines = [
        "## The demo on several seeds",
        "",
        "`scripts/benchmarks/mini_seeds.py`: test CIDEr × 100 on the mini set, a column a seed. The classes of clips "
        "are those of the annotation: what their captions can be told from.",
        "",
        *_cider_table(report, seeds),
        "",
        "### Against the frame mean",
        "",
        "Difference in test CIDEr to `mean` on the same seed, and the mean of the differences.",
        "",
        *_difference_table({name: report["cider_over_mean"][name] for name in report["cider_over_mean"]}),
        "",
        "### SCST against its cross-entropy start",
        "",
        "SCST starts from the run with the best validation CIDEr: "
        + ", ".join(f"`{start}` ({seed})" for seed, start in report["scst_start"].items())
        + ".",
        "",
        *_difference_table({"scst": report["scst_over_start"]}),
        "",
        "Beams find the safest caption already; greedy captions show what the stage moves. Test CIDEr × 100 of greedy "
        "captions, start → SCST: "
        + "; ".join(
            f"{pair['start']:.1f} → {pair['scst']:.1f} ({seed})" for seed, pair in report["greedy_cider"].items()
        )
        + ".",
        "",
        "### Frames out of order",
        "",
        "Share of test clips whose caption changes when their four frames are shuffled.",
        "",
        *_shuffling_table(report, seeds),
        "",
        f"Versions: {', '.join(f'{name} {number}' for name, number in report['versions'].items())}; "
        f"{report['machine']['cpus']} CPU threads. "
        "Median seconds of training: "
        + ", ".join(f"{name} {_median(values):.0f}" for name, values in report["training_seconds"].items())
        + ".",
    ]
    return lines


def connector_costs(report: dict[str, Any]) -> list[str]:
    """The section on what connectors cost."""
    header = ["trained part", "parameters", *READINGS.values(), "published"]
    rows = [
        [
            CONNECTORS[name],
            f"{costs['parameters'] / 1e6:.1f} M",
            *(f"{costs['multiply_adds'][reading] / 1e9:.2f}" for reading in READINGS),
            "" if costs["published_multiply_adds_g"] is None else str(costs["published_multiply_adds_g"]),
        ]
        for name, costs in report["systems"].items()
    ]
    return [
        "## What connectors cost",
        "",
        "`scripts/benchmarks/connector_costs.py`: multiply-adds (G) of one image of "
        f"{report['image_tokens']} tokens, in BLIP-2's first stage with a text of {report['text_tokens']}; from "
        f'"BLIP-2, frame by frame" on, of a clip of {report["clip_frames"]} frames, before Vicuna-7b. Parameters are '
        "those that are trained. Counted while the modules run, without weights. All columns but the last but one are "
        "a forward pass.",
        "",
        *_table(header, rows),
        "",
        "The published numbers do not say what is in them. EVLGen's and that of BLIP-2's second stage agree with the "
        "linear layers of the transformer in one forward pass: no attention, no projections, no backward pass. That of "
        "BLIP-2's first stage agrees with none of these counts; it depends on the length of the text and on which of "
        "the four passes over an image and its text are in it, and neither is stated. EVLGen's trained parameters are "
        "published as 110 M, the size of a whole BERT-base (109.5 M). The 88.5 M here are a BERT-base without its word "
        "embeddings (23.4 M) and its pooler (0.6 M), and 3.0 M of `ln_vision` and projections.",
    ]


def rewards(report: dict[str, Any]) -> list[str]:
    """The section on what rewards and evaluations cost."""
    reward, evaluation = report["reward"], report["evaluation"]
    calls = [[REWARDS[name], *_times(call)] for name, call in reward["calls"].items()]
    evaluations = [
        ["all metrics on one tokenisation", *_times(evaluation["together"], 1000)],
        ["each metric on its own", *_times(evaluation["apart"], 1000)],
    ]
    skipped = f" Without {', '.join(evaluation['skipped'])}." if evaluation["skipped"] else ""
    return [
        "## What rewards and evaluations cost",
        "",
        f"`scripts/benchmarks/rewards.py`: {reward['clips']} clips with {reward['samples']} captions each, against the "
        f"20 references of the clip; medians and 5th to 95th percentiles in ms, on a machine of "
        f"{report['machine']['cpus']} CPU threads with a load of {report['machine']['load']:.1f}. Ours tokenise the "
        "captions too. The CPU's time is of the process alone, so that Java's is not in it.",
        "",
        *_table(["320 captions", "wall", "CPU"], calls),
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
        f"seconds, tokeniser {evaluation['tokenizer']}.{skipped}",
        "",
        *_table(["evaluation", "wall", "CPU"], evaluations),
    ]


def full_size(report: dict[str, Any]) -> list[str]:
    """The section on EVLGen at its full size."""
    rows = [
        [
            name,
            str(run["soft_tokens"]),
            f"{run['median_seconds']['encode']:.1f} ({_spread(run['seconds']['encode'])})",
            f"{run['median_seconds']['generate']:.1f} ({_spread(run['seconds']['generate'])})",
            f"{run['peak_memory_gib']:.1f}",
        ]
        for name, run in report["runs"].items()
    ]
    parameters = next(iter(report["runs"].values()))["parameters"]
    return [
        "## EVLGen at its full size, on a CPU",
        "",
        f"`scripts/benchmarks/full_size.py`: {report['architecture']}, {parameters / 1e9:.2f} G random weights in "
        f"bfloat16, one clip of {report['frames']} frames, {report['new_tokens']} new tokens without beams, "
        f"{report['machine']['threads']} threads. Seconds are medians, with the least and the most.",
        "",
        *_table(["tokens merged in a layer", "soft tokens", "encoding, s", "generation, s", "peak memory, GiB"], rows),
    ]


def scst_step(report: dict[str, Any]) -> list[str]:
    """The section on a self-critical step."""
    rows = [
        [
            size,
            form,
            *(
                f"{run['median_seconds'][way]:.2f} ({_spread(run['seconds'][way], 2)})"
                for way in ("shared", "separate")
            ),
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
        *_table(["size", "form", "shared", "separate", "times faster"], rows),
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
        *_table(header, [row(setting, "validation_cider") for setting in report["curves"]]),
        "",
        "Percent of the validation captions that end badly, with an article, a preposition or the like.",
        "",
        *_table(header, [row(setting, "validation_bad_endings") for setting in report["curves"]]),
    ]


def comparison(report: dict[str, Any]) -> list[str]:
    """The section on a comparison of files of captions."""
    rows = [[part, f"{times['wall']:.2f}", f"{times['process']:.2f}"] for part, times in report["seconds"].items()]
    return [
        "## A comparison",
        "",
        f"`scripts/benchmarks/comparison.py`: {report['systems']} files of 2,990 captions against MSR-VTT's official "
        f"test references, {report['resamples']:,} draws for intervals and tests; seconds of one run on "
        f"{report['machine']['cpus']} CPU threads with a load of {report['machine']['load']:.1f}. METEOR and the "
        "tokeniser are Java programs, whose time is not in that of the process.",
        "",
        *_table(["part", "wall", "process"], rows),
    ]


def decoding(report: dict[str, Any]) -> list[str]:
    """The section on decoders."""
    ways = list(report["clips"][0]["frames"]["4"]["ways"])
    rows, ratios = [], []
    for clip in report["clips"]:
        for count, found in clip["frames"].items():
            name = f"{clip['name']}, {count} frames"
            rows.append([name, *(f"{found['ways'][way]['clips_per_second']:.1f}" for way in ways)])
            ratios.append(
                [
                    name,
                    found["fastest_backend"],
                    f"{found['auto_over_fastest_speed']:.2f}",
                    f"{found['auto_over_published_speed']:.2f}",
                    f"{found['guarded_over_auto_time']:.2f}",
                ]
            )
    return [
        "## Decoding",
        "",
        "`scripts/benchmarks/decoding.py`: clips a second, uniform frames of rendered H.264 files, scaled to "
        f"{report['size']} × {report['size']}, {report['threads']} thread, rounds interleaved. `guarded` is `auto` in "
        "a process of its own, `published` is decord with its own scaling, `pytorchvideo` is its reader.",
        "",
        *_table(["clip", *ways], rows),
        "",
        "Ratios are medians of the rounds' own.",
        "",
        *_table(["clip", "fastest", "auto over fastest", "auto over published", "guarded over auto, time"], ratios),
    ]


def features(report: dict[str, Any]) -> list[str]:
    """The section on features made before."""
    medians, seconds = report["median_seconds"], report["seconds"]
    rows = [[kind, f"{medians[kind]:.1f} ({_spread(seconds[kind])})"] for kind in seconds]
    equal = "equal bit for bit" if report["losses_equal"] else f"apart by up to {report['largest_difference']:.1e}"
    return [
        "## Training from features",
        "",
        f"`scripts/benchmarks/features.py`: {report['steps']} steps of the merged contextualizer over the mini set's "
        f"clips, once each, {report['machine']['threads']} threads. Losses are {equal}; from features it is "
        f"{report['ratio']:.1f} times as fast. Making them took {report['extraction_seconds']:.0f} s.",
        "",
        *_table(["from", "seconds"], rows),
    ]


def _spread(values: list[float], digits: int = 1) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def _times(call: dict[str, Any], divisor: float = 1) -> list[str]:
    return [
        f"{times['median'] / divisor:.1f} ({times['p5'] / divisor:.1f}–{times['p95'] / divisor:.1f})"
        for times in (call["wall_ms"], call["cpu_ms"])
    ]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _cider_table(report: dict[str, Any], seeds: list[str]) -> list[str]:
    titles = {"all": "all", "frame_order": "order"}
    header = ["system", *(f"{title}, {seed}" for title in titles.values() for seed in seeds)]
    rows = [
        [NAMES[name], *(f"{report['cider'][seed][name][subset]:.1f}" for subset in titles for seed in seeds)]
        for name in NAMES
    ]
    return _table(header, rows)


def _difference_table(differences: dict[str, Any]) -> list[str]:
    rows = []
    for name, by_subset in differences.items():
        cells = [
            f"{by_subset[subset]['mean']:+.1f} ({', '.join(f'{value:+.1f}' for value in by_subset[subset]['seeds'])})"
            for subset in SUBSETS
        ]
        rows.append([NAMES[name], *cells])
    return _table(["system", *SUBSETS.values()], rows)


def _shuffling_table(report: dict[str, Any], seeds: list[str]) -> list[str]:
    rows = [
        [NAMES[name], *(f"{share:.1%}" for share in shares)] for name, shares in report["changed_by_shuffling"].items()
    ]
    return _table(["system", *seeds], rows)


if __name__ == "__main__":
    main()
