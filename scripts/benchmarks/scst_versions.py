"""A self-critical step of this checkout against that of another one, such as an older commit's.

    git worktree add /tmp/older af484e4
    python scripts/benchmarks/scst_versions.py /tmp/older

Each has a process of its own, which makes a step when it is told to; they alternate. The model is the packaged one,
with captions of up to 20 tokens. Writes `docs/benchmarks/scst_versions.json`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CLIPS, SAMPLES = 4, 5
STEPS: dict[str, dict[str, Any]] = {
    "one batch": {"batches": 1},
    "four batches": {"batches": 4},
    "one batch, divergence": {"batches": 1, "scst": {"kl_weight": 0.1}},
    "four batches, divergence": {"batches": 4, "scst": {"kl_weight": 0.1}},
}


def main() -> None:
    """Measure every kind of step, of both checkouts in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--repeats", type=int, default=9, help="steps of each (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "scst_versions.json")
    parser.add_argument("--serve", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(**STEPS[options.serve])
        return
    checkouts = {"this": ROOT, "other": options.other.resolve()}
    commits = {
        name: subprocess.run(
            ["git", "-C", str(path), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name, path in checkouts.items()
    }
    runs = {kind: compare(kind, checkouts, options.repeats) for kind in STEPS}
    machine = {"threads": os.environ.get("OMP_NUM_THREADS"), "platform": platform.platform()}
    report = {"machine": machine, "commits": commits, "clips": CLIPS, "samples": SAMPLES, "runs": runs}
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps({kind: run["ratio_cpu"] for kind, run in runs.items()}) + "\n")


def compare(kind: str, checkouts: dict[str, Path], repeats: int) -> dict[str, Any]:
    """Wall and CPU seconds of a step of each checkout, after one to warm up."""
    servers = {
        name: subprocess.Popen(
            [sys.executable, __file__, str(path), "--serve", kind],
            env={**os.environ, "PYTHONPATH": str(path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name, path in checkouts.items()
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for place in range(repeats + 1):
        for name, server in servers.items():
            assert server.stdin is not None and server.stdout is not None
            server.stdin.write("\n")
            server.stdin.flush()
            seconds = json.loads(server.stdout.readline())
            if place:
                found[name].append(seconds)
    for server in servers.values():
        server.communicate()
    wall, cpu = (
        {name: statistics.median(times[clock] for times in runs) for name, runs in found.items()} for clock in (0, 1)
    )
    return {
        "median_seconds": wall,
        "median_cpu_seconds": cpu,
        "ratio": wall["other"] / wall["this"],
        "ratio_cpu": cpu["other"] / cpu["this"],
        "seconds": found,
    }


def serve(batches: int, scst: dict[str, Any] | None = None) -> None:
    """Make a step at every line of the input, and say how many seconds, and CPU seconds, it took."""
    from tempfile import gettempdir

    import torch
    from transformers import TrainingArguments

    from evlvideo.config import GenerationConfig, ScstConfig
    from evlvideo.models.captioner import EvlVideoForCaptioning
    from evlvideo.models.checkpoint import checkpoint_directory
    from evlvideo.models.processing import EvlVideoProcessor
    from evlvideo.training.self_critical import SelfCriticalTrainer

    directory = checkpoint_directory("mini")
    model = EvlVideoForCaptioning.from_pretrained(directory)
    trainer = SelfCriticalTrainer(
        reward=lambda captions, clip_ids, ended: [float(len(caption)) for caption in captions],
        scst=ScstConfig(num_samples=SAMPLES, max_new_tokens=20, **(scst or {})),
        model=model,
        args=TrainingArguments(output_dir=gettempdir(), report_to=[], use_cpu=True),
        processor=EvlVideoProcessor.from_pretrained(directory),
        train_dataset=[],  # type: ignore[arg-type]
        eval_dataset=[],  # type: ignore[arg-type]
        data_collator=None,
        generation=GenerationConfig(),
        validation_references={},
    )
    size = model.vision_tower.image_size
    pixel_values = torch.randn(batches, CLIPS, 4, 3, size, size, generator=torch.Generator().manual_seed(0))
    for place, _ in enumerate(sys.stdin):
        model.zero_grad()
        torch.manual_seed(place)
        trainer.state.global_step = place
        step = [{"pixel_values": clips, "clip_ids": [str(clip) for clip in range(CLIPS)]} for clips in pixel_values]
        started, busy = time.perf_counter(), time.process_time()
        trainer.roll_out(step)
        for batch in step:
            trainer.compute_loss(trainer.model, batch).backward()
        sys.stdout.write(json.dumps([time.perf_counter() - started, time.process_time() - busy]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
