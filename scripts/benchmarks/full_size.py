"""Measure time and peak memory of captioning one clip with EVLGen at full size, with random weights.

    python scripts/benchmarks/full_size.py

Needs 8 GB of disk and 12 GB of memory. Random towers are first written to files in bfloat16, then read like real ones.
Each r runs in a separate process to measure its peak memory. Writes `docs/benchmarks/full_size.json`.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from evlvideo.files import write_json
from evlvideo.models.architecture import read_architecture
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.results.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]
FRAMES, NEW_TOKENS = 4, 20


def main() -> None:
    """Write missing towers, then run each r."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--towers",
        type=Path,
        default=ROOT / "runs" / "full-size-towers",
        help="directory for the random towers, 8 GB (%(default)s)",
    )
    parser.add_argument("--r", type=int, nargs="+", default=[19, 0], help="tokens merged per layer (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="captions after a warm-up (%(default)s)")
    parser.add_argument("--architecture", type=Path, default=ROOT / "configs" / "architectures" / "evlgen_opt2.7b.yaml")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "full_size.json")
    parser.add_argument("--child", choices=("write", "run"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "write":
        write_towers(options.architecture, options.towers)
    elif options.child == "run":
        sys.stdout.write(json.dumps(caption_once(options.architecture, options.towers, options.r[0], options.repeats)))
    else:
        if not (options.towers / "done").exists():
            _child(options, "write", options.r[0])
        report = {
            "machine": {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "platform": platform.platform()},
            "versions": versions(),
            "commit": git_commit(),
            "architecture": options.architecture.stem,
            "frames": FRAMES,
            "new_tokens": NEW_TOKENS,
            "runs": {f"r={r}": json.loads(_child(options, "run", r)) for r in options.r},
        }
        write_json(options.out, report)
        sys.stdout.write(json.dumps(report["runs"], indent=1) + "\n")


def _child(options: argparse.Namespace, step: str, r: int) -> str:
    command = [sys.executable, __file__, "--towers", str(options.towers), "--child", step, "--r", str(r)]
    command += ["--architecture", str(options.architecture), "--repeats", str(options.repeats)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def write_towers(path: Path, directory: Path) -> None:
    """Write both towers with random weights in bfloat16."""
    architecture = read_architecture(path)
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    vit = timm.create_model(architecture.vision_tower, num_classes=0, **(architecture.vision_overrides or {}))
    save_file(vit.state_dict(), directory / "eva_vit.safetensors")
    del vit
    AutoModelForCausalLM.from_config(architecture.text, dtype=torch.bfloat16).save_pretrained(directory / "llm")
    (directory / "done").touch()


def caption_once(path: Path, directory: Path, r: int, repeats: int) -> dict[str, Any]:
    """Load the model and caption one clip several times."""
    architecture = read_architecture(path)
    architecture.vision_weights = str(directory / "eva_vit.safetensors")
    architecture.language_model = str(directory / "llm")
    architecture.merge_r = r
    torch.manual_seed(0)
    started = time.perf_counter()
    model = EvlVideoForCaptioning.from_towers(architecture, tower_dtype=torch.bfloat16)
    # Training keeps the trained weights in float32; captioning alone can use bfloat16 for them too.
    model = model.to(torch.bfloat16)
    loading_seconds = time.perf_counter() - started
    clip = torch.randn(1, FRAMES, 3, model.vision_tower.image_size, model.vision_tower.image_size)
    seconds: dict[str, list[float]] = {"encode": [], "generate": []}
    for place in range(repeats + 1):
        with torch.no_grad():
            begun = time.perf_counter()
            prompt = model.encode(clip)
            encoded = time.perf_counter()
            tokens = model.generate(soft_prompt=prompt, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
            ended = time.perf_counter()
        if place:
            seconds["encode"].append(encoded - begun)
            seconds["generate"].append(ended - encoded)
    return {
        "soft_tokens": prompt.shape[1],
        "new_tokens": tokens.shape[1],
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "loading_seconds": loading_seconds,
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "seconds": seconds,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


if __name__ == "__main__":
    main()
