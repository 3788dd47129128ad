"""The workload of an estimate, and the estimate."""

from dataclasses import dataclass, fields

from evlvideo.errors import raise_problems
from evlvideo.models.choices import PRECISIONS


@dataclass(frozen=True, slots=True)
class Contrasted:
    """The contrastive term of training."""

    text_encoder: str
    """Frozen encoder of captions, a hub name or folder."""
    width: int
    """Channels in which images and captions are compared."""
    beta: float
    """Its weight."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One forward pass in training, one caption, and one answer, on one process.

    Gradient accumulation repeats the pass and takes no more memory, so it is not part of it.

    Raises:
        UserError: a number is below 1, or the precision is unknown; all problems are listed.
    """

    num_frames: int
    """Frames of a clip."""
    batch_size: int
    """Clips per process and forward pass."""
    captions_per_clip: int
    """Captions of a clip in one step, sampled ones included; the clip is encoded once."""
    text_tokens: int
    """Tokens that a caption is padded to, with BOS and EOS."""
    num_beams: int
    """Beams of generation; 1 is greedy."""
    new_tokens: int
    """Tokens generated for a caption."""
    precision: str
    """`bf16`, `fp16` or `fp32`."""
    other_precision: str | None = None
    """One more, in which memory is estimated too."""
    clips_captioned: int = 1
    """Clips captioned at once."""
    samples: int = 0
    """Captions sampled of a clip in a self-critical step; 0 for cross-entropy. A greedy one is generated with them."""
    sample_tokens: int = 0
    """Tokens of a sampled caption, with EOS; its text is BOS and all of them but the last."""
    divergence: bool = False
    """Whether the model that the run started from reads the samples too, for `scst.kl_weight`."""
    question_tokens: int = 0
    """Tokens of a question in its prompt, with BOS; 0 if no question is asked."""
    answer_beams: int = 1
    """Beams of an answer."""
    answer_tokens: int = 1
    """Tokens generated for an answer."""
    contrast: Contrasted | None = None
    """The contrastive term; None without one."""
    cached_features: bool = False
    """Whether the vision tower's outputs are read from disk, so that it does not run in training."""
    gradient_checkpointing: bool = False
    """Whether layers keep only their input for the backward pass. What they then compute again is not counted."""
    first_stage: bool = False
    """Whether training is BLIP-2's first stage, which has no language model and captions nothing; see
    :func:`evlvideo.estimate.costs.estimate_first_stage`."""

    def __post_init__(self) -> None:
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.type is int}
        least = {name: int(name not in ("samples", "sample_tokens", "question_tokens")) for name in numbers}
        problems = [
            f"{name} is {number!r}; it must be a whole number, at least {least[name]}"
            for name, number in numbers.items()
            if not isinstance(number, int) or isinstance(number, bool) or number < least[name]
        ]
        for name in ("precision", "other_precision"):
            value = getattr(self, name)
            if value not in PRECISIONS and (name, value) != ("other_precision", None):
                problems.append(f"{name} is {value!r}; allowed: {', '.join(PRECISIONS)}")
        raise_problems("The workload", problems)


@dataclass(frozen=True, slots=True)
class ByPart:
    """A number for each part of the captioner.

    What is trained inside the vision tower, contextualizers or VideoChat's relations, belongs to `contextualizer`. What
    published work calls the connector is `connector`, or `connector + contextualizer`.
    """

    vision_tower: int
    """The tower itself."""
    connector: int
    """`ln_vision`, the projections and the connector itself, with its frozen weights."""
    contextualizer: int
    """Contextualizers, in the tower or over merged tokens, or relations; 0 without them."""
    language_model: int
    """The language model, with its word embeddings."""
    contrast: int = 0
    """The contrastive term of training, with its frozen encoder of captions; 0 without one."""

    @property
    def total(self) -> int:
        """Return the sum over all parts."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __add__(self, other: "ByPart") -> "ByPart":
        return ByPart(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __floordiv__(self, divisor: int) -> "ByPart":
        return ByPart(*(getattr(self, field.name) // divisor for field in fields(self)))


@dataclass(frozen=True, slots=True)
class MultiplyAdds:
    """Multiply-adds of a workload, without its memory in training."""

    soft_tokens: int
    """Soft tokens of a clip, before its text."""
    training_batch: ByPart
    """One pass of a batch, forward and backward, without the sampling of its captions."""
    captioning_clip: ByPart
    """Captioning one clip from its frames, with its draft, if the model drafts."""
    sampling_clip: ByPart | None
    """Sampling a clip's captions, after its soft prompt is read; None for cross-entropy."""
    answering_question: ByPart | None
    """Answering one question about one clip, from its frames; None if none is asked, or if question and answer do not
    fit into the language model."""
    cached_values: int
    """Keys and values that the language model keeps of a token while it generates."""


@dataclass(frozen=True, slots=True)
class PruningCosts:
    """What pruning in the vision tower saves: multiply-adds of the tower for a clip, in one pass."""

    guide: str
    """What guides in captioning; see :data:`evlvideo.models.blocks.pruning_options.GUIDES`."""
    guide_in_training: str
    """What guides in training."""
    look_ahead: str
    """Where scores come from."""
    whole: int
    """If nothing were pruned."""
    pruned: int
    """With pruning, and the blocks that are looked ahead."""
    cheap: int
    """With `look_ahead: one`."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that training holds on one GPU at the end of the forward pass, which is near its peak.

    Not included: the CUDA context (some 0.3 to 0.5 GiB), fragmentation, buffers within one operator, gradients of
    activations during the backward pass, and the buckets of several processes, which hold the gradients twice.
    """

    weights: int
    """What is frozen of the towers in the precision of the workload, the rest in float32."""
    gradients: int
    """Gradients of the trained weights, in float32."""
    optimizer: int
    """AdamW's two moments of each trained weight, in float32."""
    activations: int
    """Tensors kept for the backward pass of a batch, with autocast's half-precision copies of trained weights."""
    start: int = 0
    """What is trained, as the run started, in float32: for `scst.kl_weight`."""

    @property
    def total(self) -> int:
        """Return the sum."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.start


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
    """Multiply-adds of one pass of a batch, forward and backward, without the sampling of its captions."""
    captioning_clip: ByPart
    """Multiply-adds of captioning one clip from its frames; in the first stage, of encoding it."""
    memory: Memory
    """Bytes during training."""
    cached_token_bytes: int
    """Bytes of the keys and values that the language model keeps of a token while it generates."""
    other_memory: Memory | None = None
    """Bytes during training in the workload's other precision, if it has one."""
    sampling_clip: ByPart | None = None
    """Multiply-adds of sampling a clip's captions, after its soft prompt is read; None for cross-entropy."""
    answering_question: ByPart | None = None
    """Multiply-adds of answering one question about one clip from its frames; None if none is asked, or if question and
    answer do not fit into the language model."""
    feature_bytes: int | None = None
    """Bytes of a clip's features on disk, in the precision of the workload; None if something in the tower is trained,
    or it prunes by drafts, so that features cannot be stored."""
    pruning: PruningCosts | None = None
    """What pruning in the tower saves; None if it prunes nothing."""
    trained_parts: tuple[str, ...] = ()
    """Parts with learning rates of their own that are trained, sorted."""

    @property
    def training_clip(self) -> ByPart:
        """Return the multiply-adds of one pass, forward and backward, for each clip of the batch."""
        return self.training_batch // self.workload.batch_size

    @property
    def captioning_cache(self) -> int:
        """Return the bytes of all keys and values when the captions of a batch end."""
        asked = self.workload
        return self._cache(asked.clips_captioned * asked.num_beams, asked.new_tokens)

    @property
    def sampling_cache(self) -> int:
        """Return the bytes of all keys and values when the sampled and greedy captions of a batch end."""
        asked = self.workload
        return self._cache(asked.batch_size * (asked.samples + 1), asked.sample_tokens) if asked.samples else 0

    def _cache(self, captions: int, new_tokens: int) -> int:
        # BOS is read too, and the last token is not.
        return self.cached_token_bytes * captions * (self.soft_tokens + new_tokens)
