"""The clips of a run, and the frames sampled from them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from evlvideo.config.settings import place, setting
from evlvideo.data.annotation.facts import DATASETS
from evlvideo.data.annotation.questions.facts import QUESTION_DATASETS
from evlvideo.data.video.sampling import SAMPLERS

SHARDS = "shards"
"""The dataset of a source that is tar files."""
CAPTIONS, QUESTIONS = KINDS = ("captions", "questions")
"""What a dataset holds; some names are of both."""


@dataclass
class SourceConfig:
    """One of several datasets that a run trains on."""

    dataset: str = setting("jsonl", choices=(*dict.fromkeys((*DATASETS, SHARDS, *QUESTION_DATASETS)),))
    """Its name, as in `data.dataset`; `shards`: tar files under `root`, as img2dataset and webdataset write them; or
    that of a dataset of questions, such as `pathvqa`, `vqav2` or `jsonl_qa` (your own)."""
    root: str | None = place(None)
    """Its directory; `rendered:mini_images/shards` is a folder of a dataset that is rendered on first use."""
    video_root: str | None = place(None)
    """Directory of its videos or images. Defaults to the dataset's own folder under `root`."""
    split: str = "train"
    """The split to train on."""
    clips: int | None = setting(None, least=1)
    """Train on only this many of its clips or questions, as `data.train_clips` does."""
    ratio: float = setting(1.0, above=0)
    """How often it is sampled, relative to the ratios of the other sources."""
    kind: str = setting(CAPTIONS, choices=KINDS)
    """`captions`, or `questions`: `dataset` is one of questions, each answer is an item, and the loss is on the answer
    alone, behind the question as `answering.prompt`, `answering.clean` and `answering.max_prompt_tokens` word it."""


@dataclass
class DataConfig:
    """Clips, and how frames are sampled from them."""

    kind: str = setting(CAPTIONS, choices=KINDS)
    """What `dataset` holds: `captions`, or `questions`. A run then validates by the share of right answers instead of
    CIDEr, decoded as `answering` says, and trains on questions, unless it has `sources`; see `kind` of a source."""
    dataset: str = setting("msrvtt", choices=(*dict.fromkeys((*DATASETS, *QUESTION_DATASETS)),))
    """A dataset by name, such as `msrvtt`, `jsonl` (your own) or `mini` (rendered on first use); see datasets/."""
    root: str | None = place(None)
    """Directory of the dataset. `mini` and `mini_images` default to one in the cache."""
    video_root: str | None = place(None)
    """Directory of the video or image files. Defaults to the dataset's own folder under `root`."""
    sources: list[SourceConfig] = field(default_factory=list)
    """Several datasets to train on, by ratio, instead of `train_split`; validation still uses `dataset`."""
    batches: str = setting("mixed", choices=("mixed", "one_source"))
    """Whether a step of a run with `sources` mixes them (`mixed`) or takes all its items from one (`one_source`, as
    published). The ratios hold for both, in items or in steps."""
    check_counts: bool = True
    """Whether every split must have as many clips and captions as the published dataset. If false, it may be a part of
    it, or your own clips in its layout; results say so."""
    train_split: str = "train"
    """Split to train on."""
    train_clips: int | None = setting(None, least=1)
    """Train on only this many clips, drawn at random: the same for every seed, and among those of a larger number.
    Defaults to all."""
    validation_split: str = "validate"
    """Split that selects the best checkpoint."""
    validation_clips: int | None = setting(None, least=1)
    """Validate on only the first this many clips. Defaults to all."""
    quarantine: str | None = place(None)
    """List of bad files, as `evlvideo data check-videos` writes it. Training skips their clips; evaluation counts them
    as missing and marks its scores as partial."""
    scoring_tokenizer: str | None = setting(None, choices=("characters",))
    """How metrics, validation and rewards split captions into words: `characters` takes each character of scripts
    without spaces (Chinese, Japanese, Thai) for a word, and compares with no published score. Defaults to the PTB
    tokenizer's rules."""
    num_frames: int = setting(4, least=1)
    """Frames sampled from each clip."""
    captions_per_clip: int = setting(1, least=1)
    """Captions of a clip in one step, which share its decoding and encoding. The published recipe has one."""
    train_sampling: str = setting("headtail", choices=tuple(SAMPLERS))
    """How training frames are sampled: `headtail` (at random from both halves), `segments` (one at random from each of
    as many segments), `1fps` or `2fps` (at that rate, from a random start), `uniform`."""
    eval_sampling: str = setting("uniform", choices=tuple(SAMPLERS))
    """How evaluation frames are sampled: `uniform`, `segment_middles`, or another of the above."""
    features: str | None = place(None)
    """Directory of features from `evlvideo features extract`, which are read instead of videos. They hold the frames of
    evaluation, so training samples no frames, crops or flips."""
    augment: bool = True
    """Whether training crops and flips at random. If false, frames are as in evaluation."""
    keep_aspect: bool = False
    """Whether frames keep their aspect ratio and are cropped to their central square. The published recipe squeezes."""
    crop_scale_min: float = setting(0.5, above=0, most=1)
    """Lower bound of the random resized crop in training, as a fraction of the frame's area."""
    horizontal_flip: float = setting(0.5, least=0, most=1)
    """Probability of a horizontal flip in training. Set it to 0 if captions tell left from right."""
    num_workers: int = setting(4, least=0)
    """Processes that decode; 0 decodes in the training process."""

    def contradictions(self) -> Iterator[str]:
        """Name keys that do not fit together."""
        yield from _contradictions_of_kind("data", self)
        yield from self._contradictions_of_sources()
        if self.features is not None:
            yield from self._contradictions_of_features()

    @property
    def has_questions(self) -> bool:
        """Whether the run trains on questions, or on captions and questions."""
        return QUESTIONS in ([source.kind for source in self.sources] or [self.kind])

    def _contradictions_of_sources(self) -> Iterator[str]:
        for index, source in enumerate(self.sources):
            yield from _contradictions_of_kind(f"data.sources[{index}]", source)
        if self.sources and self.train_clips is not None:
            yield (
                f"data.train_clips is {self.train_clips}, of data.train_split, which data.sources replaces; set clips "
                "in each source"
            )
        for index, source in enumerate(self.sources):
            if source.dataset == SHARDS and source.clips is not None:
                yield (
                    f"data.sources[{index}].clips is {source.clips}, but clips of shards are not drawn, since all "
                    "shards would be read for a few of each; name a directory with fewer shards as its root"
                )

    def _contradictions_of_features(self) -> Iterator[str]:
        reason = "features are of one set of frames of each clip, so data.features needs"
        if self.train_sampling != self.eval_sampling:
            yield f"{reason} data.train_sampling={self.eval_sampling}, as in evaluation; it is {self.train_sampling}"
        if self.augment:
            yield f"{reason} data.augment=false; it is true"
        if self.sources:
            yield "data.features cannot be used with data.sources; train on one dataset"
        if self.kind == QUESTIONS:
            yield f"data.features cannot be used with data.kind={QUESTIONS}; set it to null"


def _contradictions_of_kind(key: str, source: SourceConfig | DataConfig) -> Iterator[str]:
    """Name a dataset that holds something else than its kind says."""
    if source.kind == QUESTIONS and source.dataset not in QUESTION_DATASETS:
        yield (
            f"{key}.kind is {QUESTIONS}, but {key}.dataset is {source.dataset!r}; datasets of questions are "
            f"{', '.join(QUESTION_DATASETS)}"
        )
    if source.kind == CAPTIONS and source.dataset not in (*DATASETS, SHARDS):
        yield f"{key}.dataset is {source.dataset!r}, a dataset of questions; set {key}.kind={QUESTIONS}"
