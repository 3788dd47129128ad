"""Self-critical sequence training."""

from dataclasses import dataclass


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
