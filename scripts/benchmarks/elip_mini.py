"""Pre-train a small BLIP on the mini set with and without ELIP's pruning, and measure retrieval.

    python scripts/benchmarks/elip_mini.py

Trains `configs/elip/mini_blip.yaml`, shortened, without pruning, with each look-ahead, and with controls, on three
seeds; two trainings run at a time, each on one thread, in about 13 minutes on two cores. Continues where it was
stopped. Writes `docs/benchmarks/elip_mini.json`.

Controls: `random` keeps as many tokens by chance, `shuffled` is guided by another clip's caption, `dropped` drops
tokens instead of folding them, `class` has the class token as its only guide. On the first seed, the share of the class
token in the guide, λ, goes from 0 to 1 as well.

Every model is tested on whole images, and pruned with the class token as the guide. A model that was trained with
captions as guides is tested with each clip's own caption, too (`own caption`): a leak, since the features of a clip
then tell which caption is its own. It says how much of a score could come from it, and is no result.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console

from evlvideo.assembly.clips import read_clips
from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.vlp import encoder_of
from evlvideo.config.loading import load_config_of
from evlvideo.config.vlp import VlpConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.evaluation.retrieval.score import score_feature_file
from evlvideo.experiments.parallel import parallel_trainings
from evlvideo.files import read_json, write_json
from evlvideo.inference.embed_run import ImageSize, embed_run, open_run
from evlvideo.inference.embedding import texts_of
from evlvideo.models.tokens.pruning import LOOK_AHEADS, tokens_by_block
from evlvideo.models.vlp.hosts.matching import MatchingHost
from evlvideo.models.vlp.images import Guidance, read_guidance
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.retrieval.features import RetrievalFeatures
from evlvideo.results.retrieval.records import RetrievalResult
from evlvideo.results.run_directory import LOG_NAME, SUMMARY_NAME
from evlvideo.training.vlp.checkpoints import steps_of_checkpoints
from evlvideo.training.vlp.run import pretrain

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "elip" / "mini_blip.yaml"
NONE, CLASS, LEAK = "none", "class", "own caption"
"""What guides pruning in the test; `none` does not prune."""
BUDGET = (
    "training.max_steps=150",
    "training.eval_steps=150",
    "training.batch_size=32",
    "training.log_steps=25",
    "losses.queue=0",
    "losses.alpha=0",
    "data.num_frames=1",
    "data.num_workers=0",
)
"""Without the queue and the teacher, with which so short a training leaves features at chance."""
SMALL = (*BUDGET, "training.max_steps=2", "training.eval_steps=2", "data.train_clips=32", "data.validation_clips=8")
VARIANTS = {
    "none": ("model.pruning=null",),
    **{way: (f"model.pruning.look_ahead={way}",) for way in LOOK_AHEADS},
    "random": ("model.pruning.guide=random",),
    "shuffled": ("model.pruning.guide=shuffled",),
    "dropped": ("model.pruning.fold=false",),
    "class": ("model.pruning.guide=class",),
}
"""Name → changes to the config. Controls look ahead exactly."""
SHARES = (0.0, 0.5)
"""λ beside the published 0.8, and 1, where the class token is the only guide."""
AT_A_TIME = 2


@dataclass(frozen=True)
class Job:
    """A training, and what its model is tested with."""

    name: str
    seed: int
    directory: Path
    changes: tuple[str, ...]

    @property
    def run(self) -> Path:
        """Return the directory of the run."""
        return self.directory / f"{self.name}-{self.seed}"

    @property
    def config(self) -> VlpConfig:
        """Return the run's config."""
        own = (f"seed={self.seed}", f"output_dir={self.run}")
        return load_config_of(VlpConfig, CONFIG, [*self.changes, *own])

    @property
    def guides(self) -> tuple[str, ...]:
        """Return what guides pruning in its tests."""
        guidance = read_guidance(self.config.model.pruning)
        if guidance is None:
            return (NONE,)
        return (NONE, CLASS, LEAK) if guidance.guide == "text" else (NONE, CLASS)

    def features(self, guide: str) -> Path:
        """Return the file of the features of a test."""
        return self.run / "embeddings" / f"{guide.replace(' ', '-')}.safetensors"


def main() -> None:
    """Train and test what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2], help="seeds (%(default)s)")
    parser.add_argument("--directory", type=Path, default=Path("runs/elip-mini"), help="of the runs (%(default)s)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further changes to the config")
    parser.add_argument("--small", action="store_true", help="two steps of three variants, as a test")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "elip_mini.json")
    options = parser.parse_args()
    jobs = list(_jobs(options))
    _ = read_clips(jobs[0].config.data, "test")  # renders the clips once
    with parallel_trainings(AT_A_TIME, cast(Any, do)) as start:
        for future in [start(cast(Any, job)) for job in jobs]:
            future.result()
    config = jobs[0].config
    report = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]},
        "versions": versions(),
        "commit": git_commit(),
        "seeds": options.seeds,
        "steps": config.training.max_steps,
        "batch_size": config.training.batch_size,
        "frames": config.data.num_frames,
        "multiply_adds": multiply_adds(jobs),
        "variants": {name: _of_name(jobs, name) for name in dict.fromkeys(job.name for job in jobs)},
    }
    write_json(options.out, report)
    sys.stdout.write(json.dumps({name: _shown(found) for name, found in report["variants"].items()}, indent=1) + "\n")


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    budget = (*(SMALL if options.small else BUDGET), *options.set)
    variants = {name: VARIANTS[name] for name in ("none", "one", "random")} if options.small else VARIANTS
    for seed in options.seeds:
        for name, changes in variants.items():
            yield Job(name, seed, options.directory, (*budget, *changes))
    if not options.small:
        for share in SHARES:
            changes = (f"model.pruning.vision_share={share}",)
            yield Job(f"lambda_{share}", options.seeds[0], options.directory, (*budget, *changes))


def do(job: Job) -> Path:
    """Train, unless that is done, and write the features of every test."""
    if not (job.run / SUMMARY_NAME).exists():
        pretrain(job.config, resume=bool(steps_of_checkpoints(job.run)), console=Console(quiet=True))
    for guide in job.guides:
        if job.features(guide).exists():
            continue
        if guide == LEAK:
            own_captions(job).write(job.features(guide))
        else:
            embed_run(job.run, "test", overrides=[f"evaluation.guide={guide}"], out=job.features(guide))
    return job.run


@torch.no_grad()
def own_captions(job: Job) -> RetrievalFeatures:
    """Encode the test clips, each guided by its first caption, and all captions."""
    config, host, tokenizer = open_run(job.run)
    clips = read_clips(config.data, "test")
    encoder = encoder_of(config, host, tokenizer)
    guidance = read_guidance(config.model.pruning)
    dataset = video_dataset(config.data, ImageSize(config.model.image_size), clips)
    captions, owner, names = texts_of(clips)
    size = config.evaluation.batch_size
    images = [_guided(host, encoder, guidance, dataset, clips, range(first, min(first + size, len(clips))))
              for first in range(0, len(clips), size)]  # fmt: skip
    texts = [encoder.text_features(captions[first : first + size]) for first in range(0, len(captions), size)]
    return RetrievalFeatures(
        torch.cat(images).numpy(), torch.cat(texts).numpy(), [clip.clip_id for clip in clips], names, np.array(owner)
    )


def _guided(
    host: MatchingHost,
    encoder: Any,
    guidance: Guidance | None,
    dataset: Any,
    clips: Sequence[CaptionedClip],
    numbers: range,
) -> torch.Tensor:
    pixels = torch.stack([dataset[number]["pixel_values"] for number in numbers])
    text = encoder.texts([clips[number].captions[0] for number in numbers])
    return host.image_features(host.image_tokens(pixels, guidance, host.text_states(**text)[:, 0]))


def multiply_adds(jobs: Sequence[Job]) -> dict[str, dict[str, float]]:
    """Count the multiply-adds of the tower's blocks for an image: variant → of testing whole, pruned, and training."""
    from elip_costs import Size, formulas

    model = jobs[0].config.model
    size = Size(model.depth, model.image_size, model.patch_size, model.width, model.heads)
    found = {}
    for name in dict.fromkeys(job.name for job in jobs):
        guidance = read_guidance(next(job for job in jobs if job.name == name).config.model.pruning)
        if guidance is None:
            whole = size.depth * (12 * (size.patches + 1) * size.width**2 + 2 * (size.patches + 1) ** 2 * size.width)
            found[name] = {"whole": whole, "pruned": whole, "training": 3 * whole}
            continue
        schedule = guidance.pruning.schedule
        tokens = tokens_by_block(schedule, size.depth, size.patches, fold=guidance.pruning.fold)
        counted = formulas(schedule, size, tokens)
        ahead = counted[guidance.pruning.look_ahead]
        found[name] = {
            "whole": counted["none"],
            "pruned": counted["real"] + ahead,
            # The backward pass costs two forward ones; looking ahead has none.
            "training": 3 * counted["real"] + ahead,
        }
    return found


def _of_name(jobs: Sequence[Job], name: str) -> dict[str, Any]:
    """Gather the scores and losses of a variant, by seed."""
    return {str(job.seed): _outcome(job) for job in jobs if job.name == name}


def _outcome(job: Job) -> dict[str, Any]:
    lines = [json.loads(line) for line in (job.run / LOG_NAME).read_text(encoding="utf-8").splitlines()]
    trained = [line for line in lines if "loss" in line]
    validated = [line for line in lines if "validation_loss" in line]
    return {
        "scores": {guide: _scores(score_feature_file(job.features(guide))) for guide in job.guides},
        "losses": {name: trained[-1][name] for name in ("loss", "contrast", "matching", "language")},
        "validation_losses": {name: value for name, value in validated[-1].items() if name.startswith("validation_")}
        if validated
        else {},
        "training_seconds": read_json(job.run / SUMMARY_NAME)["seconds"],
    }


def _scores(result: RetrievalResult) -> dict[str, Any]:
    directions = {
        direction: {f"r{k}": recall.value for k, recall in scores.recalls.items()}
        | {"median_rank": scores.median_rank.value, "mean_rank": scores.mean_rank.value}
        for direction, scores in result.similarity.items()
    }
    return {"mean_recall": result.mean_recall["similarity"], **directions}


def _shown(found: dict[str, Any]) -> dict[str, list[float]]:
    """Return the mean recalls of a variant's tests, one for each seed."""
    guides = next(iter(found.values()))["scores"]
    return {
        guide: [round(100 * outcome["scores"][guide]["mean_recall"], 1) for outcome in found.values()]
        for guide in guides
    }


if __name__ == "__main__":
    main()
