"""Compare a self-critical step that encodes and reads each clip once with one that does so in every pass.

    python scripts/benchmarks/scst_step.py

The latter is the way of published code: sampling, greedy decoding and the pass with gradient each encode the clip, and
the language model reads the soft prompt with every caption. Both sample, score and go backward in every step, and
alternate. Size `mini` is the packaged checkpoint; `base` is a ViT-B/16, a connector of BERT-base's size and an OPT-125m
with random weights, whose captions never end before the 20th token. Writes `docs/benchmarks/scst_step.json`.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import OPTConfig, TrainingArguments

from evlvideo.config.generation import GenerationConfig
from evlvideo.config.scst import ScstConfig
from evlvideo.config.training import LearningRatesConfig
from evlvideo.files import write_json
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.results.provenance import git_commit, versions
from evlvideo.training.scst.baselines import BASELINES, advantages
from evlvideo.training.scst.policy_loss import (
    log_probabilities_inside,
    of_samples,
    policy_loss,
    sampled_tokens_mask,
)
from evlvideo.training.scst.trainer import SelfCriticalTrainer

ROOT = Path(__file__).parents[2]
FRAMES, CLIPS, SAMPLES, TOKENS = 4, 4, 5, 20
FORMS: dict[str, dict[str, Any]] = {
    "frames averaged": {"fusion": "mean"},
    "frames concatenated": {"fusion": "concat"},
    "in-tower contextualizer": {"fusion": "mean", "contextualizer": "in_tower"},
}


def main() -> None:
    """Measure every size and form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="steps of each way (%(default)s)")
    parser.add_argument("--sizes", nargs="+", choices=["mini", "base"], default=["mini", "base"])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "scst_step.json")
    options = parser.parse_args()
    runs = {
        size: {name: measure(make_trainer(size, form), options.repeats) for name, form in FORMS.items()}
        for size in options.sizes
    }
    report = {
        "machine": {"threads": torch.get_num_threads(), "platform": platform.platform()},
        "versions": versions(),
        "commit": git_commit(),
        "clips": CLIPS,
        "samples": SAMPLES,
        "frames": FRAMES,
        "runs": runs,
    }
    write_json(options.out, report)
    ratios = {size: {name: run["ratio"] for name, run in forms.items()} for size, forms in runs.items()}
    sys.stdout.write(json.dumps(ratios) + "\n")


def make_trainer(size: str, form: dict[str, Any]) -> SelfCriticalTrainer:
    """Make a trainer of a model of that size, with a reward that costs nothing."""
    directory = checkpoint_directory("mini")
    processor = EvlVideoProcessor.from_pretrained(directory)
    torch.manual_seed(0)
    if size == "mini":
        config = EvlVideoConfig.from_dict({**EvlVideoConfig.from_pretrained(directory).to_dict(), **form})
        model = EvlVideoForCaptioning.from_pretrained(directory, config=config)
    else:
        saved = EvlVideoConfig.from_pretrained(directory)
        tokens = {name: getattr(saved, name) for name in ("bos_token_id", "end_token_id", "pad_token_id")}
        model = EvlVideoForCaptioning(
            EvlVideoConfig(
                vision_tower="vit_base_patch16_224", vision_final_norm=True, text_config=OPTConfig(), **tokens, **form
            )
        )
    return SelfCriticalTrainer(
        reward=lambda captions, clip_ids, ended: [float(len(caption)) for caption in captions],
        scst=ScstConfig(num_samples=SAMPLES, max_new_tokens=TOKENS),
        model=model,
        args=TrainingArguments(output_dir=tempfile.gettempdir(), report_to=[], use_cpu=True),
        processor=processor,
        train_dataset=[],  # type: ignore[arg-type]
        eval_dataset=[],  # type: ignore[arg-type]
        data_collator=None,
        generation=GenerationConfig(),
        validation_references={},
        learning_rates=LearningRatesConfig(),
    )


def measure(trainer: SelfCriticalTrainer, repeats: int) -> dict[str, Any]:
    """Measure the seconds of a step, both ways in turn, after a warm-up of each."""
    size = trainer.captioner.vision_tower.image_size
    pixel_values = torch.randn(CLIPS, FRAMES, 3, size, size, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Callable[[], None]] = {
        "shared": lambda: shared_step(trainer, pixel_values),
        "separate": lambda: separate_step(trainer, pixel_values),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for place in range(repeats + 1):
        for name, step in ways.items():
            trainer.model.zero_grad()
            torch.manual_seed(place)
            trainer.state.global_step = place  # our sampling depends on the step
            started = time.perf_counter()
            step()
            if place:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"seconds": seconds, "median_seconds": medians, "ratio": medians["separate"] / medians["shared"]}


def shared_step(trainer: SelfCriticalTrainer, pixel_values: Tensor) -> None:
    """Run our step."""
    inputs: dict[str, Any] = {"pixel_values": pixel_values, "clip_ids": [str(place) for place in range(CLIPS)]}
    trainer.compute_loss(trainer.model, inputs).backward()


def separate_step(trainer: SelfCriticalTrainer, pixel_values: Tensor) -> None:
    """Run a step with three encodings, two generations, and a soft prompt for every caption."""
    captioner, processor = trainer.captioner, trainer.processor
    tokens = _generate(captioner, pixel_values, do_sample=True, num_return_sequences=SAMPLES, top_k=0)
    greedy = _generate(captioner, pixel_values, do_sample=False)
    rewards = [
        torch.tensor([float(len(caption)) for caption in processor.captions(of_kind)]) for of_kind in (tokens, greedy)
    ]
    by_clip = rewards[0].unflatten(0, (CLIPS, SAMPLES))
    advantage = advantages(by_clip, BASELINES["greedy"](by_clip, rewards[1])).flatten()
    loss = separate_loss(captioner, pixel_values, tokens, advantage)
    loss.backward()


def separate_loss(captioner: EvlVideoForCaptioning, pixel_values: Tensor, tokens: Tensor, advantage: Tensor) -> Tensor:
    """Compute the policy loss with a pass that encodes the clips and reads a soft prompt for each caption."""
    mask = sampled_tokens_mask(tokens, captioner.config.end_token_id)
    prompt = captioner.encode(pixel_values).repeat_interleave(SAMPLES, dim=0)
    opening = torch.full((len(tokens), 1), captioner.config.bos_token_id)
    text = torch.cat([opening, tokens], dim=1)
    kept = torch.cat([torch.ones_like(opening), mask.long()], dim=1)
    logits = captioner(
        soft_prompt=prompt, input_ids=text, attention_mask=kept, logits_to_keep=text.shape[1] + 1
    ).logits[:, 1:-1]
    log_probability = of_samples(log_probabilities_inside(logits), tokens)
    return policy_loss(log_probability, mask, advantage)


@torch.no_grad()
def _generate(captioner: EvlVideoForCaptioning, pixel_values: Tensor, **generation: Any) -> Tensor:
    words = captioner.language_model.get_input_embeddings()
    opening = words(torch.full((len(pixel_values), 1), captioner.config.bos_token_id))
    prefix = torch.cat([captioner.encode(pixel_values), opening], dim=1)
    tokens: Tensor = captioner.language_model.generate(
        inputs_embeds=prefix,
        attention_mask=torch.ones(prefix.shape[:2], dtype=torch.long),
        max_new_tokens=TOKENS,
        eos_token_id=captioner.config.end_token_id,
        pad_token_id=captioner.config.pad_token_id,
        **generation,
    )
    return tokens


if __name__ == "__main__":
    main()
