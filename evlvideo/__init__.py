"""Turn image-pretrained EVLGen checkpoints into video captioners, and evaluate them.

Public names are imported on first use, so that `import evlvideo` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evlvideo.cli.evaluation import evaluate
    from evlvideo.config.loading import load_config
    from evlvideo.config.run import RunConfig
    from evlvideo.errors import UserError
    from evlvideo.metrics.scoring import score_captions
    from evlvideo.models.captioner import EvlVideoForCaptioning
    from evlvideo.models.configuration import EvlVideoConfig
    from evlvideo.models.processing import EvlVideoProcessor
    from evlvideo.training.run import train

__version__ = "0.1.0"

_HOMES = {
    "EvlVideoConfig": "evlvideo.models.configuration",
    "EvlVideoForCaptioning": "evlvideo.models.captioner",
    "EvlVideoProcessor": "evlvideo.models.processing",
    "RunConfig": "evlvideo.config.run",
    "UserError": "evlvideo.errors",
    "evaluate": "evlvideo.evaluation.evaluate",
    "load_config": "evlvideo.config.loading",
    "score_captions": "evlvideo.metrics.scoring",
    "train": "evlvideo.training.run",
}

__all__ = [
    "EvlVideoConfig",
    "EvlVideoForCaptioning",
    "EvlVideoProcessor",
    "RunConfig",
    "UserError",
    "__version__",
    "evaluate",
    "load_config",
    "score_captions",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
