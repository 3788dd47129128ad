"""Measure memory and time of the self-critical loss: a few rows of logits at a time, against all at once.

    python scripts/benchmarks/scst_loss.py

Both ways compute the policy loss, the entropy and, if it is in the loss, the divergence from the initial model, and go
backward to the logits: five samples of four clips, 20 tokens each, over OPT's vocabulary of 50,272. Each measurement
has a separate process; the ways alternate. Memory is the process's peak beyond the logits. `bytes kept` counts the
tensors kept for the backward pass, without the logits. Writes `docs/benchmarks/scst_loss.json`.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evlvideo.files import write_json
from evlvideo.results.provenance import git_commit, versions
from evlvideo.training.scst.policy_loss import (
    divergence,
    entropy,
    log_probabilities_inside,
    masked_sum,
    of_samples,
    outside_nucleus,
    policy_loss,
)
from evlvideo.training.scst.token_terms import token_terms

ROOT = Path(__file__).parents[2]
ROWS, TOKENS, VOCABULARY = 20, 20, 50_272
FORMS: dict[str, dict[str, Any]] = {
    "policy": {},
    "policy, nucleus": {"top_p": 0.9},
    "policy and divergence": {"divergence": True},
}
Terms = tuple[Tensor, Tensor, Tensor | None]


def main() -> None:
    """Measure every form, both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="processes of each way (%(default)s)")
    parser.add_argument("--rows", type=int, default=ROWS, help="samples (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "scst_loss.json")
    parser.add_argument("--one", nargs=2, metavar=("FORM", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(measure(options.rows, *options.one)))
        return
    report = {
        "machine": {"threads": torch.get_num_threads(), "platform": platform.platform()},
        "versions": versions(),
        "commit": git_commit(),
        "rows": options.rows,
        "tokens": TOKENS,
        "vocabulary": VOCABULARY,
        "bytes of the logits": 4 * options.rows * TOKENS * VOCABULARY,
        "runs": {form: compare(form, options.repeats, options.rows) for form in FORMS},
    }
    write_json(options.out, report)


def compare(form: str, repeats: int, rows: int) -> dict[str, Any]:
    """Measure both ways in turn, and return medians."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way, runs in found.items():
            command = [sys.executable, __file__, "--rows", str(rows), "--one", form, way]
            # Freed memory is returned to the system, so that the peak counts only memory in use at the same time.
            environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18)}
            done = subprocess.run(command, check=True, capture_output=True, env=environment)
            runs.append(json.loads(done.stdout))
    return {
        way: {key: {"median": statistics.median(run[key] for run in runs), "all": [run[key] for run in runs]}
              for key in runs[0]}
        for way, runs in found.items()
    }  # fmt: skip


def measure(rows: int, form: str, way: str) -> dict[str, float]:
    """Run forward and backward once for the peak, and again for the time."""
    torch.manual_seed(0)
    logits = torch.randn(rows, TOKENS, VOCABULARY, requires_grad=True)
    samples, start = torch.randint(VOCABULARY, (rows, TOKENS)), None
    options = dict(FORMS[form])
    if options.pop("divergence", False):
        start = torch.randn(rows, TOKENS, VOCABULARY)
    kept: dict[int, int] = {}

    def note(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    before = _peak()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        loss = _loss(WAYS[way](logits, samples, start, options))
    for given in (logits, start):
        if given is not None:
            kept.pop(given.untyped_storage().data_ptr(), None)
    torch.autograd.grad(loss, logits)
    peak = _peak() - before
    started, busy = time.perf_counter(), time.process_time()
    torch.autograd.grad(_loss(WAYS[way](logits, samples, start, options)), logits)
    return {
        "peak_bytes": peak,
        "bytes_kept": sum(kept.values()),
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - busy,
        "loss": loss.item(),
    }


def _loss(terms: Terms) -> Tensor:
    log_probability, _, apart = terms
    mask = torch.ones_like(log_probability, dtype=torch.bool)
    loss = policy_loss(log_probability, mask, torch.linspace(-1, 1, len(mask)))
    return loss if apart is None else loss + 0.1 * masked_sum(apart, mask) / mask.sum()


def _at_once(logits: Tensor, samples: Tensor, start: Tensor | None, options: dict[str, Any]) -> Terms:
    outside = outside_nucleus(logits, samples, 1.0, options["top_p"]) if options else None
    everything = log_probabilities_inside(logits, outside=outside)
    apart = None
    if start is not None:
        apart = divergence(log_probabilities_inside(logits), log_probabilities_inside(start))
    return of_samples(everything, samples), entropy(everything.detach()), apart


def _by_rows(logits: Tensor, samples: Tensor, start: Tensor | None, options: dict[str, Any]) -> Terms:
    terms = token_terms(logits, samples, start=start, **options)
    return terms.log_probability, terms.entropy, None if start is None else terms.divergence


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor | None, dict[str, Any]], Terms]] = {
    "all at once": _at_once,
    "by rows": _by_rows,
}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
