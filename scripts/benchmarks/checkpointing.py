"""Measure the memory and time of a training step with and without gradient checkpointing.

    python scripts/benchmarks/checkpointing.py

Models have random weights: ViT-B/16 with a contextualizer in every block, BERT-base with merging, and a language model
of OPT-125m's size. Clips have 4 frames. Kept memory is every storage that autograd saves, counted once, without
weights. Both kinds of step alternate, and so do dtypes of the tower alone. Writes `docs/benchmarks/checkpointing.json`.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import OPTConfig

from evlvideo.files import write_json
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.trainable import tower_of
from evlvideo.results.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]
OPT_125M = {
    "hidden_size": 768,
    "word_embed_proj_dim": 768,
    "ffn_dim": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 50272,
}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FRAMES, TEXT_TOKENS = 4, 32


def main() -> None:
    """Measure all kinds in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1, help="clips per batch (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="steps of each kind (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "checkpointing.json")
    options = parser.parse_args()
    report = {
        "commit": git_commit(),
        "versions": versions(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "clips": options.clips,
        "frames": FRAMES,
        **measure(options.clips, options.repeats),
    }
    write_json(options.out, report)
    sys.stdout.write(json.dumps({name: report[name] for name in ("steps", "tower")}, indent=2) + "\n")


def measure(clips: int, repeats: int) -> dict[str, Any]:
    """Measure bytes and seconds of training steps, and seconds of the tower."""
    models = {name: build(dtype) for name, dtype in TYPES.items()}
    pixels = torch.randint(256, (clips, FRAMES, 3, 224, 224), dtype=torch.uint8)
    ids = torch.randint(5, 50000, (clips, TEXT_TOKENS))
    batch = {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    steps = {name: _steps(model, batch, repeats) for name, model in models.items()}
    with torch.no_grad():
        towers = {name: lambda model=model: model.vision_tower(pixels) for name, model in models.items()}
        tower = _in_turns(towers, repeats)
    return {"steps": steps, "tower": {**tower, "ratio": tower["fp32"]["cpu_seconds"] / tower["bf16"]["cpu_seconds"]}}


def build(dtype: torch.dtype) -> EvlVideoForCaptioning:
    """Build the model in training mode, with frozen towers in a dtype."""
    torch.manual_seed(0)
    config = EvlVideoConfig(
        vision_tower="vit_base_patch16_224",
        text_config=OPTConfig(**OPT_125M),
        contextualizer="in_tower",
        max_frames=FRAMES,
    )
    model = EvlVideoForCaptioning(config).train()
    for name, weight in model.named_parameters():
        if tower_of(name) is not None:
            weight.data = weight.data.to(dtype)
    return model


def _steps(model: EvlVideoForCaptioning, batch: dict[str, Any], repeats: int) -> dict[str, Any]:
    kept: dict[str, int] = {}
    kinds: dict[str, Callable[[], Any]] = {
        "plain": lambda: _step(model, batch, checkpointing=False),
        "checkpointed": lambda: _step(model, batch, checkpointing=True),
    }
    for name, step in kinds.items():
        kept[name] = saved_bytes(model, step)
    report: dict[str, Any] = _in_turns(kinds, repeats)
    for name, size in kept.items():
        report[name]["kept_bytes"] = size
    report["kept_ratio"] = kept["plain"] / kept["checkpointed"]
    report["cpu_seconds_ratio"] = report["checkpointed"]["cpu_seconds"] / report["plain"]["cpu_seconds"]
    return report


def _step(model: EvlVideoForCaptioning, batch: dict[str, Any], *, checkpointing: bool) -> None:
    if checkpointing:
        model.activation_checkpointing_enable()
    else:
        model.activation_checkpointing_disable()
    loss = model(**batch, logits_to_keep=TEXT_TOKENS + 1).loss
    loss.backward()
    model.zero_grad()


def saved_bytes(model: EvlVideoForCaptioning, step: Callable[[], Any]) -> int:
    """Measure the peak of bytes that autograd keeps during the forward pass of a step, counting each storage once."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}
    unpacked = False

    def pack(tensor: Tensor) -> Tensor:
        # Tensors saved while the backward pass recomputes layers do not add to this.
        if not unpacked and tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def unpack(tensor: Tensor) -> Tensor:
        nonlocal unpacked
        unpacked = True
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        step()
    return sum(kept.values())


def _in_turns(kinds: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Any]:
    wall: dict[str, list[float]] = {name: [] for name in kinds}
    cpu: dict[str, list[float]] = {name: [] for name in kinds}
    for place in range(repeats + 1):
        for name, run in kinds.items():
            started, of_process = time.perf_counter(), time.process_time()
            run()
            if place:  # the first is a warm-up
                wall[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - of_process)
    return {
        name: {
            "seconds": statistics.median(wall[name]),
            "cpu_seconds": statistics.median(cpu[name]),
            "all_cpu_seconds": cpu[name],
        }
        for name in kinds
    }


if __name__ == "__main__":
    main()
