"""Published settings of self-critical training, by name. A preset holds only what its source states."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Preset:
    """Values of a run's config, and their source."""

    source: str
    values: Mapping[str, Any]
    """Dotted key → value. Keys that the config sets take precedence."""


PRESETS = {
    "evlgen": Preset(
        source="SCST (Rennie et al., CVPR 2017, arXiv 1612.00563), which EVLGen's poster names for EVLGen-video-scst "
        "(69.8 → 74.0); the number of samples, the learning rate and the steps are not stated there",
        values={
            "scst.candidates": "sampling",
            "scst.temperature": 1.0,
            "scst.baseline": "greedy",
            "scst.reward": "cider_d",
            "scst.reward_references": "all",
            "scst.reward_frequencies": "train",
            "scst.reward_end_of_text": True,
            "scst.cross_entropy_weight": 0.0,
        },
    ),
    "luo2020": Preset(
        source="A Better Variant of Self-Critical Sequence Training (Luo, arXiv 2003.09971), with five samples; its "
        "learning rates are those of other models",
        values={
            "scst.candidates": "sampling",
            "scst.num_samples": 5,
            "scst.temperature": 1.0,
            "scst.baseline": "loo",
            "scst.reward": "cider_d",
            "scst.reward_references": "all",
            "scst.reward_frequencies": "train",
            "scst.reward_end_of_text": True,
            "scst.cross_entropy_weight": 0.0,
        },
    ),
    "mllm-2025": Preset(
        source="Pretrained Image-Text Models are Secretly Video Captioners (Zhang et al., NAACL 2025, arXiv "
        "2502.13363): its published config for BLIP-2 with FLAN-T5-XL on MSR-VTT (73.6 → 79.5 with LoRA)",
        values={
            "model.lora_r": 8,
            "model.lora_alpha": 16,
            "model.lora_dropout": 0.05,
            "data.num_frames": 16,
            "training.max_steps": 20_000,
            "training.batch_size": 2,
            "training.learning_rate": 1e-5,
            "training.min_learning_rate": 1e-6,
            "training.warmup_steps": 1000,
            "training.warmup_learning_rate": 1e-8,
            "training.weight_decay": 0.05,
            "scst.candidates": "beams",
            "scst.num_samples": 5,
            "scst.baseline": "mean",
            "scst.reward": "cider_d",
            "scst.reward_references": "first",
            "scst.reward_frequencies": "batch",
            "scst.reward_end_of_text": False,
            "scst.cross_entropy_weight": 0.0,
        },
    ),
}
