"""What is asked of an estimate, and what it answers."""

from dataclasses import dataclass, fields

from evlvideo.errors import raise_problems

PRECISIONS = ("bf16", "fp16", "fp32")


@dataclass(frozen=True, slots=True)
class Workload:
    """One forward pass in training, and one caption, on one process.

    Accumulation repeats the pass and holds no more memory, so that it is not asked for.

    Raises:
        UserError: a number below 1, or a precision that there is not; all problems are listed.
    """

    num_frames: int
    """Frames of a clip."""
    batch_size: int
    """Clips per process and forward pass."""
    captions_per_clip: int
    """Captions of a clip in one step, for which it is encoded once."""
    text_tokens: int
    """Tokens that a caption is padded to, the opening and the ending one included."""
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

    What is inside the vision tower and trained, contextualizers or VideoChat's relations, is in `contextualizer` and
    not in `vision_tower`; what published work calls the connector is `connector`, or `connector + contextualizer`.
    """

    vision_tower: int
    """The frozen tower."""
    connector: int
    """`ln_vision`, the projections and the connector itself, with what of it is frozen."""
    contextualizer: int
    """Contextualizers, in the tower or over merged tokens, or relations; 0 where there are none."""
    language_model: int
    """The frozen language model, its word embeddings included."""

    @property
    def total(self) -> int:
        """Over all parts."""
        return self.vision_tower + self.connector + self.contextualizer + self.language_model

    def __floordiv__(self, divisor: int) -> "ByPart":
        return ByPart(*(getattr(self, field.name) // divisor for field in fields(self)))


@dataclass(frozen=True, slots=True)
class MultiplyAdds:
    """What a workload computes, and nothing of the memory that it takes."""

    soft_tokens: int
    """Soft tokens of a clip, before its text."""
    training_batch: ByPart
    """Of one cross-entropy pass, forward and backward, of a whole batch."""
    captioning_clip: ByPart
    """Of captioning one clip."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that training holds on one GPU when the forward pass has ended, which is near its peak.

    Not in it: the CUDA context (some 0.3 to 0.5 GiB), what the allocator loses to fragmentation, buffers that live
    within one operator, gradients of activations during the backward pass, and the buckets of several processes, which
    hold the gradients a second time.
    """

    weights: int
    """Towers in the precision of the workload, all else in float32."""
    gradients: int
    """Of the trained weights, in float32."""
    optimizer: int
    """AdamW's two moments of each trained weight, in float32."""
    activations: int
    """What the backward pass of a batch needs, with autocast's copies of trained weights in half precision."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a workload costs. Multiply-adds are those of matrix products and convolutions."""

    workload: Workload
    """What was asked."""
    soft_tokens: int
    """Soft tokens of a clip, before its text."""
    parameters: ByPart
    """All weights; one that is used in two places counts once."""
    trained: ByPart
    """Those that take gradients."""
    saved: ByPart
    """Values that `save_pretrained` writes without `full`."""
    training_batch: ByPart
    """Multiply-adds of one cross-entropy pass, forward and backward, of a whole batch."""
    captioning_clip: ByPart
    """Multiply-adds of captioning one clip."""
    memory: Memory
    """Bytes while training."""

    @property
    def training_clip(self) -> ByPart:
        """Multiply-adds of one cross-entropy pass, forward and backward, for each clip of the batch."""
        return self.training_batch // self.workload.batch_size
