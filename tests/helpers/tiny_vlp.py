"""Tiny hosts of vision-language pre-training, and runs on a few clips."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import BertTokenizer, PreTrainedModel

from evlvideo.assembly.vlp import start_host
from evlvideo.config.data import DataConfig
from evlvideo.config.vlp import VlpConfig, VlpEvaluationConfig, VlpLossesConfig, VlpModelConfig, VlpTrainingConfig

CAPTIONS = ("a red ball rolls", "a blue box falls to the left", "two green balls wait", "a box")
PRUNING = {"begin": [1, 2], "blocks_ahead": [1, 2], "keep": [0.8, 0.5]}
SIZES = {
    "image_size": 32,
    "patch_size": 8,
    "width": 32,
    "depth": 4,
    "heads": 4,
    "text_width": 32,
    "text_depth": 3,
    "text_heads": 4,
    "fusion_layer": 1,
    "embed_dim": 16,
}


def tiny_model(host: str = "blip", **changes: Any) -> VlpModelConfig:
    return VlpModelConfig(host=host, **{**SIZES, "pruning": PRUNING, **changes})


def tiny_host(host: str = "blip", **changes: Any) -> tuple[PreTrainedModel, BertTokenizer]:
    """A host with random weights in eval mode, and a tokenizer of `CAPTIONS`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, tokenizer = start_host(tiny_model(host, **changes), CAPTIONS)
    return model.eval(), tokenizer


def tiny_run(clips: Path, output_dir: Path, host: str = "blip", **sections: dict[str, Any]) -> VlpConfig:
    """A run of four short steps on the clips of a directory, with changes by section; plain keys go under `run`."""
    config = VlpConfig(
        output_dir=str(output_dir),
        model=tiny_model(host, max_text_tokens=12),
        losses=VlpLossesConfig(queue=10, momentum=0.9, alpha_steps=3),
        data=DataConfig(
            dataset="mini", root=str(clips), num_frames=2, train_sampling="uniform", num_workers=0, check_counts=False
        ),
        training=VlpTrainingConfig(
            max_steps=4,
            batch_size=4,
            learning_rate=1e-3,
            warmup_steps=1,
            eval_steps=2,
            log_steps=3,
        ),
        evaluation=VlpEvaluationConfig(batch_size=3),
    )
    changed = {
        name: replace(getattr(config, name), **sections[name])
        for name in ("model", "losses", "data", "training", "evaluation")
        if name in sections
    }
    return replace(config, **changed, **sections.get("run", {}))


def pixels(clips: int = 4, frames: int = 2, size: int = 32) -> torch.Tensor:
    """Random frames, uint8."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (clips, frames, 3, size, size), dtype=torch.uint8, generator=generator)
