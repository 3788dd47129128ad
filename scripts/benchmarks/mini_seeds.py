"""Run the demo on several seeds, and measure the gain of each form over all clips and by kind of clip.

    python scripts/benchmarks/mini_seeds.py --seeds 1 2 3 --out runs/mini-seeds

Writes `mini_seeds.json`, the source of `docs/benchmarks.md`. Finished seeds are not run again.
"""

import argparse
import json
import logging
import platform
import statistics
from dataclasses import replace
from pathlib import Path

import torch

from evlvideo.assembly.clips import read_clips, references_of
from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.experiments.demo import FINE_TUNED, SCST, run_demo
from evlvideo.files import read_json, write_json
from evlvideo.inference.captioning import generate_captions
from evlvideo.inference.captions import texts_of
from evlvideo.metrics.scoring import score_captions
from evlvideo.results.prediction_files import read_predictions
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.records import EvaluationResult
from evlvideo.results.run_directory import (
    PREDICTIONS_NAME,
    RESULT_NAME,
    SUMMARY_NAME,
    evaluation_directory,
    run_config,
)

BASELINE = "mean"
SUBSETS = ("all", "one_frame", "several_frames", "frame_order")


def main() -> None:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/mini-seeds"), help="directory (%(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("evlvideo").setLevel(logging.INFO)
    for seed in options.seeds:
        if not (options.out / f"seed-{seed}" / "report").is_dir():
            run_demo(options.out / f"seed-{seed}", seed=seed)
    report = study([options.out / f"seed-{seed}" for seed in options.seeds])
    write_json(options.out / "mini_seeds.json", report)
    print(
        json.dumps(
            {key: report[key] for key in ("cider_over_mean", "scst_over_start", "changed_by_shuffling")}, indent=1
        )
    )


def study(demos: list[Path]) -> dict[str, object]:
    """Compute differences in test CIDEr (×100) by seed and subset, and the share of captions that shuffling changes."""
    cider = {demo.name: {name: _cider(demo / name) for name in (*FINE_TUNED, SCST)} for demo in demos}
    starts = {demo.name: Path(read_json(demo / SCST / SUMMARY_NAME)["init"]).name for demo in demos}
    over_mean = {
        name: _differences([(cider[demo.name][name], cider[demo.name][BASELINE]) for demo in demos])
        for name in FINE_TUNED
        if name != BASELINE
    }
    over_start = _differences([(cider[demo.name][SCST], cider[demo.name][starts[demo.name]]) for demo in demos])
    return {
        "machine": {"cpus": torch.get_num_threads(), "platform": platform.platform()},
        "versions": versions(),
        "commit": git_commit(),
        "cider": cider,
        "cider_over_mean": over_mean,
        "scst_start": starts,
        "scst_over_start": over_start,
        "greedy_cider": {
            demo.name: {"start": _greedy_cider(demo / starts[demo.name]), SCST: _greedy_cider(demo / SCST)}
            for demo in demos
        },
        "changed_by_shuffling": {name: [_changed(demo / name) for demo in demos] for name in FINE_TUNED},
        "training_seconds": {
            name: [read_json(demo / name / SUMMARY_NAME)["training_seconds"] for demo in demos]
            for name in (*FINE_TUNED, SCST)
        },
    }


def _cider(run: Path) -> dict[str, float]:
    result = EvaluationResult.load(evaluation_directory(run, run_config(run).data, "test") / RESULT_NAME)
    subsets = {name: scores["cider"] for name, scores in (result.evidence_scores or {}).items()}
    return {name: round(100 * value, 2) for name, value in {"all": result.scores["cider"], **subsets}.items()}


def _greedy_cider(run: Path) -> float:
    """Compute test CIDEr × 100 of greedy captions, which SCST compares its samples with."""
    config = run_config(run)
    clips = read_clips(config.data, "test")
    model, processor = open_model(run, config)
    generation = replace(config.generation, num_beams=1)
    captions = generate_captions(model, processor, video_dataset(config.data, processor, clips), generation)
    return round(100 * score_captions(texts_of(captions), references_of(clips), metrics=("cider",)).corpus["cider"], 2)


def _differences(pairs: list[tuple[dict[str, float], dict[str, float]]]) -> dict[str, object]:
    by_subset = {}
    for subset in SUBSETS:
        values = [round(form[subset] - other[subset], 2) for form, other in pairs]
        by_subset[subset] = {"seeds": values, "mean": round(statistics.mean(values), 2)}
    return by_subset


def _changed(run: Path) -> float:
    """Compute the share of test clips whose caption changes if their frames are shuffled."""
    shuffled = evaluation_directory(run, run_config(run).data, "test", shuffle_frames=True)
    if not (shuffled / PREDICTIONS_NAME).is_file():
        evaluate(run, shuffle_frames=True)
    before = read_predictions(evaluation_directory(run, run_config(run).data, "test") / PREDICTIONS_NAME)
    after = read_predictions(shuffled / PREDICTIONS_NAME)
    return round(sum(before[clip] != after[clip] for clip in before) / len(before), 4)


if __name__ == "__main__":
    main()
