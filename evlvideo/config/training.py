"""Optimisation, the contrastive term beside cross-entropy, and BLIP-2's first stage."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from evlvideo.config.settings import setting
from evlvideo.config.trainer_arguments import problems_of_arguments
from evlvideo.models.choices import GRADIENTS, PRECISIONS


@dataclass
class LearningRatesConfig:
    """Peak learning rates of parts of the model.

    `None` is `training.learning_rate`, and 0 freezes the part; one that the model does not have is ignored.
    """

    connector: float | None = setting(None, least=0)
    """The connector, which may start from a BERT or a trained Q-Former."""
    projections: float | None = setting(None, least=0)
    """The linear layers from the tower to the connector and on to the language model, and the tower's norm."""
    contextualizers: float | None = setting(None, least=0)
    """Contextualizers with their frame positions, and VideoChat's relations. They start from random weights."""
    lora: float | None = setting(None, least=0)
    """LoRA on the language model."""
    vision_tower: float = setting(0.0, least=0)
    """The vision tower, or its last `training.vision_blocks`. Published: frozen."""
    language_model: float = setting(0.0, least=0)
    """The whole language model. Published: frozen."""


@dataclass
class TrainingConfig:
    """Optimisation."""

    max_steps: int = setting(50_000, least=1)
    """Optimizer steps."""
    batch_size: int = setting(4, least=1)
    """Clips per process and forward pass."""
    gradient_accumulation_steps: int = setting(1, least=1)
    """Forward passes per optimizer step."""
    learning_rate: float = setting(1e-5, above=0)
    """Peak learning rate."""
    learning_rates: LearningRatesConfig = field(default_factory=LearningRatesConfig)
    """Peak learning rates of parts of the model that differ from `learning_rate`. Their warm-up and decay are in
    proportion: at every step, each is at the same fraction of its peak. The published recipe has one rate for all.
    Weights of towers that are trained are in float32, whatever `precision` is; checkpoints hold them, and later runs
    keep them so."""
    vision_blocks: int | None = setting(None, least=1)
    """Last blocks of the vision tower that `learning_rates.vision_tower` trains, with its final norm, if it is kept.
    Defaults to the whole tower."""
    min_learning_rate: float = setting(1e-6, least=0)
    """Learning rate at the end of the cosine, for a peak of `learning_rate`."""
    schedule: str = setting("cosine", choices=("cosine", "staircase"))
    """How learning rates fall after the warm-up: `cosine`, from step to step, or `staircase`, as in the published
    pre-training: the cosine is read once every `schedule_steps` steps, and the first stair ends at the peak."""
    schedule_steps: int | None = setting(None, least=1)
    """Steps of a stair of the `staircase`. Published: 5,000."""
    warmup_steps: int = setting(1000, least=0)
    """Steps of linear warm-up."""
    warmup_learning_rate: float = setting(1e-8, least=0)
    """Learning rate of the first step, for a peak of `learning_rate`."""
    weight_decay: float = setting(0.05, least=0)
    """AdamW's weight decay, on matrices, queries and embeddings; not on norms, biases and gates."""
    max_grad_norm: float = setting(1.0, least=0)
    """Gradients are clipped to this norm; 0 does not clip."""
    precision: str = setting("auto", choices=("auto", *PRECISIONS))
    """What training, captioning and evaluation compute in: `bf16`, `fp16` (GPU only), `fp32`, or `auto`: bf16 on a GPU
    that has it, else fp32."""
    eval_steps: int = setting(1000, least=1)
    """Steps between validations; each saves a checkpoint."""
    keep_checkpoints: int = setting(2, least=1)
    """Resumable checkpoints kept, besides the best."""
    log_steps: int = setting(50, least=1)
    """Steps between log lines."""
    patience: int = setting(0, least=0)
    """Validations in a row without a better CIDEr, after which the run ends; 0 never ends it."""
    stop_on_collapse: bool = False
    """End the run, with a checkpoint and its summary, at the first validation whose captions or soft prompts are all
    alike, whose captions are mostly empty, or whose loss in eval mode is far above that in training mode. If false, the
    log warns and the run continues. Choose `eval_steps` so that a healthy run has learned something by then."""
    max_hours: float | None = setting(None, above=0)
    """Hours of training after which the run ends with a validation, a checkpoint and its summary. Hours before an
    interruption count; validation does not. `--resume` with more hours continues."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of transformers' TrainingArguments, by name, such as `gradient_checkpointing: true`,
    `torch_compile: true`, `optim: adafactor` or `report_to: [tensorboard, wandb]`. Arguments that another key sets are
    refused. TensorBoard's files are in the run's directory, under `tensorboard`."""

    def contradictions(self) -> Iterator[str]:
        """Name keys that do not fit together, and arguments that the trainer does not take."""
        if self.min_learning_rate > self.learning_rate:
            yield (
                f"training.min_learning_rate is {self.min_learning_rate}, more than training.learning_rate, "
                f"{self.learning_rate}"
            )
        yield from self._contradictions_of_parts()
        yield from self._contradictions_of_schedule()
        yield from problems_of_arguments(self.arguments, "training.arguments")

    def _contradictions_of_parts(self) -> Iterator[str]:
        if not any(rate is None or rate > 0 for rate in asdict(self.learning_rates).values()):
            yield "training.learning_rates are all 0, so that nothing is trained; give a part a rate above 0"
        if self.vision_blocks is not None and not self.learning_rates.vision_tower:
            yield (
                f"training.vision_blocks is {self.vision_blocks}, but the vision tower is frozen; set "
                "training.learning_rates.vision_tower, such as 1e-6, or training.vision_blocks to null"
            )

    def _contradictions_of_schedule(self) -> Iterator[str]:
        if self.schedule == "staircase" and self.schedule_steps is None:
            yield "training.schedule is staircase, so training.schedule_steps must be set, such as 5000, as published"
        if self.schedule != "staircase" and self.schedule_steps is not None:
            yield (
                f"training.schedule_steps is {self.schedule_steps}, but only training.schedule=staircase has stairs; "
                f"training.schedule is {self.schedule}"
            )
        if self.schedule_steps is not None and self.warmup_steps > self.schedule_steps:
            yield (
                f"training.warmup_steps is {self.warmup_steps}, more than training.schedule_steps, "
                f"{self.schedule_steps}; the warm-up of a staircase is on its first stair"
            )


@dataclass
class ContrastiveConfig:
    """Contrast between images and captions, beside cross-entropy. The published recipe has it in its code, and off."""

    beta: float = setting(0.0, least=0)
    """Weight of the term; 0 leaves it out. The published code's own default is 0.1, and its recipes set 0."""
    text_encoder: str = "princeton-nlp/sup-simcse-bert-base-uncased"
    """Frozen encoder of captions, a BERT with a pooler: a hub name or folder. Only training opens it."""
    width: int = setting(256, least=1)
    """Channels in which images and captions are compared."""
    gradient: str = setting("published", choices=GRADIENTS)
    """What takes gradients. `published`: an image against all captions, and a caption against all images, where what is
    compared against is gathered without gradient, even a process's own; so the image's projection learns from its own
    rows alone. `full`: both sides, over all processes, which is the gradient of the loss of the whole batch. The values
    are equal."""

    def contradictions(self) -> Iterator[str]:
        """Name keys that do not fit together."""
        if not self.text_encoder:
            yield "contrastive.text_encoder is empty; name a hub name or a folder"


@dataclass
class RepresentationConfig:
    """BLIP-2's first stage (`stage: representation`): the Q-Former learns which images and texts belong together."""

    contrast_weight: float = setting(1.0, least=0)
    """Weight of image-text contrast."""
    matching_weight: float = setting(1.0, least=0)
    """Weight of image-text matching, with hard negatives."""
    generation_weight: float = setting(1.0, least=0)
    """Weight of image-grounded text generation."""
    tokenizer: str = "bert-base-uncased"
    """Tokenizer of the texts: a hub name, a folder, or `package:mini/language_model`, which needs no download. The
    published one is BERT's. A connector that starts from a BERT (`connector_init`) needs that BERT's."""
    text_tokens: int = setting(32, least=3)
    """Longest text, with a token before it and one after it; longer ones are cut off. Published: 32."""
    width: int = setting(256, least=1)
    """Channels in which images and texts are contrasted. Published: 256."""

    def contradictions(self) -> Iterator[str]:
        """Name keys that do not fit together."""
        if not self.contrast_weight + self.matching_weight + self.generation_weight:
            yield "representation has three weights of 0, so that nothing is trained; set one of them above 0"
        if not self.tokenizer:
            yield "representation.tokenizer is empty; name a hub name or a folder"
