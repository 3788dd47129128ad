"""Caption the mini dataset with tokens pruned in the frozen vision tower, and measure what each guide loses and costs.

    python scripts/benchmarks/pruned_captioning.py --directory runs/pruned-captioning

Fine-tunes the packaged checkpoint by the configs of `configs/mini/pruning` with three seeds: on all tokens (`whole`),
with more merging in the connector alone (`merged`), and with pruning in the tower (`pruned`). Then captions the test
split: `whole` and `merged` as they are, and `whole` and `pruned` with each policy, so that pruning is measured without
training and with it. Finished runs are kept. Writes `docs/benchmarks/pruned_captioning.json`.

Two policies have no place in an evaluation, and are controls: the clip's own caption as the guide, which is a leak and
the ceiling of what a text can do, and another clip's caption, which tells how much of that is the text.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evlvideo.assembly.clips import read_clips, references_of
from evlvideo.assembly.datasets import training_dataset, video_dataset
from evlvideo.assembly.fitted_guide import fit_guide
from evlvideo.assembly.models import read_processor
from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.data.loading.collate import CaptionCollator
from evlvideo.estimate.run_costs import estimate_run
from evlvideo.experiments.parallel import parallel_trainings
from evlvideo.files import write_json
from evlvideo.inference.captioning import decoding_arguments
from evlvideo.metrics.scoring import score_captions
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import read_configuration
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.text.draft import draft_guide, mean_words
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.run_directory import SUMMARY_NAME

ROOT = Path(__file__).parents[2]
TRAINED = ("whole", "merged", "pruned")
PROMPT = "a red ball moves to the left"
DRAFT: dict[str, Any] = {"guide": "draft"}
POLICIES: dict[str, dict[str, Any]] = {
    "class": {},
    "class, previous": {"look_ahead": "previous"},
    "class, exact": {"look_ahead": "exact"},
    "prompt": {"guide": "prompt", "prompt": PROMPT},
    "predicted": {"guide": "predicted"},
    "draft": DRAFT,
    "draft, previous": {**DRAFT, "look_ahead": "previous"},
    "draft, text alone": {**DRAFT, "vision_share": 0.0},
    "random": {"scores": "random"},
    "class, dropped": {"fold": False},
    "own caption": DRAFT,
    "other caption": DRAFT,
}
"""Keys of `model.pruning` beside the schedule."""
LEAKS = {"own caption": 0, "other caption": 1}
"""Policies whose text is the first reference of a clip: its own, or that of the next clip."""
SMALL = ("class", "draft", "random", "own caption")


@dataclass(frozen=True)
class Split:
    """Clips of a split, decoded."""

    frames: list[Tensor]
    """Of each clip, `(T, 3, height, width)`."""
    references: dict[str, list[str]]


def main() -> None:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2], help="seeds (%(default)s)")
    parser.add_argument("--directory", type=Path, default=Path("runs/pruned-captioning"), help="of runs (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "pruned_captioning.json")
    parser.add_argument("--conditions", default="", help="what else ran on the machine, for the page")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="changes to all configs, for a test")
    parser.add_argument("--small", action="store_true", help="some policies and one seed, for a test")
    options = parser.parse_args()
    write_json(options.out, report := measure(options))
    sys.stdout.write(json.dumps(report["systems"], indent=1) + "\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train what is missing, and measure every policy."""
    started = time.perf_counter()
    seeds = options.seeds[:1] if options.small else options.seeds
    runs = {name: {seed: config_of(name, seed, options) for seed in seeds} for name in TRAINED}
    train_missing([config for by_seed in runs.values() for config in by_seed.values()])
    torch.set_num_threads(1)
    policies = [name for name in POLICIES if not options.small or name in SMALL]
    first = runs["pruned"][seeds[0]]
    split, guides = read_split(first), {}
    systems: dict[str, Any] = {}
    for trained, policy in systems_of(policies):
        pruning = pruning_of(first, policy)
        ciders = {seed: cider(runs[trained][seed], pruning, policy, split, guides) for seed in seeds}
        systems[f"{trained}, {policy or 'as it is'}"] = {
            "trained": trained,
            "policy": policy,
            "cider": ciders,
            **costs(runs[trained][seeds[0]], pruning),
        }
    return {
        "machine": {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "platform": platform.platform()},
        "conditions": options.conditions,
        "versions": versions(),
        "commit": git_commit(),
        "seeds": seeds,
        "steps": first.training.max_steps,
        "clips": len(split.frames),
        "pruning": first.model.pruning,
        "prompt": PROMPT,
        "seconds": round(time.perf_counter() - started),
        "systems": systems,
    }


def config_of(name: str, seed: int, options: argparse.Namespace) -> RunConfig:
    """Read the config of a run."""
    directory = options.directory / f"seed-{seed}" / name
    config = load_config(ROOT / "configs" / "mini" / "pruning" / f"{name}.yaml", options.set)
    return replace(config, seed=seed, output_dir=str(directory))


def train_missing(configs: Sequence[RunConfig]) -> None:
    """Train the runs that are not finished, as many at a time as there are cores."""
    missing = [config for config in configs if not (Path(config.output_dir) / SUMMARY_NAME).is_file()]
    with parallel_trainings(os.cpu_count() or 1) as start:
        for future in [start(config) for config in missing]:
            future.result()


def systems_of(policies: Sequence[str]) -> list[tuple[str, str | None]]:
    """Pair what was trained with what prunes in the test."""
    return [
        ("whole", None),
        ("merged", None),
        *((trained, name) for trained in ("whole", "pruned") for name in policies),
    ]


def pruning_of(config: RunConfig, policy: str | None) -> dict[str, Any]:
    """Return the keys of `model.pruning` of a policy; none for no pruning."""
    if policy is None:
        return {}
    schedule = {key: value for key, value in (config.model.pruning or {}).items() if key != "guide"}
    return {**schedule, **POLICIES[policy]}


def costs(config: RunConfig, pruning: dict[str, Any]) -> dict[str, int]:
    """Count the multiply-adds of captioning a clip."""
    found = estimate_run(replace(config, model=replace(config.model, pruning=pruning))).captioning_clip
    return {"tower": found.vision_tower, "captioning": found.total}


def read_split(config: RunConfig) -> Split:
    """Decode the test split."""
    clips = read_clips(config.data, "test")
    dataset = video_dataset(config.data, read_processor(Path(config.output_dir)), clips)
    return Split([dataset[index]["pixel_values"] for index in range(len(clips))], references_of(clips))


def cider(
    config: RunConfig, pruning: dict[str, Any], policy: str | None, split: Split, guides: dict[Any, dict[str, Tensor]]
) -> float:
    """Caption a split with a trained run that prunes in a way of its own, and score the captions.

    Guides depend on the frozen towers and the training clips alone, and are fitted once for all runs: into `guides`.
    """
    directory = Path(config.output_dir)
    changed = read_configuration(directory).changed(pruning=pruning)
    model = EvlVideoForCaptioning.from_pretrained(directory, config=changed).eval()
    processor = read_processor(directory)
    if (guide := model.vision_tower.pruning_guide) is not None:
        key = changed.fitted_guide
        if key not in guides:
            fit_guide(model, processor.tokenizer, training_batches(config, model, processor))
            guides[key] = guide.state_dict()
        guide.load_state_dict(guides[key])
    captions = caption(model, processor, config, split, LEAKS.get(policy or ""))
    return round(score_captions(captions, split.references, ("cider",), "python").corpus["cider"], 4)


def training_batches(config: RunConfig, model: EvlVideoForCaptioning, processor: EvlVideoProcessor) -> Any:
    """Yield batches of training clips, as a run does."""
    clips = {"mini": read_clips(config.data, config.data.train_split)}
    dataset = training_dataset(config, model, processor, clips, per_caption=False)
    size, collate = config.training.batch_size, CaptionCollator(processor)
    for first in range(0, len(dataset), size):
        yield collate([dataset[index] for index in range(first, min(first + size, len(dataset)))])


@torch.no_grad()
def caption(
    model: EvlVideoForCaptioning, processor: EvlVideoProcessor, config: RunConfig, split: Split, leak: int | None
) -> dict[str, str]:
    """Caption clips; with `leak`, by the first reference of the clip that many places further on."""
    texts, size = [of_clip[0] for of_clip in split.references.values()], config.generation.batch_size
    guide_of = partial(reference_guide, model, processor)
    captions: list[str] = []
    for first in range(0, len(split.frames), size):
        frames = torch.stack(split.frames[first : first + size])
        places = [(first + place + (leak or 0)) % len(texts) for place in range(len(frames))]
        guide = draft_guide(model, frames) if leak is None else guide_of([texts[place] for place in places])
        prompt = model.features_to_prompt(model.vision_tower(frames, guide))
        arguments = decoding_arguments(config.generation)
        captions += processor.captions(model.generate(soft_prompt=prompt, **arguments))
    return dict(zip(split.references, captions, strict=True))


def reference_guide(model: EvlVideoForCaptioning, processor: EvlVideoProcessor, texts: Sequence[str]) -> Tensor:
    """Make a guide of references, `(B, D)`, which no captioner has."""
    guide, pad = model.vision_tower.pruning_guide, processor.pad_token_id
    assert guide is not None, "the policy has a text"
    ids = [processor.tokenizer(f" {text}", add_special_tokens=False).input_ids for text in texts]
    longest = max(map(len, ids))
    padded = torch.tensor([row + [pad] * (longest - len(row)) for row in ids])
    return guide.of_texts(mean_words(model.language_model.get_input_embeddings(), padded, {pad}))


if __name__ == "__main__":
    main()
