"""Kills a training at random moments, resumes it each time, and compares it with one that nobody killed.

    python scripts/fuzz_kills.py --kills 30 --out runs/kills

The runs are of the mini checkpoint. They save a checkpoint every other step, so that many kills hit a save. Exits with
status 1 if the last weights or the losses of the log differ, or if a file is left over.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from evlvideo.results.run_directory import CHECKPOINTS_NAME, LOG_NAME, SUMMARY_NAME
from evlvideo.training.resuming.checkpoints import newest_checkpoint

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "mini" / "merged.yaml"
SHORT = (
    *("training.batch_size=4", "training.warmup_steps=2", "training.eval_steps=2", "training.log_steps=1"),
    *("data.validation_clips=4", "data.num_workers=1", "data.captions_per_clip=1", "generation.num_beams=2"),
)
_LEFT_OVER = re.compile(r"\.tmp.{6}|\..+\..{8}(\..+)?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/kills"))
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    whole, killed = arguments.out / "whole", arguments.out / "killed"
    started = time.perf_counter()
    finish(whole, arguments.steps)
    print(f"whole: {time.perf_counter() - started:.0f} s", flush=True)
    draw = random.Random(arguments.seed)
    kills = 0
    while kills < arguments.kills and not (killed / SUMMARY_NAME).exists():
        kills += kill_once(killed, arguments.steps, draw.uniform(0.0, 12.0))
    while not (killed / SUMMARY_NAME).exists():
        finish(killed, arguments.steps)
    problems = differences(whole, killed, arguments.steps)
    print(f"{kills} kills, {arguments.steps} steps: " + ("; ".join(problems) or "equal to the run that nobody killed"))
    sys.exit(1 if problems else 0)


def start(directory: Path, steps: int) -> subprocess.Popen[bytes]:
    resume = ["--resume"] if newest_checkpoint(directory / CHECKPOINTS_NAME) else []
    overrides = [f"output_dir={directory}", f"training.max_steps={steps}", *SHORT]
    command = [sys.executable, "-m", "evlvideo", "train", str(CONFIG), *overrides, *resume]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(directory: Path, steps: int) -> None:
    process = start(directory, steps)
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"training in {directory} failed:\n{errors.decode()[-3000:]}")


def kill_once(directory: Path, steps: int, seconds: float) -> int:
    """Kill a training and its workers some seconds after it begins to train; return 0 if it was done before."""
    log = directory / LOG_NAME
    before = log.stat().st_mtime_ns if log.exists() else 0
    process = start(directory, steps)
    while process.poll() is None and (not log.exists() or log.stat().st_mtime_ns == before):
        time.sleep(0.01)
    time.sleep(seconds)
    if process.poll() is not None:
        if process.returncode:
            sys.exit(f"training in {directory} failed:\n{process.communicate()[1].decode()[-3000:]}")
        return 0
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    newest = newest_checkpoint(directory / CHECKPOINTS_NAME)
    print(f"killed {seconds:.2f} s after training began; newest whole: {newest and newest.name}", flush=True)
    return 1


def differences(whole: Path, killed: Path, steps: int) -> list[str]:
    """Say what differs between two finished runs."""
    problems = []
    for place in (Path(CHECKPOINTS_NAME) / f"checkpoint-{steps}", Path()):
        first, second = (load_file(run / place / "model.safetensors") for run in (whole, killed))
        if first.keys() != second.keys() or any(not torch.equal(first[name], second[name]) for name in first):
            problems.append(f"the weights in {place} differ")
    if losses(whole) != losses(killed):
        problems.append("the losses in the log differ")
    left = [str(path) for path in killed.rglob(".*") if _LEFT_OVER.fullmatch(path.name)]
    return problems + [f"left over: {', '.join(left)}"] * bool(left)


def losses(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / LOG_NAME).read_text(encoding="utf-8").splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


if __name__ == "__main__":
    main()
