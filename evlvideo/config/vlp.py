"""Runs that pre-train a vision-language model (BLIP, ALBEF or CLIP), or train an ALBEF to classify statements."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from evlvideo.config.data import QUESTIONS, DataConfig
from evlvideo.config.run import MOST_SEED
from evlvideo.config.settings import expand_home, place, problems_of_bounds, setting
from evlvideo.data.annotation.statements.statement import ENTAILMENT, TASKS
from evlvideo.errors import raise_problems

HOSTS = ("blip", "albef", "clip")
"""Models that can be pre-trained."""
GUIDES = ("text", "class", "shuffled", "random")
"""What guides pruning in training; the last two are controls."""
EVALUATION_GUIDES = ("none", "class")
"""What guides pruning in evaluation, where a caption would give itself away."""


@dataclass
class VlpModelConfig:
    """The model: a checkpoint, or a new one of given sizes."""

    host: str = setting("blip", choices=HOSTS)
    """`blip` (contrast, matching and captioning), `albef` (contrast, matching and masked words) or `clip` (contrast
    alone)."""
    checkpoint: str | None = place(None)
    """Checkpoint to start from: a hub name or folder of transformers' BLIP or CLIP, a folder that this stage wrote, or
    the `.pth` file of a published BLIP or ALBEF, whose sizes the keys below must name. Otherwise they are the
    checkpoint's, but for `image_size`. Defaults to a new model."""
    tokenizer: str | None = place(None)
    """Tokenizer: a hub name or folder, such as `bert-base-uncased`. Defaults to the checkpoint's; for a new model, to
    the words of the training captions."""
    vision_init: str | None = None
    """Weights that the vision tower of a new BLIP or ALBEF starts from: a ViT of timm, such as
    `deit_base_patch16_224`."""
    text_init: str | None = place(None)
    """Weights that the text layers of a new BLIP or ALBEF start from: a BERT's hub name or folder."""
    image_size: int = setting(224, least=1)
    """Side of an image in pixels. A checkpoint's positions are interpolated to it."""
    patch_size: int = setting(16, least=1)
    """Side of a patch in pixels."""
    width: int = setting(768, least=1)
    """Channels of the vision tower."""
    depth: int = setting(12, least=1)
    """Blocks of the vision tower."""
    heads: int = setting(12, least=1)
    """Attention heads of the vision tower."""
    text_width: int = setting(768, least=1)
    """Channels of the text layers."""
    text_depth: int = setting(12, least=1)
    """Text layers."""
    text_heads: int = setting(12, least=1)
    """Attention heads of the text layers."""
    fusion_layer: int = setting(6, least=1)
    """ALBEF's text layers before those that read the image."""
    embed_dim: int = setting(256, least=1)
    """Channels in which images and texts are compared."""
    dropout: float = setting(0.1, least=0, below=1)
    """Dropout of a new BLIP's or ALBEF's text layers."""
    max_text_tokens: int = setting(30, least=4)
    """Longest text in tokens; longer ones are cut off."""
    frames: str = setting("concatenate", choices=("concatenate", "pool"))
    """What texts read of a clip of several frames: all of their tokens, or their mean at each place. Contrast compares
    the mean of the frames' features."""
    pruning: dict[str, Any] | None = None
    """Prunes every image's tokens (ELIP): a `preset` (`blip`, `albef`, `clip`, `meter`), or `begin`, `keep` and
    `blocks_ahead`; `look_ahead` (`exact`, the default, `one` or `previous`), `vision_share` (0.8), `fold` (true) and
    `guide` (`text`, `class`, or the controls `shuffled` and `random`). Defaults to none."""


@dataclass
class VlpLossesConfig:
    """What is minimized, and the teacher that follows the model."""

    contrast: float = setting(1.0, least=0)
    """Weight of image-text contrast."""
    matching: float = setting(1.0, least=0)
    """Weight of image-text matching. CLIP has none."""
    language: float = setting(1.0, least=0)
    """Weight of language modeling: captioning for BLIP, masked words for ALBEF. CLIP has none."""
    queue: int = setting(57_600, least=0)
    """Features of earlier images and texts that contrast compares with. ALBEF's is 65,536."""
    momentum: float = setting(0.995, least=0, most=1)
    """Share of the teacher that a step leaves; the rest is the model's."""
    alpha: float = setting(0.4, least=0, most=1)
    """Share of the teacher in the targets."""
    alpha_steps: int = setting(0, least=0)
    """Steps over which `alpha` rises from 0. Published: those of two epochs for BLIP, of one for ALBEF."""
    temperature: float = setting(0.07, above=0)
    """Temperature of a new model's contrast."""
    label_smoothing: float = setting(0.1, least=0, below=1)
    """Label smoothing of BLIP's language modeling."""
    mask_share: float = setting(0.15, above=0, below=1)
    """Share of a text's tokens that ALBEF masks."""


@dataclass
class VlpTrainingConfig:
    """Optimization."""

    max_steps: int = setting(50_000, least=1)
    """Optimizer steps."""
    batch_size: int = setting(32, least=2)
    """Images per process and forward pass. Hard negatives come from among them."""
    gradient_accumulation_steps: int = setting(1, least=1)
    """Forward passes per optimizer step. Each has its own contrast."""
    learning_rate: float = setting(1e-4, above=0)
    """Peak learning rate."""
    min_learning_rate: float = setting(1e-6, least=0)
    """Least learning rate."""
    schedule: str = setting("cosine", choices=("cosine", "exponential"))
    """How the learning rate falls after the warm-up: `cosine` (ALBEF's), or `exponential` (BLIP's), by `decay_rate`
    every `schedule_steps` steps."""
    schedule_steps: int | None = setting(None, least=1)
    """Steps of a stair of the `exponential` schedule. Published: those of an epoch."""
    decay_rate: float = setting(0.9, above=0, most=1)
    """What each stair of the `exponential` schedule leaves of the learning rate."""
    warmup_steps: int = setting(3000, least=0)
    """Steps of linear warm-up."""
    warmup_learning_rate: float = setting(1e-6, least=0)
    """Learning rate of the first step."""
    weight_decay: float = setting(0.05, least=0)
    """AdamW's weight decay."""
    decayed: str = setting("all", choices=("all", "matrices"))
    """Which weights decay: `all`, as in BLIP, or `matrices`, not norms and biases, as in ALBEF."""
    max_grad_norm: float = setting(0.0, least=0)
    """Gradients are clipped to this norm; 0 does not clip, as published."""
    precision: str = setting("auto", choices=("auto", "bf16", "fp32"))
    """`bf16`, `fp32`, or `auto`: bf16 on a GPU that has it, else fp32. Weights stay in float32."""
    eval_steps: int = setting(1000, least=1)
    """Steps between validations; each saves a checkpoint."""
    keep_checkpoints: int = setting(2, least=1)
    """Resumable checkpoints kept, besides the best."""
    log_steps: int = setting(50, least=1)
    """Steps between log lines."""
    gradient_checkpointing: bool = False
    """Whether layers keep only their inputs and run again in the backward pass, which saves memory."""

    def contradictions(self) -> Iterator[str]:
        """Name keys that do not fit together."""
        if self.min_learning_rate > self.learning_rate:
            yield (
                f"training.min_learning_rate is {self.min_learning_rate}, more than training.learning_rate, "
                f"{self.learning_rate}"
            )
        if self.schedule == "exponential" and self.schedule_steps is None:
            yield "training.schedule is exponential, so training.schedule_steps must be set, such as those of an epoch"
        if self.schedule == "cosine" and self.schedule_steps is not None:
            yield "training.schedule_steps is set, but only training.schedule=exponential has stairs"


@dataclass
class VlpEvaluationConfig:
    """What validation and `embed` do."""

    guide: str = setting("none", choices=EVALUATION_GUIDES)
    """How images are pruned: `none` does not, `class` lets the class token guide. An image's own caption would give
    itself away, so it never guides here."""
    rerank: int = setting(0, least=0)
    """Nearest candidates of each image and each text that matching scores again. Published: 256 on COCO, 128 on
    Flickr30k. 0 leaves it out."""
    batch_size: int = setting(64, least=1)
    """Images, or texts, encoded at once."""


def _one_frame() -> DataConfig:
    return DataConfig(num_frames=1)


@dataclass
class VlpConfig:
    """One run of pre-training.

    Raises:
        UserError: values are out of their bounds or contradict each other; the message lists all of them.
    """

    output_dir: str = place("runs/vlp")
    """Directory of the run."""
    seed: int = setting(42, least=0, most=MOST_SEED)
    """Seeds new weights, the order of the data, masks and negatives."""
    model: VlpModelConfig = field(default_factory=VlpModelConfig)
    losses: VlpLossesConfig = field(default_factory=VlpLossesConfig)
    data: DataConfig = field(default_factory=_one_frame)
    training: VlpTrainingConfig = field(default_factory=VlpTrainingConfig)
    evaluation: VlpEvaluationConfig = field(default_factory=VlpEvaluationConfig)

    def __post_init__(self) -> None:
        expand_home(self)
        contradictions = [*self.data.contradictions(), *self.training.contradictions(), *self._contradictions()]
        raise_problems("The config", [*problems_of_bounds(self), *contradictions])

    def _contradictions(self) -> Iterator[str]:
        model = self.model
        if self.data.features is not None:
            yield "data.features is set, but pre-training trains the vision tower; set it to null"
        if self.data.has_questions or self.data.kind == QUESTIONS:
            yield "data names a dataset of questions, but pre-training compares images with captions; leave it out"
        if model.checkpoint is not None and (model.vision_init or model.text_init):
            yield "model.vision_init and model.text_init start a new model, but model.checkpoint is set; give one"
        if model.host == "clip" and (model.vision_init or model.text_init):
            yield "model.vision_init and model.text_init are of BLIP and ALBEF; name a CLIP as model.checkpoint instead"
        if model.checkpoint is None:
            yield from _contradictions_of_sizes(model)
        if model.frames == "pool" and model.pruning and self.data.num_frames > 1:
            yield (
                "model.frames is pool, but frames whose tokens are pruned have no common places; set it to concatenate"
            )
        losses = self.losses
        if not losses.contrast and (model.host == "clip" or not (losses.matching or losses.language)):
            yield f"losses.contrast is 0, and {model.host} has no other loss with a weight above 0; give one"
        if self.data.captions_per_clip > 1:
            yield (
                f"data.captions_per_clip is {self.data.captions_per_clip}, but pre-training compares each image with "
                "one text; set it to 1"
            )
        if model.host == "clip" and self.evaluation.rerank:
            yield f"evaluation.rerank is {self.evaluation.rerank}, but CLIP has no matching; set it to 0"


def _contradictions_of_sizes(model: VlpModelConfig) -> Iterator[str]:
    if model.image_size % model.patch_size:
        yield f"model.image_size is {model.image_size}, no multiple of model.patch_size, {model.patch_size}"
    for width, heads in (("width", "heads"), ("text_width", "text_heads")):
        if getattr(model, width) % getattr(model, heads):
            yield f"model.{width} is {getattr(model, width)}, no multiple of model.{heads}, {getattr(model, heads)}"
    if model.host == "albef" and model.fusion_layer >= model.text_depth:
        yield (
            f"model.fusion_layer is {model.fusion_layer}, but model.text_depth is {model.text_depth}; leave layers "
            "that read the image"
        )


@dataclass
class DistillationConfig:
    """The teacher that follows a classifier."""

    momentum: float = setting(0.995, least=0, most=1)
    """Share of the teacher that a step leaves; the rest is the model's."""
    alpha: float = setting(0.4, least=0, most=1)
    """Share of the teacher in the targets. 0 trains without one."""
    alpha_steps: int = setting(0, least=0)
    """Steps over which `alpha` rises from 0. Published: those of an epoch."""


@dataclass
class StatementDataConfig:
    """Lists of statements, and their images."""

    root: str | None = place(None)
    """Directory of the lists. Defaults to the mini task, which is rendered into the cache."""
    image_root: str | None = place(None)
    """Directory that images are named from. Defaults to `root`."""
    train: str = "train.json"
    """List to train on: a JSON list of `{image, sentence, label}`, or, for nlvr2, of `{images, sentence, label}` with
    two images; or SNLI-VE's `.jsonl`."""
    validate: str = "validate.json"
    """List that selects the best checkpoint."""
    test: str = "test.json"
    """List to evaluate on in the end."""
    crop_scale_min: float = setting(0.5, above=0, most=1)
    """Smallest area of a random crop in training, as a share of the image."""
    horizontal_flip: float = setting(0.5, least=0, most=1)
    """Probability of a flip in training. Set it to 0 where statements tell left from right."""
    num_workers: int = setting(4, least=0)
    """Processes that decode images."""


@dataclass
class ClassifierEvaluationConfig:
    """How statements are classified in evaluation."""

    batch_size: int = setting(64, least=1)
    """Statements at once."""


def _albef() -> VlpModelConfig:
    return VlpModelConfig(host="albef")


def _fine_tuning() -> VlpTrainingConfig:
    return VlpTrainingConfig(
        learning_rate=2e-5, warmup_learning_rate=1e-5, warmup_steps=1000, weight_decay=0.02, decayed="matrices"
    )


@dataclass
class ClassifierConfig:
    """One run that trains an ALBEF to classify statements.

    Raises:
        UserError: values are out of their bounds or contradict each other; the message lists all of them.
    """

    output_dir: str = place("runs/classifier")
    """Directory of the run."""
    seed: int = setting(42, least=0, most=MOST_SEED)
    """Seeds new weights, the order of the data, and crops."""
    task: str = setting(ENTAILMENT, choices=tuple(TASKS))
    """`entailment` (SNLI-VE: contradiction, neutral, entailment) or `nlvr2` (true or false of two images)."""
    model: VlpModelConfig = field(default_factory=_albef)
    """The ALBEF to start from, such as a run of `evlvideo pretrain` as `model.checkpoint`. Its `pruning`, by the
    statement, holds in evaluation too; by default there is none, as published for fine-tuning."""
    losses: DistillationConfig = field(default_factory=DistillationConfig)
    data: StatementDataConfig = field(default_factory=StatementDataConfig)
    training: VlpTrainingConfig = field(default_factory=_fine_tuning)
    evaluation: ClassifierEvaluationConfig = field(default_factory=ClassifierEvaluationConfig)

    def __post_init__(self) -> None:
        expand_home(self)
        contradictions = [*self.training.contradictions(), *self._contradictions()]
        raise_problems("The config", [*problems_of_bounds(self), *contradictions])

    def _contradictions(self) -> Iterator[str]:
        model = self.model
        if model.host != "albef":
            yield f"model.host is {model.host!r}, but statements are classified by ALBEF; set it to albef"
        if model.checkpoint is not None and (model.vision_init or model.text_init):
            yield "model.vision_init and model.text_init start a new model, but model.checkpoint is set; give one"
        if model.checkpoint is None:
            yield from _contradictions_of_sizes(model)
        if self.data.image_root is not None and self.data.root is None:
            yield "data.image_root is set, but data.root is not, which is the directory of the lists; set it too"
