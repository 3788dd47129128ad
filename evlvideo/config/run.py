"""A training run: its sections, and what must agree between them.

The defaults of the model's architecture are in :class:`evlvideo.models.configuration.EvlVideoConfig`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from evlvideo.config.data import QUESTIONS, SHARDS, DataConfig
from evlvideo.config.generation import AnsweringConfig, GenerationConfig
from evlvideo.config.model import ModelConfig
from evlvideo.config.scst import ScstConfig
from evlvideo.config.settings import expand_home, place, problems_of_bounds, setting
from evlvideo.config.text import TextConfig
from evlvideo.config.training import ContrastiveConfig, RepresentationConfig, TrainingConfig
from evlvideo.errors import raise_problems
from evlvideo.models.choices import VISUAL_MASKS

REPRESENTATION = "representation"
"""The stage that trains a Q-Former before there is a language model."""
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

    stage: str = setting("caption", choices=("caption", "scst", REPRESENTATION))
    """`caption` (cross-entropy), `scst` (self-critical), or `representation`, BLIP-2's first stage: a Q-Former learns
    from images and texts without a language model, and a `caption` run starts from it (`init`)."""
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
    their captions. After a `representation` stage, only the language projection is new and fitted. 0 starts from random
    weights, as published. Defaults to 512 for a new model (`init: towers`), and to 0 otherwise and in the
    `representation` stage."""
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
    representation: RepresentationConfig = field(default_factory=RepresentationConfig)

    def __post_init__(self) -> None:
        expand_home(self)
        sections = (self.model, self.text, self.data, self.training, self.generation, self.scst)
        further = (self.answering, self.contrastive, self.representation)
        contradictions = [problem for section in (*sections, *further) for problem in section.contradictions()]
        raise_problems("The config", [*problems_of_bounds(self), *contradictions, *self._contradictions()])

    @property
    def clips_to_fit(self) -> int:
        """`fit_clips`, or its default."""
        if self.fit_clips is None:
            return _FIT_CLIPS if self.init == TOWERS and self.stage != REPRESENTATION else 0
        return self.fit_clips

    def _contradictions(self) -> Iterator[str]:
        """Name keys of different sections that do not fit together."""
        if self.init == TOWERS and self.architecture is None:
            yield f"init is {TOWERS}, a new model; name its architecture, a YAML file"
        if self.init != TOWERS and self.connector_init is not None:
            yield f"connector_init starts a new connector, but init is {self.init!r}; set init to {TOWERS}"
        if self.stage == "scst":
            yield from self._contradictions_of_scst()
        if self.stage == REPRESENTATION:
            yield from self._contradictions_of_representation()
        if self.data.has_questions or self.data.kind == QUESTIONS:
            yield from self._contradictions_of_questions()
        if self.model.visual_mask == VISUAL_MASKS[-1] and self.text.bos_in_loss:
            yield (
                f"text.bos_in_loss is true, but with model.visual_mask={VISUAL_MASKS[-1]} soft tokens see the BOS "
                "token that they would have to predict; leave text.bos_in_loss out"
            )
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

        if self.data.features is not None and (self.model.pruning or {}).get("guide") == "draft":
            yield (
                "data.features holds the outputs of the vision tower, which model.pruning.guide=draft prunes by a "
                "draft of each clip's caption; set guide to class or predicted, or data.features to null"
            )

    def _contradictions_of_questions(self) -> Iterator[str]:
        if self.stage != "caption":
            yield f"stage is {self.stage}, but questions are trained on in stage=caption alone; leave them out"
        if self.contrastive.beta:
            yield (
                f"contrastive.beta is {self.contrastive.beta}, but an answer does not describe its image; set it to 0, "
                "or leave the sources of questions out"
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

    def _contradictions_of_representation(self) -> Iterator[str]:
        """Name what the stage does not have: captions, a language model, and parts inside the tower."""
        for part in ("vision_tower", "language_model"):
            if rate := getattr(self.training.learning_rates, part):
                yield (
                    f"training.learning_rates.{part} is {rate:g}, but the {REPRESENTATION} stage trains the Q-Former "
                    "alone; set it to 0"
                )
        model, training = self.model, self.training
        refused: dict[str, tuple[Any, Any, str]] = {
            "model.connector": (model.connector, "blip2", "trains a Q-Former"),
            "model.contextualizer": (model.contextualizer, "none", "trains nothing inside the tower"),
            "model.lora_r": (model.lora_r or None, 0, "has no language model"),
            "fit_clips": (
                self.fit_clips or None,
                0,
                "has no language projection; the caption stage after it may fit it",
            ),
            "prompt_scale": (self.prompt_scale, None, "has no soft tokens; the caption stage after it may scale them"),
            "contrastive.beta": (self.contrastive.beta or None, 0, "has a contrast of its own"),
            "data.captions_per_clip": (self.data.captions_per_clip, 1, "pairs a clip with one caption"),
            "training.patience": (training.patience or None, 0, "has no CIDEr to wait for"),
            "training.stop_on_collapse": (training.stop_on_collapse or None, False, "has no captions to look at"),
        }
        for key, (value, allowed, why) in refused.items():
            if value not in (None, allowed):
                yield f"{key} is {value}, but the representation stage {why}; set it to {_shown(allowed)}"
        for name in ("gradient_checkpointing", "activation_checkpointing"):
            if training.arguments.get(name):
                yield f"training.arguments.{name} is on, but the representation stage has none; leave it out"
        for entry in fields(self.scst):
            if getattr(self.scst, entry.name) != entry.default:
                yield (
                    f"scst.{entry.name} is {getattr(self.scst, entry.name)}, but the representation stage samples no "
                    "captions; leave it out"
                )


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower()
