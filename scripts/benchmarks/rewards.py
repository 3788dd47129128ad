"""Time the reward of self-critical training, and an evaluation, against pycocoevalcap on MSR-VTT.

    python scripts/benchmarks/rewards.py --root data/msrvtt

Writes `docs/benchmarks/rewards.json`, from which `docs/benchmarks.md` is made. Only the official annotation is needed.

The reward: 5 captions of each of 64 training clips, against the 20 references of the clip. Ours starts from captions as
a model writes them, and has the document frequencies of the training split. pycocoevalcap starts from words, and counts
frequencies over what it is given, which is less work; with its own tokenizer, a Java program is started for each call.
Whether the two agree is looked at over the whole split, where their frequencies are the same.

The evaluation: the first caption of every test clip against the other 19, all metrics on one tokenization, and each
metric on its own. Times are of the wall, and of this process alone, which other programs on the machine do not stretch.
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
"""A word that no caption has, to count the end in pycocoevalcap."""
Captions = dict[str, list[str]]


def main() -> None:
    """Measure, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, default=ROOT / "data" / "msrvtt", help="MSR-VTT's annotation (%(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=200, help="calls of ours, after 20 to warm up (%(default)s)")
    parser.add_argument("--slow-repeats", type=int, default=5, help="calls of what takes long (%(default)s)")
    parser.add_argument("--evaluations", type=int, default=3, help="evaluations, 0 for none (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "rewards.json")
    options = parser.parse_args()
    if not options.root.is_dir():
        print(f"{options.root} is not there, so there is nothing to measure; name MSR-VTT's directory with --root.")
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
    """The captions of every clip of a split."""
    return {clip.clip_id: list(clip.captions) for clip in read_split("msrvtt", split, root, check_files=False)}


def measure_reward(references: Captions, repeats: int, slow_repeats: int) -> dict[str, Any]:
    """Time and memory of rewards for one step."""
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
    """Captions as a model might write them: two of the clip's own, three of other clips, for each of some clips."""
    draw = random.Random(0)
    names = list(references)
    captions, clips = [], []
    for clip in draw.sample(names, CLIPS):
        of = [clip, clip, *draw.choices(names, k=SAMPLES - 2)]
        captions += [draw.choice(references[name]) for name in of]
        clips += [clip] * SAMPLES
    return captions, clips


def from_captions(references: Captions, captions: list[str], clips: list[str]) -> None:
    """pycocoevalcap from captions: its tokenizer, then its scorer."""
    with java_on_path():
        tokenizer = PTBTokenizer()
        hypotheses = tokenizer.tokenize({place: [{"caption": text}] for place, text in enumerate(captions)})
        texts = tokenizer.tokenize(
            {place: [{"caption": text} for text in references[clip]] for place, clip in enumerate(clips)}
        )
    Cider().compute_score(texts, hypotheses)


def stored(references: Captions, reward: CiderReward, repeats: int) -> dict[str, Any]:
    """Size of the stored scorer, and the time until a loaded one has given its first score."""

    def load() -> None:
        # The digest of the captions is a part of it, since it is compared at every start.
        load_scorer(path, scorer_key("msrvtt:train", references, end_of_text=True)).score(
            "a man", next(iter(references))
        )

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "scorer.safetensors"
        save_scorer(path, reward.scorer, scorer_key("msrvtt:train", references, end_of_text=True))
        return {"file_mb": path.stat().st_size / 1e6, "load": timed(load, repeats, warm_up=1)}


def measure_agreement(references: Captions) -> dict[str, Any]:
    """Largest difference to pycocoevalcap over the split, the end counted, with the split's frequencies."""
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
    """Time of all metrics on one tokenization, and of each on its own."""
    predictions = {clip: texts[0] for clip, texts in captions.items()}
    references = {clip: texts[1:] for clip, texts in captions.items()}
    groups = {"bleu": METRICS[:4], "meteor": ["meteor"], "rouge_l": ["rouge_l"], "cider": ["cider"]}

    def apart() -> None:
        for metrics in groups.values():
            score_captions(predictions, references, metrics)

    together = score_captions(predictions, references)  # also warms up what is read from the disk
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
    """Milliseconds of a call, on the wall and of this process: median, and what nine in ten lie between."""
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
    """The median, and the fifth and ninety-fifth percentile."""
    low, high = np.percentile(values, [5, 95])
    return {"median": statistics.median(values), "p5": float(low), "p95": float(high)}


if __name__ == "__main__":
    main()
