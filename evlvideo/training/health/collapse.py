"""Detects that training has collapsed, from captions and from the values that a run logs.

A weak reward favours texts that nobody wants: a word over and over, no EOS token, one caption for every clip. A
connector may make all clips alike while the loss still falls, and dropout may hide how the model stands in eval mode.
Every sign has a name that can be searched for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from evlvideo.models.tokens.prompt_statistics import PromptSpread

BAD_ENDINGS = frozenset({
    *("a", "an", "the", "his", "her", "its", "their", "some"),
    *("of", "in", "on", "at", "to", "for", "from", "with", "by", "as", "into", "onto", "near", "over", "under"),
    *("behind", "beside", "between", "through", "and", "or", "is", "are", "was", "were", "am", "be", "being"),
})  # fmt: skip
"""Words that should not end a caption: articles, prepositions, conjunctions, auxiliary verbs. A reward that does not
count the EOS token teaches captions that end with one (bad endings: Guo et al., EMNLP 2018)."""

_FEWEST_TOKENS = 3.0
_MOST_REPETITION = 0.3
_MOST_ALIKE = 0.95
_MOST_UNENDED = 0.95
_NO_REWARD = 1e-6
_FEWEST_DISTINCT = 0.05
"""Captions are all alike if there is one for 20 clips or more."""
_MOST_EMPTY = 0.05
_MOST_SHRUNK = 0.02
"""Of 4 before the first step, a connector that collapsed left 0.0015; one that learned left 0.4 or more."""
_MODES_APART = 0.5
"""Nats. Dropout makes the loss higher in training mode, if anything; a model was found at 2.3 in training mode and 4.5
in eval mode."""
_LOSSES_APART = 1.5
"""Nats by which captions of unseen clips may be less likely than those of training."""


@dataclass(frozen=True, slots=True)
class Sign:
    """Something that is wrong with a run."""

    name: str
    """What to search for, such as `prompts-alike`."""
    text: str
    """Cause and advice."""
    stops: bool = True
    """Whether a run ends by it where that is asked for."""

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def bad_ending_share(captions: Sequence[str]) -> float:
    """Return the share of captions that end with one of :data:`BAD_ENDINGS` or have no words."""
    bad = [not (words := caption.lower().rstrip(" .!?").split()) or words[-1] in BAD_ENDINGS for caption in captions]
    return sum(bad) / len(bad)


def repetition_share(captions: Sequence[str]) -> float:
    """Return the share of word pairs that occurred earlier in the same caption, over all captions."""
    pairs = repeated = 0
    for caption in captions:
        words = caption.lower().split()
        found = list(pairwise(words))
        pairs += len(found)
        repeated += len(found) - len(set(found))
    return repeated / pairs if pairs else 0.0


def signs_of_collapse(means: Mapping[str, float]) -> list[Sign]:
    """Describe what is wrong with the latest samples of self-critical training; empty if nothing is.

    Args:
        means: values of a training line of the log: `sample_tokens`, `repetition`, `zero_advantage_share`,
            `unended_share`, `reward`. Missing ones are skipped.
    """
    signs = []
    tokens = means.get("sample_tokens")
    if tokens is not None and tokens < _FEWEST_TOKENS:
        signs.append(Sign("samples-short", f"captions have {tokens:.1f} tokens, EOS included"))
    if (repetition := means.get("repetition", 0.0)) > _MOST_REPETITION:
        signs.append(Sign("samples-repeat", f"{repetition:.0%} of word pairs repeat one of the same caption"))
    if (unended := means.get("unended_share", 0.0)) > _MOST_UNENDED:
        signs.append(Sign("samples-unended", f"{unended:.0%} of captions do not end within scst.max_new_tokens"))
    if (share := means.get("zero_advantage_share", 0.0)) > _MOST_ALIKE:
        alike = "the samples of a clip are all the same"
        cold = "none earns a reward, and the model that the run started from may not have learned to caption"
        reason = cold if abs(means.get("reward", 0.0)) < _NO_REWARD else alike
        signs.append(Sign("samples-alike", f"{share:.0%} of samples have no advantage over their baseline: {reason}"))
    return signs


def signs_of_validation(log_history: Sequence[Mapping[str, Any]]) -> list[Sign]:
    """Describe what is wrong at the latest validation, or before the first step; empty if nothing is.

    Reads only what checkpoints keep, so that a resumed run is told the same. Values that older runs did not log are
    skipped.

    Args:
        log_history: entries of a run's log. The values are those of :meth:`Validation.log_values`.
    """
    places = [place for place, entry in enumerate(log_history) if "validation_clips" in entry]
    if not places:
        return []
    before, values = log_history[: places[-1]], log_history[places[-1]]
    start = next((entry["validation_prompt_between"] for entry in before if _is_start(entry)), None)
    # A self-critical run minimises another loss.
    losses = [entry["loss"] for entry in before if "loss" in entry and "reward" not in entry]
    of_prompts = _signs_of_prompts(values, start)
    return [
        *of_prompts,
        *_signs_of_captions(values, prompts_alike=bool(of_prompts)),
        *_signs_of_losses(values, losses[-1] if losses else None),
    ]


def _is_start(entry: Mapping[str, Any]) -> bool:
    return "validation_prompt_between" in entry and entry.get("step") == 0


def _signs_of_captions(values: Mapping[str, float], *, prompts_alike: bool) -> list[Sign]:
    signs, clips = [], int(values["validation_clips"])
    distinct = round(clips * values.get("validation_distinct", 1.0))
    if clips > 1 and distinct <= max(1, _FEWEST_DISTINCT * clips):
        not_yet = "The model does not use the pictures, or not yet: train longer, or raise training.learning_rate."
        advice = "The cause is named under prompts-alike." if prompts_alike else not_yet
        signs.append(Sign("captions-alike", f"{clips:,} clips have {_counted(distinct, 'caption')} in all. {advice}"))
    empty = values.get("validation_empty", 0.0)
    if empty > _MOST_EMPTY:
        advice = (
            "The language model ends them at once: train longer, raise generation.min_new_tokens, or lower "
            "training.learning_rate"
        )
        text = f"{round(empty * clips):,} of {clips:,} captions have no words. {advice}."
        signs.append(Sign("captions-empty", text, stops=empty > 0.5))
    return signs


def _signs_of_prompts(values: Mapping[str, float], start: float | None) -> list[Sign]:
    if values["validation_clips"] < 2 or "validation_prompt_between" not in values:
        return []
    between, within, norm = (values[f"validation_prompt_{name}"] for name in ("between", "within", "norm"))
    spread = PromptSpread(between=between, within=within, norm=norm, words_norm=None)
    shrunk = start is not None and between < _MOST_SHRUNK * start
    if not (spread.is_alike or shrunk):
        return []
    before = "" if start is None else f", and lay {start:.3g} apart before the first step"
    text = (
        f"the soft prompts of different clips lie {between:.3g} apart{before}; a token's norm is {norm:.3g}, and "
        f"tokens of one clip lie {within:.3g} apart. The connector makes all clips alike, and captions cannot name "
        "what is seen: lower training.learning_rate or training.learning_rates.connector, raise training.warmup_steps, "
        "or start the connector from other weights. `evlvideo inspect` shows where clips become alike."
    )
    return [Sign("prompts-alike", text)]


def _signs_of_losses(values: Mapping[str, float], training_loss: float | None) -> list[Sign]:
    signs = []
    trained, evaluated = values.get("batch_loss"), values.get("batch_loss_eval_mode")
    if trained is not None and evaluated is not None and evaluated - trained > _MODES_APART:
        text = (
            f"the latest training batch has a loss of {trained:.2f} in training mode, with dropout, and of "
            f"{evaluated:.2f} in eval mode, in which captions are made. Lower the dropout of the connector and of LoRA."
        )
        signs.append(Sign("losses-apart", text))
    loss = values.get("validation_loss")
    if loss is not None and training_loss is not None and loss - training_loss > _LOSSES_APART:
        text = (
            f"the loss is {training_loss:.2f} in training and {loss:.2f} on validation clips. The model learns its "
            "training captions by heart, or validation clips are of another kind: train on more clips or captions, or "
            "for fewer steps. The checkpoint with the best CIDEr is kept."
        )
        signs.append(Sign("losses-apart", text, stops=False))
    return signs


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
