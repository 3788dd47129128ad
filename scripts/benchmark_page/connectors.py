"""Connectors: trained alike, swept over r, and counted at full size."""

from typing import Any

from benchmark_page.tables import table
from evlvideo.comparison.tables.table import mark_of

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
    "mlp": "LLaVA-1.5's two layers",
    "pixel_shuffle": "SmolVLM's pixel shuffle and linear layer",
    "average_pool": "average pool and linear layer",
    "linear": "linear layer",
}
READINGS = {
    "linear_forward": "transformer, linear layers",
    "transformer_forward": "transformer",
    "whole_forward": "with projections and heads",
    "whole_forward_and_backward": "forward and backward",
}


def connectors(report: dict[str, Any]) -> list[str]:
    """Make the section on connectors trained alike."""
    study, constant = report["study"], report["constant"]
    seeds = ", ".join(map(str, report["seeds"]))
    rates = sorted({rate for by_rate in report["rates"].values() for rate in by_rate}, key=float)
    rate_rows = [
        [
            name,
            *(f"{100 * by_rate[rate]:.1f}" if rate in by_rate else "–" for rate in rates),
            f"{study['learning_rates'][name]:g}",
        ]
        for name, by_rate in report["rates"].items()
    ]
    return [
        "## Connectors, trained alike",
        "",
        f"`scripts/benchmarks/connectors.py`: each connector between the same frozen towers on the mini dataset, "
        f"trained from scratch in one stage, {study['steps']} steps of {study['batch_size']} clips, seeds {seeds}; "
        f"{_machine(report)}. Test scores × 100 are means over seeds, with 95 % intervals of these means over clips. "
        f"SD is the standard deviation over seeds; ‡ p < 0.01, † p < 0.05 against the first row, corrected for the "
        f"number of rows. Distinct captions are out of {constant['clips']}, on each seed. The most frequent "
        f"training caption (“{constant['caption']}”) has a CIDEr of {100 * constant['cider']:.1f} on all clips.",
        "",
        *_study_table(study),
        "",
        *_cost_table(study),
        "",
        f"Each connector uses the learning rate with the best validation CIDEr on seed {report['seeds'][0]}"
        f"{' of the earlier study' if report['earlier'] else ''}:",
        "",
        *table(["connector", *rates, "used"], rate_rows),
        "",
        "Validation CIDEr × 100 during training, one number per seed:",
        "",
        *_validation_table(study),
        *(["", *_beside_earlier(report)] if report["earlier"] else []),
    ]


def _beside_earlier(report: dict[str, Any]) -> list[str]:
    rows = []
    for row in report["study"]["rows"]:
        earlier = report["earlier"]["rows"][row["system"]]
        by_seed = earlier["cider_by_seed"]
        apart = [100 * (scores["cider"] - by_seed[seed]) for seed, scores in row["by_seed"].items()]
        rows.append(
            [
                row["system"],
                f"{100 * earlier['cider']:.1f}",
                ", ".join(f"{100 * score:.1f}" for score in by_seed.values()),
                f"{100 * (row['values']['cider'] - earlier['cider']):+.1f}",
                ", ".join(f"{difference:+.1f}" for difference in apart),
                f"{earlier['training_seconds']:.0f}",
            ]
        )
    header = ["connector", "earlier CIDEr", "by seed", "change", "change by seed", "earlier training, s"]
    return [
        f"An earlier study with the same code and seeds ran on another machine ({_machine(report['earlier'])}), whose "
        "arithmetic differs in the last digits. Differences between connectors that are no larger than those between "
        "the two studies mean nothing:",
        "",
        *table(header, rows),
    ]


def _machine(report: dict[str, Any]) -> str:
    threads = report["machine"]["threads"]
    return f"{threads} CPU thread{'s' if threads > 1 else ''}" + (f", {said}" if (said := report["conditions"]) else "")


def _study_table(study: dict[str, Any]) -> list[str]:
    header = ["connector", "CIDEr", "SD", "by seed", "BLEU-4", "METEOR", "ROUGE-L", "distinct captions"]
    rows = []
    for row in study["rows"]:
        cells = {metric: _with_interval(row, metric) for metric in ("cider", "bleu_4", "meteor", "rouge_l")}
        by_seed = ", ".join(f"{100 * scores['cider']:.1f}" for scores in row["by_seed"].values())
        distinct = ", ".join(map(str, study["distinct_captions"][row["system"]]))
        deviation = f"{100 * row['values']['cider_sd']:.1f}"
        first, *others = cells.values()
        rows.append([row["system"], first, deviation, by_seed, *others, distinct])
    return table(header, rows)


def _with_interval(row: dict[str, Any], metric: str) -> str:
    low, high = row["intervals"][metric]
    mark = mark_of(row["p_values"].get(metric))
    return f"{100 * row['values'][metric]:.1f}{mark} ({100 * low:.1f}–{100 * high:.1f})"


def _cost_table(study: dict[str, Any]) -> list[str]:
    titles = ["connector", "parameters trained", "G multiply-adds per clip, training", "captioning", "training, s"]
    rows = [
        [
            row["system"],
            f"{row['values']['trained_parameters']:,}",
            f"{row['values']['training_multiply_adds'] / 1e9:.2f}",
            f"{row['values']['captioning_multiply_adds'] / 1e9:.2f}",
            f"{row['values']['training_seconds']:.0f}",
            f"{row['values']['clips_per_second']:.0f}",
        ]
        for row in study["rows"]
    ]
    return table([*titles, "clips captioned per second"], rows)


def _validation_table(study: dict[str, Any]) -> list[str]:
    steps = list(next(iter(study["validation"].values()))[0])
    rows = [
        [name, *(", ".join(f"{100 * curve[step]:.1f}" for curve in curves) for step in steps)]
        for name, curves in study["validation"].items()
    ]
    return table(["connector", *(f"step {step}" for step in steps)], rows)


def merging_sweep(report: dict[str, Any]) -> list[str]:
    """Make the section on what merging gains and costs."""
    rows = [
        [
            str(point["value"]),
            str(point["merged_tokens"]),
            str(point["soft_tokens"]),
            *(f"{100 * point['scores'][metric]:.1f}" for metric in ("cider", "bleu_4", "meteor", "rouge_l")),
            f"{point['training_seconds']:.0f}",
            f"{point['training_multiply_adds'] / 1e9:.2f}",
            f"{point['captioning_multiply_adds'] / 1e9:.2f}",
        ]
        for point in report["points"]
    ]
    header = ["r", "tokens merged", "soft tokens", "CIDEr", "BLEU-4", "METEOR", "ROUGE-L"]
    return [
        "## What merging gains and costs",
        "",
        f"`scripts/benchmarks/merging_sweep.py`: the TomeFormer trained from scratch on the mini dataset with each r, "
        f"{report['steps']} steps, frames averaged after it, seed {report['seed']}; {_machine(report)}. "
        f"{report['split'].capitalize()} scores × 100, billions of multiply-adds (G) per clip. This is one seed; the "
        "section above shows how much seeds differ.",
        "",
        "![CIDEr and training time against tokens merged](benchmarks/merging_sweep.svg)",
        "",
        *table([*header, "training, s", "G, training", "G, captioning"], rows),
    ]


def connector_costs(report: dict[str, Any]) -> list[str]:
    """Make the section on what connectors cost."""
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
        "`scripts/benchmarks/connector_costs.py`: multiply-adds (G) for one image of "
        f"{report['image_tokens']} tokens, in BLIP-2's first stage with a text of {report['text_tokens']} tokens; from "
        f'"BLIP-2, frame by frame" on, for a clip of {report["clip_frames"]} frames, before Vicuna-7b. Parameters are '
        "the trained ones. Multiply-adds are counted while the modules run without weights; all columns but “forward "
        "and backward” count a forward pass.",
        "",
        *table(header, rows),
        "",
        "The papers do not say what their numbers include. Those of EVLGen and BLIP-2's second stage agree with the "
        "transformer's linear layers in one forward pass: no attention, no projections, no backward pass. That of "
        "BLIP-2's first stage agrees with none of these counts; it depends on the length of the text and on which of "
        "the four passes over an image and its text it includes, and neither is stated. The published 110 M trained "
        "parameters of EVLGen are the size of a whole BERT-base (109.5 M). The 88.5 M here are a BERT-base without its "
        "word embeddings (23.4 M) and its pooler (0.6 M), plus 3.0 M of `ln_vision` and projections.",
    ]
