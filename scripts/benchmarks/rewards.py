"""Time the reward of self-critical training, and an evaluation, against pycocoevalcap on MSR-VTT.

    python scripts/benchmarks/rewards.py --root data/msrvtt

Writes `docs/benchmarks/rewards.json`, the source of `docs/benchmarks.md`. Needs only the official annotation.

The reward: 5 captions for each of 64 training clips, against the clip's 20 references. Ours starts from captions as a
model writes them, and has the document frequencies of the training split. pycocoevalcap starts from words, and counts
frequencies over its input, which is less work; its own tokenizer starts a Java program in each call. Their agreement is
checked over the whole split, where their frequencies are the same.

The evaluation: the first caption of every test clip against the other 19, all metrics on one tokenization, and each
metric alone. Records wall time and this process's CPU time, which other load on the machine affects less.
"""

import argparse
import os
import platform
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from evlvideo.data.annotation.splits import read_split
from evlvideo.files import write_json
from evlvideo.metrics.java import find_java, java_on_path
from evlvideo.metrics.names import METRICS
from evlvideo.metrics.scoring import score_captions
from evlvideo.metrics.stored_scorer import load_scorer, save_scorer, scorer_key
from evlvideo.metrics.tokenizers.tokenize import tokenize, tokenize_lines
from evlvideo.results.provenance import git_commit, versions
from evlvideo.training.scst.rewards import CiderReward, SentenceReward

ROOT = Path(__file__).parents[2]
CLIPS, SAMPLES = 64, 5
END = "endoftext"
"""A word that no caption has, to count EOS in pycocoevalcap."""
Captions = dict[str, list[str]]


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, default=ROOT / "data" / "msrvtt", help="MSR-VTT's annotation (%(default)s)"
    )
    parser.add_argument(
        "--repeats", type=int, default=200, help="calls of our scorer, after 20 for warm-up (%(default)s)"
    )
    parser.add_argument("--slow-repeats", type=int, default=5, help="calls of slow scorers (%(default)s)")
    parser.add_argument("--evaluations", type=int, default=3, help="evaluations, 0 for none (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "rewards.json")
    options = parser.parse_args()
    if not options.root.is_dir():
        print(f"{options.root} does not exist, so there is nothing to measure; name MSR-VTT's directory with --root.")
        return
    references = captions_of(options.root, "train")
    report = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]},
        "versions": versions(),
        "commit": git_commit(),
        "reward": measure_reward(references, options.repeats, options.slow_repeats),
        "agreement": measure_agreement(references),
    }
    if options.evaluations:
        report["evaluation"] = measure_evaluation(captions_of(options.root, "test"), options.evaluations)
    write_json(options.out, report)
    print(report)


def captions_of(root: Path, split: str) -> Captions:
    """Return the captions of every clip of a split."""
    return {clip.clip_id: list(clip.captions) for clip in read_split("msrvtt", split, root, check_files=False)}


def measure_reward(references: Captions, repeats: int, slow_repeats: int) -> dict[str, Any]:
    """Measure time and memory of the rewards of one step."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    built = timed(lambda: CiderReward(references), 1, warm_up=0)
    reward = CiderReward(references)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    captions, clips = sampled(references)
    ended = [True] * len(captions)
    batch = CiderReward.of_scorer(reward.scorer, frequencies="batch")
    bleu, rouge = (SentenceReward(name, references) for name in ("bleu_4", "rouge_l"))
    tokenized = tokenize({str(place): references[clip] for place, clip in enumerate(clips)}, "python")
    words = {str(place): [line] for place, line in enumerate(tokenize_lines(captions, "python"))}
    calls: dict[str, Any] = {
        "cider_d": timed(lambda: reward(captions, clips, ended), repeats),
        "cider_d_batch_frequencies": timed(lambda: batch(captions, clips, ended), repeats),
        "bleu_4": timed(lambda: bleu(captions, clips, ended), repeats),
        "rouge_l": timed(lambda: rouge(captions, clips, ended), repeats),
        "pycocoevalcap": timed(lambda: Cider().compute_score(tokenized, words), slow_repeats, warm_up=1),
    }
    if find_java() is not None:
        calls["pycocoevalcap_with_tokenizer"] = timed(
            lambda: from_captions(references, captions, clips), slow_repeats, 1
        )
    return {
        "clips": CLIPS,
        "samples": SAMPLES,
        "split_clips": len(references),
        "split_captions": sum(map(len, references.values())),
        "calls": calls,
        "times_faster_wall": calls["pycocoevalcap"]["wall_ms"]["median"] / calls["cider_d"]["wall_ms"]["median"],
        "times_faster_cpu": calls["pycocoevalcap"]["cpu_ms"]["median"] / calls["cider_d"]["cpu_ms"]["median"],
        "build": built,
        **stored(references, reward, slow_repeats),
        "arrays_mb": reward.scorer.nbytes / 1e6,
        "peak_growth_while_building_mb": (after - before) * 1024 / 1e6,
    }


def sampled(references: Captions) -> tuple[list[str], list[str]]:
    """Make captions like a model's for some clips: two of each clip's own, three of other clips."""
    draw = random.Random(0)
    names = list(references)
    captions, clips = [], []
    for clip in draw.sample(names, CLIPS):
        of = [clip, clip, *draw.choices(names, k=SAMPLES - 2)]
        captions += [draw.choice(references[name]) for name in of]
        clips += [clip] * SAMPLES
    return captions, clips


def from_captions(references: Captions, captions: list[str], clips: list[str]) -> None:
    """Run pycocoevalcap on captions: its tokenizer, then its scorer."""
    with java_on_path():
        tokenizer = PTBTokenizer()
        hypotheses = tokenizer.tokenize({place: [{"caption": text}] for place, text in enumerate(captions)})
        texts = tokenizer.tokenize(
            {place: [{"caption": text} for text in references[clip]] for place, clip in enumerate(clips)}
        )
    Cider().compute_score(texts, hypotheses)


def stored(references: Captions, reward: CiderReward, repeats: int) -> dict[str, Any]:
    """Measure the size of the stored scorer, and the time until a loaded one returns its first score."""

    def load() -> None:
        # Includes the digest of the captions, which every start compares.
        load_scorer(path, scorer_key("msrvtt:train", references, end_of_text=True)).score(
            "a man", next(iter(references))
        )

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "scorer.safetensors"
        save_scorer(path, reward.scorer, scorer_key("msrvtt:train", references, end_of_text=True))
        return {"file_mb": path.stat().st_size / 1e6, "load": timed(load, repeats, warm_up=1)}


def measure_agreement(references: Captions) -> dict[str, Any]:
    """Compute the largest difference from pycocoevalcap over the split, with EOS and the split's frequencies."""
    draw = random.Random(1)
    names = list(references)
    captions = [draw.choice(references[draw.choice([name, draw.choice(names)])]) for name in names]
    ours = CiderReward(references)(captions, names, [True] * len(names))
    tokenized = tokenize(references, "python")
    with_end = {place: [f"{text} {END}" for text in tokenized[name]] for place, name in enumerate(names)}
    words = {place: [f"{text} {END}"] for place, text in enumerate(tokenize_lines(captions, "python"))}
    _, theirs = Cider().compute_score(with_end, words)
    return {"captions": len(names), "largest_difference": float(np.abs(np.array(ours) - np.array(theirs)).max())}


def measure_evaluation(captions: Captions, repeats: int) -> dict[str, Any]:
    """Measure all metrics on one tokenization, and each metric alone."""
    predictions = {clip: texts[0] for clip, texts in captions.items()}
    references = {clip: texts[1:] for clip, texts in captions.items()}
    groups = {"bleu": METRICS[:4], "meteor": ["meteor"], "rouge_l": ["rouge_l"], "cider": ["cider"]}

    def apart() -> None:
        for metrics in groups.values():
            score_captions(predictions, references, metrics)

    together = score_captions(predictions, references)  # also warms up the disk cache
    return {
        "captions": len(predictions),
        "references": sum(map(len, references.values())),
        "tokenizer": together.tokenizer,
        "skipped": together.skipped,
        "scores": together.corpus,
        "together": timed(lambda: score_captions(predictions, references), repeats, warm_up=0),
        "apart": timed(apart, repeats, warm_up=0),
    }


def timed(call: Callable[[], Any], repeats: int, warm_up: int = 20) -> dict[str, Any]:
    """Measure wall and CPU milliseconds of a call: median, and 5th and 95th percentiles."""
    for _ in range(warm_up):
        call()
    wall, cpu = [], []
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        call()
        wall.append(1e3 * (time.perf_counter() - started))
        cpu.append(1e3 * (time.process_time() - used))
    return {"repeats": repeats, "wall_ms": spread(wall), "cpu_ms": spread(cpu)}


def spread(values: list[float]) -> dict[str, float]:
    """Compute the median and the 5th and 95th percentiles."""
    low, high = np.percentile(values, [5, 95])
    return {"median": statistics.median(values), "p5": float(low), "p95": float(high)}


if __name__ == "__main__":
    main()
