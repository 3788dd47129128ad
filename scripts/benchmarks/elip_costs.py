"""Count and measure what ELIP's pruning saves in a ViT-B/16, with its look-ahead counted.

    python scripts/benchmarks/elip_costs.py

Writes `docs/benchmarks/elip_costs.json`. Weights are random: costs do not depend on them. Four hosts publish schedules
of pruning. BLIP, ALBEF and CLIP publish the same one, and METER another, for a tower without its last block.

Counted: the tokens of each block, and the multiply-adds of the blocks that run and of those that are looked ahead, by
the counter of `evlvideo estimate` on tensors without values, and again by formula; the program ends if they differ.
`published` looks ahead as the published code does, which runs the last block looked ahead whole. Backward passes are
counted too; looking ahead has none.

Saved: bytes that autograd keeps for the backward pass with fused attention, as on a GPU. From these, the largest batch
in a budget of memory: what weights, gradients and AdamW's moments leave, over the bytes of an image.

Measured on this machine, in rounds in which every way takes its turn: CPU seconds of a forward pass without gradient,
and of forward and backward, as ratios to the same tower without pruning in the same round; and peak memory of a process
that takes one step.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from evlvideo.estimate.activations import DEVICE, saved_bytes
from evlvideo.estimate.counting import count_multiply_adds
from evlvideo.files import write_json
from evlvideo.models.blocks.prunable_towers import TimmTower
from evlvideo.models.blocks.pruned_encoding import Pruning, encode, encode_pruned
from evlvideo.models.tokens.pruning import LOOK_AHEADS, PRESETS, PruningSchedule, tokens_by_block
from evlvideo.results.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]
NONE, PUBLISHED = "none", "published"
GIB = 2**30
BUDGET_GIB = 24
"""Memory of the GPUs that ELIP's authors trained on."""
TRAINED_BYTES = 16
"""Bytes of a trained weight in float32: its value, its gradient, AdamW's two moments."""
PEAK_BATCH = 8
"""Images of the step whose peak of memory is measured: enough that activations count for more than gradients."""
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Size:
    """A host's tower."""

    depth: int = 12
    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    heads: int = 12
    kept: tuple[int, ...] | None = None
    """Tokens that each prune keeps, where the published code does not take them from the patches."""

    @property
    def patches(self) -> int:
        """Return the patches of an image."""
        return (self.image_size // self.patch_size) ** 2


HOSTS = {"blip": Size(), "meter": Size(depth=11)}
"""The towers that are compared: ViT-B/16 at 224. The schedules of ALBEF and CLIP are BLIP's."""
AS_PUBLISHED = {
    "blip, 224/16": Size(),
    "albef, 256/16": Size(image_size=256),
    "clip, 224/16": Size(kept=(177, 128, 78)),
    "meter, 224/32": Size(depth=11, patch_size=32),
    "meter, 288/16": Size(depth=11, image_size=288, kept=(44, 34, 22)),
}
"""Sizes and kept tokens of the published runs."""
SMALL = Size(image_size=64, width=32, heads=2)


def main() -> None:
    """Count, measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--batch", type=int, default=2, help="images of a step whose seconds are measured (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds that are measured (%(default)s)")
    parser.add_argument("--small", action="store_true", help="a tiny tower, as a test")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "elip_costs.json")
    parser.add_argument("--peak", nargs=2, metavar=("HOST", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = {host: _small(size) for host, size in HOSTS.items()} if options.small else HOSTS
    if options.peak:
        print(peak_mib(sizes[options.peak[0]], *options.peak, options.batch))
        return
    report = {
        "machine": {
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "platform": platform.platform(),
            "load": os.getloadavg()[0],
        },
        "versions": versions(),
        "commit": git_commit(),
        "image_size": sizes["blip"].image_size,
        "batch": options.batch,
        "peak_batch": PEAK_BATCH,
        "budget_gib": BUDGET_GIB,
        "schedules": {host: asdict(schedule) for host, schedule in PRESETS.items()},
        "hosts": {host: costs(host, size) for host, size in sizes.items()},
        "as_published": {
            name: counts(PRESETS[name.split(",")[0]], _small(size) if options.small else size)
            for name, size in AS_PUBLISHED.items()
        },
        "measured": {host: measured(host, sizes[host], options) for host in HOSTS},
    }
    write_json(options.out, report)
    print(json.dumps({host: _shown(found) for host, found in report["measured"].items()}, indent=1))


def _small(size: Size) -> Size:
    return Size(size.depth, SMALL.image_size, size.patch_size, SMALL.width, SMALL.heads)


def tower(size: Size) -> TimmTower:
    """Build a ViT on the current device."""
    vit = timm.create_model(
        "vit_base_patch16_224",
        depth=size.depth,
        img_size=size.image_size,
        patch_size=size.patch_size,
        embed_dim=size.width,
        num_heads=size.heads,
        num_classes=0,
    )
    return TimmTower(vit.train())


def costs(host: str, size: Size) -> dict[str, Any]:
    """Count a host's costs, and what its tower saves for the backward pass."""
    schedule = PRESETS[host]
    with torch.device("meta"):
        model = tower(size)
    # On a GPU that need not be there, so that the kernels are a GPU's.
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.vit.to_empty(device=DEVICE)
        saved = {
            way: {name: _saved(model, run, size, dtype) for name, dtype in PRECISIONS.items()}
            for way, run in ways(schedule, size).items()
        }
        weights = sum(weight.numel() for weight in model.vit.parameters())
    room = BUDGET_GIB * GIB - TRAINED_BYTES * weights
    return {
        **counts(schedule, size),
        "parameters": weights,
        "saved_bytes": {way: {name: image for name, (image, _) in of.items()} for way, of in saved.items()},
        "largest_batch": {
            way: {name: (room - fixed) // image for name, (image, fixed) in of.items()} for way, of in saved.items()
        },
    }


def _saved(
    model: TimmTower, run: Callable[[TimmTower, Tensor], Tensor], size: Size, dtype: torch.dtype | None
) -> tuple[int, int]:
    """Return the bytes saved of an image, and those of a batch of any size: autocast's copies of weights."""

    def of_batch(count: int) -> int:
        images = torch.empty(count, 3, size.image_size, size.image_size, device=DEVICE)
        return saved_bytes(model.vit, lambda: run(model, images), dtype)

    one, two = of_batch(1), of_batch(2)
    return two - one, 2 * one - two


def ways(schedule: PruningSchedule, size: Size) -> dict[str, Callable[[TimmTower, Tensor], Tensor]]:
    """Return what runs a tower without pruning, and with each look-ahead."""

    def pruned(look_ahead: Any) -> Callable[[TimmTower, Tensor], Tensor]:
        def run(model: TimmTower, images: Tensor) -> Tensor:
            # Any guide costs the same; the class token's own is there already.
            guide = images.new_zeros(len(images), model.width)
            pruning = Pruning(schedule, look_ahead=look_ahead, kept=size.kept)
            return encode_pruned(model, images, guide, pruning).tokens

        return run

    return {NONE: encode, **{look_ahead: pruned(look_ahead) for look_ahead in LOOK_AHEADS}}


def counts(schedule: PruningSchedule, size: Size) -> dict[str, Any]:
    """Count tokens, and multiply-adds of an image.

    Raises:
        SystemExit: what is counted is not what the formulas say.
    """
    with torch.device("meta"):
        model, image = tower(size), torch.empty(1, 3, size.image_size, size.image_size)
        embedding, _ = count_multiply_adds(lambda: model.embed(image))
        passes = {way: _passes(lambda run=run: run(model, image)) for way, run in ways(schedule, size).items()}
        by_block = tokens_of(schedule, size)
        real = sum(_count_block(model, block, tokens) for block, tokens in enumerate(by_block))
    whole = {way: forward - embedding for way, (forward, _) in passes.items()}
    ahead = {way: whole[way] - real for way in LOOK_AHEADS}
    by_formula = formulas(schedule, size, by_block)
    found = {NONE: whole[NONE], "real": real, **ahead}
    if found != {name: by_formula[name] for name in found}:
        raise SystemExit(f"counted {found}, and by formula {by_formula}")
    return {
        "tokens": by_block,
        "tokens_removed": 1 - sum(by_block) / (size.depth * (size.patches + 1)),
        "unpruned": whole[NONE],
        "real": real,
        "look_ahead": {PUBLISHED: by_formula[PUBLISHED], **ahead},
        # Only real blocks go backward, whatever looked ahead.
        "backward": {NONE: passes[NONE][1], "pruned": passes["exact"][1]},
        "embedding": embedding,
    }


def tokens_of(schedule: PruningSchedule, size: Size) -> tuple[int, ...]:
    if size.kept is None:
        return tokens_by_block(schedule, size.depth, size.patches)
    kept = dict(zip(schedule.begin, size.kept, strict=True))
    tokens, found = size.patches + 1, []
    for block in range(size.depth):
        tokens = kept[block] + 2 if block in kept else tokens
        found.append(tokens)
    return tuple(found)


def _passes(run: Callable[[], Tensor]) -> tuple[int, int]:
    forward, output = count_multiply_adds(run)
    backward, _ = count_multiply_adds(lambda: output.sum().backward())
    return forward, backward


def _count_block(model: TimmTower, block: int, tokens: int) -> int:
    count, _ = count_multiply_adds(lambda: model.run(block, torch.empty(1, tokens, model.width, device="meta")))
    return count


def formulas(schedule: PruningSchedule, size: Size, by_block: tuple[int, ...]) -> dict[str, int]:
    """Count by formula: a block of n tokens and C channels takes 12 n C² + 2 n² C, a class token's row fewer."""
    width = size.width

    def block(tokens: int) -> int:
        return 12 * tokens * width**2 + 2 * tokens**2 * width

    def row(tokens: int) -> int:  # a query, all keys, and their products
        return width**2 + tokens * width**2 + tokens * width

    before = [by_block[first - 1] for first in schedule.begin]
    looked = list(zip(before, schedule.look_ahead, strict=True))
    return {
        NONE: size.depth * block(size.patches + 1),
        "real": sum(map(block, by_block)),
        PUBLISHED: sum(block(tokens) * ahead for tokens, ahead in looked),
        "exact": sum(block(tokens) * (ahead - 1) + row(tokens) for tokens, ahead in looked),
        "one": sum(map(row, before)),
        "previous": sum(map(row, before)),
    }


def measured(host: str, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """Measure CPU seconds of every way in turns, and peak memory of each in a process of its own."""
    torch.manual_seed(0)
    model = tower(size)
    images = torch.rand(options.batch, 3, size.image_size, size.image_size)
    seconds: dict[str, dict[str, list[float]]] = {}
    for number in range(options.rounds + 1):
        for way, run in ways(PRESETS[host], size).items():
            found = seconds.setdefault(way, {"forward": [], "step": []})
            for kind, work in (("forward", _forward), ("step", _step)):
                # Of this process's own time, which other programs disturb less.
                start = time.process_time()
                work(model, images, run)
                if number:  # The first round warms up.
                    found[kind].append(time.process_time() - start)
    return {
        "seconds": seconds,
        "ratios": {
            way: {kind: [_ / base for _, base in zip(found[kind], seconds[NONE][kind], strict=True)] for kind in found}
            for way, found in seconds.items()
        },
        "peak_mib": {way: _peak_elsewhere(host, way, options) for way in seconds},
    }


def _forward(model: TimmTower, images: Tensor, run: Callable[[TimmTower, Tensor], Tensor]) -> None:
    with torch.no_grad():
        run(model, images)


def _step(model: TimmTower, images: Tensor, run: Callable[[TimmTower, Tensor], Tensor]) -> None:
    run(model, images).square().mean().backward()
    model.vit.zero_grad()


def _peak_elsewhere(host: str, way: str, options: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--peak", host, way, "--batch", str(PEAK_BATCH)]
    command += ["--small"] if options.small else []
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak_mib(size: Size, host: str, way: str, batch: int) -> float:
    """Return by how many MiB a step, with its gradients, takes more than the process with the model."""
    model = tower(size)
    images = torch.rand(batch, 3, size.image_size, size.image_size)
    before = _memory_mib("VmRSS")
    _step(model, images, ways(PRESETS[host], size)[way])
    return _memory_mib("VmHWM") - before


def _memory_mib(name: str) -> float:
    """Read this process's own memory; `ru_maxrss` begins with that of the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    return {
        way: {kind: f"{statistics.median(ratios):.2f}" for kind, ratios in of.items()}
        | {"peak_mib": found["peak_mib"][way]}
        for way, of in found["ratios"].items()
    }


if __name__ == "__main__":
    main()
