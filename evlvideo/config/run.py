"""A run's config: its sections, with every default.

The defaults of the model's architecture stand in :class:`evlvideo.models.configuration.EvlVideoConfig`.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from evlvideo.config.checks import flat_settings, problems_of, raise_all


@dataclass
class ModelConfig:
    """What to change in the checkpoint named by `init`. `None` keeps the checkpoint's value."""

    connector: str | None = None
    """What turns vision tokens into soft ones: `tomeformer`, `blip2`, `video_llama`, `videochat`, `video_coca`,
    `linear` or `average_pool`. One that the checkpoint does not have starts at random."""
    connector_options: Any = None
    """Options of the connector, by name, such as `num_queries`; its file in evlvideo/models/connectors has them."""
    fusion: str | None = None
    """Where frames become one: `mean` (before the connector), `mean_tokens` or `concat` (after it)."""
    contextualizer: str | None = None
    """Where frames see each other: `none`, `in_tower` (in the vision blocks), `merged` (over merged tokens)."""
    contextualizer_blocks: list[int] | None = None
    """Vision blocks, counted from 0, that get an in-tower contextualizer; all of them where nothing is named."""
    frame_positions: bool | None = None
    """Whether contextualizers know the order of the frames. The published forms do not."""
    merge_r: Any = None
    """Tokens merged in each connector layer: a number, a list with one a layer, or `[r, inflection]` as a schedule."""
    lora_r: int | None = None
    """Rank of a LoRA on the language model, such as 8; 0 is none."""
    lora_alpha: int | None = None
    """Scale of the LoRA: what it adds is multiplied by `lora_alpha / lora_r`."""
    lora_dropout: float | None = None
    """Dropout of what the LoRA reads. There is none in the self-critical stage."""
    lora_targets: list[str] | None = None
    """Layers that get LoRA, by the end of their names; queries and values of OPT and LLaMA where nothing is named."""


@dataclass
class SourceConfig:
    """One of several data sets that a run trains on."""

    dataset: str = "jsonl"
    """Its name, as in `data.dataset`, or `shards`: tar files under `root`, as img2dataset and webdataset write them."""
    root: str | None = None
    """Its directory."""
    video_root: str | None = None
    """Directory of its videos or images; the data set's own place under `root` where none is named."""
    split: str = "train"
    """The split to train on."""
    ratio: float = 1.0
    """How often it is drawn from, against the other sources' ratios."""


@dataclass
class DataConfig:
    """Clips, and how frames are taken from them."""

    dataset: str = "msrvtt"
    """A data set by name, such as `msrvtt`, `jsonl` (one's own) or `mini` (rendered on first use); see datasets/."""
    root: str | None = None
    """Directory of the data set; `mini` has one of its own in the cache where none is named."""
    video_root: str | None = None
    """Directory of the video or image files; the data set's own place under `root` where none is named."""
    sources: list[SourceConfig] = field(default_factory=list)
    """Several data sets to train on, by ratio, in place of `train_split`; validation is on `dataset` all the same."""
    train_split: str = "train"
    """Split to train on."""
    validation_split: str = "validate"
    """Split that selects the best checkpoint."""
    validation_clips: int | None = None
    """Validate on the first this many clips only; all of them where nothing is named."""
    quarantine: str | None = None
    """List of bad files, as `evlvideo data check-videos` writes it: their clips are not trained on. Evaluation expects
    them all the same, and says that its scores are partial."""
    num_frames: int = 4
    """Frames taken from each clip."""
    captions_per_clip: int = 1
    """Captions of a clip in one step, for which it is decoded and encoded once. The published recipe has one."""
    train_sampling: str = "headtail"
    """How training frames are chosen: `headtail` (at random in both halves), `segments` (one at random in each of as
    many parts), `1fps` or `2fps` (at that rate, from a random place), `uniform`."""
    eval_sampling: str = "uniform"
    """How evaluation frames are chosen: `uniform`, `segment_middles`, or another of the above."""
    features: str | None = None
    """Directory of features made by `evlvideo features extract`, which are read in the place of videos. They are of the
    evaluation's frames, so that training draws no frames, crops or flips."""
    augment: bool = True
    """Whether training crops and flips at random; without, frames are as in evaluation."""
    keep_aspect: bool = False
    """Whether frames keep their aspect, and a square is cut out of their middle; the published recipe squeezes them."""
    crop_scale_min: float = 0.5
    """Smallest area of the random resized crop in training, as a share of the frame."""
    horizontal_flip: float = 0.5
    """Probability of a horizontal flip in training. Zero where captions tell left from right."""
    num_workers: int = 4
    """Processes that decode; 0 decodes in the training process."""


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


@dataclass
class GenerationConfig:
    """Decoding at evaluation. Lengths count new tokens."""

    num_beams: int = 5
    """Beams; 1 is greedy."""
    do_sample: bool = False
    """Draw captions at random, in place of searching for the likeliest; then beams are of no effect."""
    top_p: float = 1.0
    """Nucleus: draw from the likeliest tokens that have this much probability together."""
    temperature: float = 1.0
    """Temperature of drawing: below 1, likely tokens are drawn more often still."""
    max_new_tokens: int = 20
    """Most tokens of a caption."""
    min_new_tokens: int = 5
    """Fewest tokens of a caption."""
    length_penalty: float = 1.0
    """Exponent on the length in a beam's score; above 1 favours longer captions."""
    batch_size: int = 16
    """Clips captioned at once."""


@dataclass
class ScstConfig:
    """Self-critical sequence training."""

    preset: str | None = None
    """Published settings to start from, `evlgen`, `luo2020` or `mllm-2025`; what the config states itself comes before
    them. See :mod:`evlvideo.config.scst_presets`."""
    candidates: str = "sampling"
    """Where the captions of a clip come from: `sampling`, or `beams`, all that a search with as many beams finds."""
    num_samples: int = 5
    """Captions of each clip."""
    baseline: str = "greedy"
    """What a reward is compared with: `greedy` (the greedy caption's), `loo` (the mean of the clip's others) or `mean`
    (the mean of all of the clip's)."""
    temperature: float = 1.0
    """Temperature of the samples, and of the log-probabilities that are trained."""
    top_p: float = 1.0
    """Nucleus of the samples: the likeliest tokens that have this much probability together."""
    max_new_tokens: int = 20
    """Most tokens of a sampled caption."""
    reward: str = "cider_d"
    """What is rewarded: `cider_d`, `bleu_4`, `rouge_l`, a function of your own as `module:function`, or a weighted sum
    of these, such as `cider_d + 0.5 * bleu_4`. CIDEr-D goes from 0 to 10, the other two from 0 to 1."""
    reward_end_of_text: bool = True
    """Whether the end of a caption counts as a word; without it models learn to drop the end."""
    reward_frequencies: str = "train"
    """Where CIDEr-D's document frequencies come from: `train`, or `batch`, the references of a step's clips in each
    process. Few clips make poor frequencies; with one clip every reward is 0."""
    reward_references: str = "all"
    """What a caption is compared with: `all` references of its clip, or the `first`."""
    reward_file: str | None = None
    """File that CIDEr-D's counts are kept in, to share between runs; one in `output_dir` where none is named."""
    cross_entropy_weight: float = 0.0
    """Share of the cross-entropy of reference captions in the loss: 0 is none, 0.1 leaves 0.9 to the reward."""
    kl_weight: float = 0.0
    """Weight of the divergence from the model that the run starts from, which is added to the loss; 0 is none."""
    stop_on_collapse: bool = False
    """Stop the run where captions become very short, repeat themselves, do not end, or are all alike; else the log says
    so and the run goes on."""


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
        raise_all(problems_of(flat_settings(asdict(self))))
