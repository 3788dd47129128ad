"""Sizes to measure: EVLGen as published, or a toy of the same form for a CPU."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evlvideo.models.architecture import read_architecture
from evlvideo.models.configuration import EvlVideoConfig

ARCHITECTURE = Path(__file__).parents[3] / "configs" / "architectures" / "evlgen_opt2.7b.yaml"
FORMS: dict[str, dict[str, Any]] = {
    "image": {"fusion": "mean"},
    "video": {"fusion": "mean", "contextualizer": "in_tower"},
    "merged": {"fusion": "mean_tokens", "contextualizer": "merged"},
}
"""Frames averaged, contextualizers in the tower, and one over merged tokens."""
TEXT_TOKENS = 32
"""Tokens of a training caption, with BOS and EOS."""
_TOY: dict[str, Any] = {
    "vision_overrides": {"depth": 2, "img_size": 56, "embed_dim": 48, "num_heads": 4},
    "text_config": {
        "model_type": "opt",
        "hidden_size": 48,
        "word_embed_proj_dim": 48,
        "ffn_dim": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 50272,
        "max_position_embeddings": 128,
    },
    "bert_config": {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "max_position_embeddings": 32,
    },
    "merge_r": 3,
}


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes of all parts."""

    name: str
    changes: dict[str, Any]
    """Changes to the published architecture."""
    frames: int
    batches: tuple[int, int]
    """Clips per training step: as published per GPU, and more, to fill it."""
    clips: int
    """Clips to caption, or to copy to the device."""
    images: int
    """Images to compare connectors on."""
    samples: int
    beams: int
    new_tokens: int
    matrix: int
    """Rows and columns of the matrices whose product gives the card's measured peak."""
    warmup: int
    repeats: int
    compile_backend: str
    """torch's compile backend; the toy's builds no kernels, which take minutes on a CPU."""

    def architecture(self, **form: Any) -> EvlVideoConfig:
        """Return the published architecture in one of its forms, at this size."""
        return EvlVideoConfig.from_dict({**read_architecture(ARCHITECTURE).to_dict(), **self.changes, **form})


FULL = Size(
    name="full",
    changes={},
    frames=4,
    batches=(4, 16),
    clips=64,
    images=64,
    samples=5,
    beams=5,
    new_tokens=20,
    matrix=8192,
    warmup=3,
    repeats=8,
    compile_backend="inductor",
)
SMALL = Size(
    name="small",
    changes=_TOY,
    frames=2,
    batches=(1, 2),
    clips=2,
    images=2,
    samples=2,
    beams=2,
    new_tokens=4,
    matrix=64,
    warmup=1,
    repeats=2,
    compile_backend="aot_eager",
)
SIZES = {size.name: size for size in (FULL, SMALL)}


def device() -> torch.device:
    """Return the first GPU, or the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def precision() -> str:
    """Return the precision: bf16, unless a GPU lacks it."""
    gpu = torch.cuda.is_available()
    return "fp32" if gpu and not torch.cuda.is_bf16_supported(including_emulation=False) else "bf16"
