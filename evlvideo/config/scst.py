"""Self-critical sequence training."""

from collections.abc import Iterator
from dataclasses import dataclass

from evlvideo.config.reward_names import parse_reward
from evlvideo.config.scst_presets import PRESETS
from evlvideo.config.settings import place, setting
from evlvideo.errors import UserError


@dataclass
class ScstConfig:
    """Self-critical sequence training."""

    preset: str | None = setting(None, choices=tuple(PRESETS))
    """Published settings to start from: `evlgen`, `luo2020` or `mllm-2025`. Keys that the config sets take precedence.
    See :mod:`evlvideo.config.scst_presets`."""
    candidates: str = setting("sampling", choices=("sampling", "beams"))
    """Where the captions of a clip come from: `sampling`, or `beams`, all results of a search with as many beams."""
    num_samples: int = setting(5, least=1)
    """Captions of each clip."""
    baseline: str = setting("greedy", choices=("greedy", "loo", "mean"))
    """What a reward is compared with: `greedy` (the greedy caption's reward), `loo` (the mean of the clip's other
    captions) or `mean` (the mean of all captions of the clip)."""
    temperature: float = setting(1.0, above=0)
    """Temperature of the samples, and of the log-probabilities that are trained."""
    top_p: float = setting(1.0, above=0, most=1)
    """Nucleus of the samples: the most likely tokens that together have this much probability."""
    max_new_tokens: int = setting(20, least=1)
    """Upper bound on the tokens of a sampled caption."""
    reward: str = "cider_d"
    """What is rewarded: `cider_d`, `bleu_4`, `rouge_l`, a function of your own as `module:function`, or a weighted sum
    of these, such as `cider_d + 0.5 * bleu_4`. CIDEr-D ranges from 0 to 10, the other two from 0 to 1. Training imports
    the module, from the installed ones or the working directory, and so runs its code."""
    reward_end_of_text: bool = True
    """Whether the end of a caption counts as a word. If not, models learn to drop the end."""
    reward_frequencies: str = setting("train", choices=("train", "batch"))
    """Where CIDEr-D's document frequencies come from: `train`, or `batch`, the references of a step's clips in each
    process. Few clips make poor frequencies; with one clip every reward is 0."""
    reward_references: str = setting("all", choices=("all", "first"))
    """What a caption is compared with: `all` references of its clip, or the `first`."""
    reward_file: str | None = place(None)
    """File of CIDEr-D's counts, which runs can share. Defaults to one in `output_dir`."""
    cross_entropy_weight: float = setting(0.0, least=0, below=1)
    """Share of the references' cross-entropy in the loss: 0 is none, 0.1 leaves 0.9 to the reward."""
    kl_weight: float = setting(0.0, least=0)
    """Weight in the loss of the divergence from the model that the run starts from; 0 is none."""
    stop_on_collapse: bool = False
    """Stop the run if sampled captions become very short, repeat themselves, do not end, or are all alike. If false,
    the log warns and the run continues. `training.stop_on_collapse` looks at validations instead."""

    def contradictions(self) -> Iterator[str]:
        """Name keys that do not fit together, and what is wrong with the reward."""
        if self.baseline in ("loo", "mean") and self.num_samples < 2:
            yield f"scst.baseline={self.baseline} compares samples of one clip; set scst.num_samples to 2 or more"
        if self.candidates == "beams":
            for name, value in (("temperature", self.temperature), ("top_p", self.top_p)):
                if value != 1:
                    yield f"scst.{name} is {value:g}, but scst.candidates=beams samples nothing; set it to 1"
        try:
            parse_reward(self.reward)
        except UserError as error:
            yield f"scst.reward: {error}"
