"""The workload of an estimate, and the estimate."""

from dataclasses import dataclass, fields

from evlvideo.errors import raise_problems
from evlvideo.models.choices import PRECISIONS


@dataclass(frozen=True, slots=True)
class Workload:
    """One forward pass in training, and one caption, on one process.

    Gradient accumulation repeats the pass and takes no more memory, so it is not part of it.

    Raises:
        UserError: a number is below 1, or the precision is unknown; all problems are listed.
    """

    num_frames: int
    """Frames of a clip."""
    batch_size: int
    """Clips per process and forward pass."""
    captions_per_clip: int
    """Captions of a clip in one step; the clip is encoded once."""
    text_tokens: int
    """Tokens that a caption is padded to, with BOS and EOS."""
    num_beams: int
    """Beams of generation; 1 is greedy."""
    new_tokens: int
    """Tokens generated for a caption."""
    precision: str
    """`bf16`, `fp16` or `fp32`."""

    def __post_init__(self) -> None:
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "precision"}
        problems = [
            f"{name} is {number!r}; it must be a whole number, at least 1"
            for name, number in numbers.items()
            if not isinstance(number, int) or isinstance(number, bool) or number < 1
        ]
        if self.precision not in PRECISIONS:
            problems.append(f"precision is {self.precision!r}; allowed: {', '.join(PRECISIONS)}")
        raise_problems("The workload", problems)


@dataclass(frozen=True, slots=True)
class ByPart:
    """A number for each part of the captioner.

    What is trained inside the vision tower, contextualizers or VideoChat's relations, belongs to `contextualizer`. What
    published work calls the connector is `connector`, or `connector + contextualizer`.
    """

    vision_tower: int
    """The frozen tower."""
    connector: int
    """`ln_vision`, the projections and the connector itself, with its frozen weights."""
    contextualizer: int
    """Contextualizers, in the tower or over merged tokens, or relations; 0 without them."""
    language_model: int
    """The frozen language model, with its word embeddings."""

    @property
    def total(self) -> int:
        """Return the sum over all parts."""
        return self.vision_tower + self.connector + self.contextualizer + self.language_model

    def __floordiv__(self, divisor: int) -> "ByPart":
        return ByPart(*(getattr(self, field.name) // divisor for field in fields(self)))


@dataclass(frozen=True, slots=True)
class MultiplyAdds:
    """Multiply-adds of a workload, without its memory."""

    soft_tokens: int
    """Soft tokens of a clip, before its text."""
    training_batch: ByPart
    """One cross-entropy pass of a batch, forward and backward."""
    captioning_clip: ByPart
    """Captioning one clip."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that training holds on one GPU at the end of the forward pass, which is near its peak.

    Not included: the CUDA context (some 0.3 to 0.5 GiB), fragmentation, buffers within one operator, gradients of
    activations during the backward pass, and the buckets of several processes, which hold the gradients twice.
    """

    weights: int
    """Towers in the precision of the workload, the rest in float32."""
    gradients: int
    """Gradients of the trained weights, in float32."""
    optimizer: int
    """AdamW's two moments of each trained weight, in float32."""
    activations: int
    """Tensors kept for the backward pass of a batch, with autocast's half-precision copies of trained weights."""

    @property
    def total(self) -> int:
        """Return the sum."""
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True, slots=True)
class Estimate:
    """The costs of a workload. Multiply-adds are those of matrix products and convolutions."""

    workload: Workload
    """The workload."""
    soft_tokens: int
    """Soft tokens of a clip, before its text."""
    parameters: ByPart
    """All weights; a shared one counts once."""
    trained: ByPart
    """Trained weights."""
    saved: ByPart
    """Values that `save_pretrained` writes without `full`."""
    training_batch: ByPart
    """Multiply-adds of one cross-entropy pass of a batch, forward and backward."""
    captioning_clip: ByPart
    """Multiply-adds of captioning one clip."""
    memory: Memory
    """Bytes during training."""

    @property
    def training_clip(self) -> ByPart:
        """Return the multiply-adds of one cross-entropy pass, forward and backward, for each clip of the batch."""
        return self.training_batch // self.workload.batch_size
