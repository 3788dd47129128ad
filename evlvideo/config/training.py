"""Optimisation."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class LearningRatesConfig:
    """Peak learning rates of parts. `None` is `training.learning_rate`; a part that the model does not have is none."""

    connector: float | None = None
    """The connector, which may come from a BERT or from a Q-Former that has learned before."""
    projections: float | None = None
    """The linear layers from the tower to the connector and from there to the language model, and the tower's norm."""
    contextualizers: float | None = None
    """Contextualizers with their frame positions, and VideoChat's relations. They start from nothing."""
    lora: float | None = None
    """LoRA on the language model."""


@dataclass
class TrainingConfig:
    """Optimisation."""

    max_steps: int = 50_000
    """Optimizer steps."""
    batch_size: int = 4
    """Clips per process and forward pass."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimizer step."""
    learning_rate: float = 1e-5
    """Peak learning rate."""
    learning_rates: LearningRatesConfig = field(default_factory=LearningRatesConfig)
    """Peak learning rates of parts of the model, where they differ from `learning_rate`. Their warm-up and their end
    are in proportion: each is at the same share of its peak in every step. The published recipe has one for all."""
    min_learning_rate: float = 1e-6
    """Learning rate at the end of the cosine, from `learning_rate`."""
    warmup_steps: int = 1000
    """Steps of linear warm-up."""
    warmup_learning_rate: float = 1e-8
    """Learning rate of the first step, of a peak of `learning_rate`."""
    weight_decay: float = 0.05
    """AdamW's weight decay, on matrices, queries and embeddings; not on norms, biases and gates."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm. 0 leaves them as they are."""
    precision: str = "auto"
    """What the run computes in, captioning and evaluation as well as training: `bf16`, `fp16` (on a GPU alone), `fp32`,
    or `auto`: bf16 on a GPU that has it, else fp32."""
    eval_steps: int = 1000
    """Steps between validations; a checkpoint is saved at each."""
    keep_checkpoints: int = 2
    """Resumable checkpoints kept, beside the best."""
    log_steps: int = 50
    """Steps between log lines."""
    patience: int = 0
    """Validations in a row without a better CIDEr than the best before, after which the run ends; 0 is never."""
    max_hours: float | None = None
    """Hours of training, without validation and with those before an interruption, after which the run ends: with a
    last validation, a checkpoint and its summary. `--resume` with more hours goes on."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of transformers' TrainingArguments, by name, such as `gradient_checkpointing: true`,
    `torch_compile: true`, `optim: adafactor` or `report_to: [tensorboard, wandb]`; those that a key of ours sets are
    refused. TensorBoard's files are in the run's directory, under `tensorboard`."""
