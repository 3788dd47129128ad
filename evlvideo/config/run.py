"""A training run: its sections, and what must agree between them.

The defaults of the model's architecture are in :class:`evlvideo.models.configuration.EvlVideoConfig`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from evlvideo.config.data import SHARDS, DataConfig
from evlvideo.config.generation import AnsweringConfig, GenerationConfig
from evlvideo.config.model import ModelConfig
from evlvideo.config.scst import ScstConfig
from evlvideo.config.settings import expand_home, place, problems_of_bounds, setting
from evlvideo.config.text import TextConfig
from evlvideo.config.training import ContrastiveConfig, TrainingConfig
from evlvideo.errors import raise_problems

TOWERS = "towers"
"""The `init` of a new model."""
_FIT_CLIPS = 512

MOST_SEED = 2**32 - 1
"""NumPy takes no larger one."""


@dataclass
class RunConfig:
    """One training run.

    Raises:
        UserError: values are out of their bounds or contradict each other; the message lists all of them.
    """

    stage: str = setting("caption", choices=("caption", "scst"))
    """`caption` (cross-entropy) or `scst` (self-critical)."""
    init: str = place("mini")
    """Checkpoint to start from: a directory, a hub name, or `mini`, the packaged one. `towers` makes a new model."""
    architecture: str | None = place(None)
    """YAML file of the model's architecture: what `init: towers` makes, what an estimate is of, and what a checkpoint
    must match."""
    connector_init: str | None = place(None)
    """BERT checkpoint for the connector of a new model: a hub name or folder. Defaults to random weights."""
    prompt_scale: str | None = setting(None, choices=("words",))
    """Length of the soft tokens that a new connector starts with: `words` gives them the mean norm of the language
    model's word embeddings. Defaults to what random weights make of it, as published."""
    fit_clips: int | None = setting(None, least=0)
    """Training clips that a new connector is fitted to before the first step: the tower's norm standardizes each
    channel over them, and the language projection starts at the linear map from the connector's tokens to the words of
    their captions. 0 starts from random weights, as published. Defaults to 512 for a new model (`init: towers`), and
    to 0 otherwise."""
    output_dir: str = place("runs/run")
    """Directory of the run."""
    seed: int = setting(42, least=0, most=MOST_SEED)
    """Seeds Python, NumPy, torch and the data workers."""
    model: ModelConfig = field(default_factory=ModelConfig)
    text: TextConfig = field(default_factory=TextConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    scst: ScstConfig = field(default_factory=ScstConfig)
    answering: AnsweringConfig = field(default_factory=AnsweringConfig)
    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)

    def __post_init__(self) -> None:
        expand_home(self)
        sections = (self.model, self.text, self.data, self.training, self.generation, self.scst)
        of_questions = (self.answering, self.contrastive)
        contradictions = [problem for section in (*sections, *of_questions) for problem in section.contradictions()]
        raise_problems("The config", [*problems_of_bounds(self), *contradictions, *self._contradictions()])

    @property
    def clips_to_fit(self) -> int:
        """`fit_clips`, or its default."""
        if self.fit_clips is None:
            return _FIT_CLIPS if self.init == TOWERS else 0
        return self.fit_clips

    def _contradictions(self) -> Iterator[str]:
        """Name keys of different sections that do not fit together."""
        if self.init == TOWERS and self.architecture is None:
            yield f"init is {TOWERS}, a new model; name its architecture, a YAML file"
        if self.init != TOWERS and self.connector_init is not None:
            yield f"connector_init starts a new connector, but init is {self.init!r}; set init to {TOWERS}"
        if self.stage == "scst":
            yield from self._contradictions_of_scst()
        if self.data.features is not None and self.model.contextualizer == "in_tower":
            yield (
                "data.features holds the outputs of the vision tower, which in-tower contextualizers change; set "
                "model.contextualizer to none or merged, or data.features to null"
            )
        if self.data.features is not None and self.training.learning_rates.vision_tower:
            yield (
                "data.features holds the outputs of the vision tower, which training.learning_rates.vision_tower="
                f"{self.training.learning_rates.vision_tower:g} changes; set that to 0, or data.features to null"
            )
        if self.contrastive.beta and self.training.learning_rates.projections == 0:
            yield (
                f"contrastive.beta is {self.contrastive.beta}, but its projections learn at "
                "training.learning_rates.projections, which is 0; set one of them"
            )
        if self.data.features is not None and self.model.connector == "videochat":
            yield (
                "data.features holds the output of the vision tower's last block, but model.connector=videochat reads "
                "earlier blocks too; set data.features to null"
            )

    def _contradictions_of_scst(self) -> Iterator[str]:
        if self.contrastive.beta:
            yield (
                f"contrastive.beta is {self.contrastive.beta}, but the scst stage has no contrastive term; set it to 0"
            )
        if self.init == TOWERS:
            yield (
                f"init is {TOWERS}, a new model, but the scst stage needs a model that captions already; train it with "
                "stage=caption first"
            )
        for index, source in enumerate(self.data.sources):
            if source.dataset == SHARDS:
                yield f"data.sources[{index}] are shards, but the scst stage needs all captions of every clip"
