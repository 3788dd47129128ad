"""A run's config: its sections, with every default.

The defaults of the model's architecture stand in :class:`evlvideo.models.configuration.EvlVideoConfig`.
"""

from dataclasses import asdict, dataclass, field

from evlvideo.config.checks import TOWERS, problems_of
from evlvideo.config.data import DataConfig
from evlvideo.config.generation import GenerationConfig
from evlvideo.config.model import ModelConfig
from evlvideo.config.scst import ScstConfig
from evlvideo.config.settings import flat_settings
from evlvideo.config.training import TrainingConfig
from evlvideo.errors import raise_problems

__all__ = ["TOWERS", "RunConfig"]


@dataclass
class RunConfig:
    """One training run."""

    stage: str = "caption"
    """`caption` (cross-entropy) or `scst` (self-critical)."""
    init: str = "mini"
    """Checkpoint to start from: a directory, a hub name, or `mini`, the packaged one; `towers` makes a new model."""
    architecture: str | None = None
    """YAML file of the model's architecture: what `init: towers` makes, what estimates are of, and what a checkpoint
    must be."""
    connector_init: str | None = None
    """BERT checkpoint that a new model's connector starts from, by hub name or folder; random where none is named."""
    output_dir: str = "runs/run"
    """Where the run is written."""
    seed: int = 42
    """Seeds Python, NumPy, torch and the data's workers."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    scst: ScstConfig = field(default_factory=ScstConfig)

    def __post_init__(self) -> None:
        raise_problems("The config", problems_of(flat_settings(asdict(self))))
