"""Time short training runs whose waiting threads spin or sleep, on the machine as it is and beside a busy process.

    python scripts/benchmarks/threads.py

Runs of both policies alternate, each in a separate process, and include start-up. CPU seconds are more reliable than
wall time on a machine with other load. Writes `docs/benchmarks/threads.json`.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evlvideo.files import write_json
from evlvideo.results.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]
POLICIES = ("active", "passive")


def main() -> None:
    """Train with both policies in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind (%(default)s)")
    parser.add_argument("--steps", type=int, default=40, help="steps of a run (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of a run (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "threads.json")
    options = parser.parse_args()
    places = {}
    for beside in ("nothing", "a busy process"):
        with busy_process() if beside == "a busy process" else nothing():
            places[beside] = measure(options.repeats, options.steps, options.threads)
    report = {
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()},
        "versions": versions(),
        "commit": git_commit(),
        "steps": options.steps,
        "threads": options.threads,
        "beside": places,
    }
    write_json(options.out, report)
    sys.stdout.write(json.dumps({beside: found["median"] for beside, found in places.items()}) + "\n")


def measure(repeats: int, steps: int, threads: int) -> dict[str, Any]:
    """Measure the seconds of both policies, and their ratio."""
    found: dict[str, dict[str, list[float]]] = {policy: {"wall": [], "cpu": []} for policy in POLICIES}
    for _ in range(repeats):
        for policy in POLICIES:
            wall, cpu = train(policy, steps, threads)
            found[policy]["wall"].append(wall)
            found[policy]["cpu"].append(cpu)
    median = {
        policy: {kind: statistics.median(values) for kind, values in seconds.items()}
        for policy, seconds in found.items()
    }
    ratio = {kind: median["active"][kind] / median["passive"][kind] for kind in ("wall", "cpu")}
    return {"seconds": found, "median": median, "active_over_passive": ratio}


def train(policy: str, steps: int, threads: int) -> tuple[float, float]:
    """Measure wall seconds and CPU seconds, including children, of one run."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "evlvideo", "train", str(ROOT / "configs" / "mini" / "merged.yaml")]
        changes = [f"output_dir={directory}/run", f"training.max_steps={steps}", "data.validation_clips=1"]
        # libgomp spins for longer than this where it is not told anything; told to be active, as long as by default.
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": policy}
        if policy == "active":
            # Not that policy itself, by which threads never sleep, but what happens where nothing is set.
            environment.pop("OMP_WAIT_POLICY")
            environment["GOMP_SPINCOUNT"] = "300000"
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, *changes], env=environment, check=True, capture_output=True)
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextmanager
def busy_process() -> Iterator[None]:
    """Run a process that keeps a core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def nothing() -> Iterator[None]:
    """Leave the machine as it is."""
    yield


if __name__ == "__main__":
    main()
