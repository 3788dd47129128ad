"""The clips of a run, and the frames taken from them."""

from dataclasses import dataclass, field

SHARDS = "shards"
"""The data set of a source that is tar files."""


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
