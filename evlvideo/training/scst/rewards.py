"""Rewards of self-critical sequence training: captions in, one number each out, or `None` if it cannot be scored.

A reward is a callable of captions, their clips, and whether each ended (:class:`Reward`). A user's own can be a plain
function of captions, references and clips (:class:`OwnReward`), which a config names as `module:function`.
"""

import importlib
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from evlvideo.errors import UserError
from evlvideo.metrics.cider import CiderD
from evlvideo.metrics.ngrams.tables import words_of
from evlvideo.metrics.sentence_scores import BleuReferences, RougeReferences
from evlvideo.metrics.stored_scorer import build_scorer, stored_scorer
from evlvideo.metrics.tokenizers.characters import characters_tokenize
from evlvideo.metrics.tokenizers.light import light_tokenize
from evlvideo.metrics.tokenizers.tokenize import clean

PlainReward = Callable[[list[str], list[list[str]], list[str]], Sequence[float | None]]
"""A reward as a user writes it: captions, the references of each as people wrote them, and the clip of each."""


class Reward(Protocol):
    """Scores captions, each against its clip."""

    def __call__(
        self, captions: Sequence[str], clip_ids: Sequence[str], ended: Sequence[bool]
    ) -> Sequence[float | None]:
        """Score captions.

        Args:
            captions: (batch) generated captions, as text.
            clip_ids: (batch) the clip of each.
            ended: (batch) whether each ended with the EOS token, rather than being cut off.

        Returns:
            (batch) a finite number per caption, or `None` if it cannot be scored and should train nothing.
        """
        ...


class CiderReward:
    """CIDEr-D against the references of the clip (Rennie et al., CVPR 2017), between 0 and 10; papers print 1 as 100.

    Built once from the training split; a call starts no Java and reads no reference text. The `python` tokenizer splits
    captions and references. With the frequencies of the split, a reward is independent of the rest of the batch.

    Args:
        references: the captions of every clip, as people wrote them.
        document_references: the captions of each clip to count document frequencies over. Defaults to `references`.
        end_of_text: count the EOS token as a word, in references, frequencies, and captions that ended. Otherwise
            models learn to drop it, at no loss of reward.
        frequencies: `split` counts over the documents, `batch` over the references of the clips in the call.
        tokenizer: `python` or `characters`.
    """

    def __init__(
        self,
        references: Mapping[str, Sequence[str]],
        document_references: Iterable[Sequence[str]] | None = None,
        end_of_text: bool = True,
        frequencies: str = "split",
        tokenizer: str = "python",
    ) -> None:
        documents = None
        if document_references is not None:
            documents = {str(number): texts for number, texts in enumerate(document_references)}
        self.scorer = build_scorer(references, documents, end_of_text=end_of_text, tokenizer=tokenizer)
        self.frequencies = frequencies
        self.tokenizer = tokenizer

    @classmethod
    def of_scorer(cls, scorer: CiderD, frequencies: str = "split", tokenizer: str = "python") -> "CiderReward":
        """Make a reward from a scorer, such as a stored one, that counted words of the tokenizer."""
        reward = cls.__new__(cls)
        reward.scorer, reward.frequencies, reward.tokenizer = scorer, frequencies, tokenizer
        return reward

    def __call__(self, captions: Sequence[str], clip_ids: Sequence[str], ended: Sequence[bool]) -> list[float]:
        """Score captions; see :class:`Reward`.

        Raises:
            UserError: a clip has no references.
        """
        words = [_tokenize(caption, self.tokenizer) for caption in captions]
        scores: list[float] = self.scorer.score_all(words, clip_ids, ended, frequencies=self.frequencies).tolist()
        return scores


class SentenceReward:
    """BLEU-4 or ROUGE-L against the references of the clip, between 0 and 1, as pycocoevalcap scores one clip.

    Args:
        metric: `bleu_4` or `rouge_l`.
        references: the captions of every clip, as people wrote them. Tokenized on first use.
        end_of_text: count the EOS token as a word, in references and in captions that ended.
        tokenizer: `python` or `characters`.
    """

    def __init__(
        self,
        metric: str,
        references: Mapping[str, Sequence[str]],
        end_of_text: bool = True,
        tokenizer: str = "python",
    ) -> None:
        self._prepare = _METRICS[metric]
        self._texts = references
        self._prepared: dict[str, BleuReferences | RougeReferences] = {}
        self.end_of_text = end_of_text
        self.tokenizer = tokenizer

    def __call__(self, captions: Sequence[str], clip_ids: Sequence[str], ended: Sequence[bool]) -> list[float]:
        """Score captions; see :class:`Reward`.

        Raises:
            UserError: a clip has no references.
        """
        return [
            self._references(clip_id).score(self._words(caption, finished))
            for caption, clip_id, finished in zip(captions, clip_ids, ended, strict=True)
        ]

    def _references(self, clip_id: str) -> BleuReferences | RougeReferences:
        if clip_id not in self._prepared:
            texts = _texts_of(self._texts, clip_id)
            self._prepared[clip_id] = self._prepare([self._words(text) for text in texts])
        return self._prepared[clip_id]

    def _words(self, caption: str, ended: bool = True) -> list[str]:
        return words_of(_tokenize(caption, self.tokenizer), end_of_text=self.end_of_text and ended)


_METRICS: dict[str, Callable[[Sequence[Sequence[str]]], BleuReferences | RougeReferences]] = {
    "bleu_4": BleuReferences.of,
    "rouge_l": RougeReferences.of,
}


class OwnReward:
    """Wraps a user's plain function as a reward.

    Args:
        function: called with lists of captions, their references, and their clips.
        references: the captions of every clip, as people wrote them.
        name: name of the reward in error messages.
    """

    def __init__(self, function: PlainReward, references: Mapping[str, Sequence[str]], name: str) -> None:
        self.function = function
        self.references = references
        self.name = name

    def __call__(
        self, captions: Sequence[str], clip_ids: Sequence[str], ended: Sequence[bool]
    ) -> Sequence[float | None]:
        """Score captions; see :class:`Reward`.

        Raises:
            UserError: a clip has no references, or the function does not return one number per caption.
        """
        references = [list(_texts_of(self.references, clip_id)) for clip_id in clip_ids]
        return checked_rewards(self.function(list(captions), references, list(clip_ids)), len(captions), self.name)


class MixedReward:
    """A weighted sum of rewards; `None` if any of them is.

    Args:
        parts: weights and rewards.
    """

    def __init__(self, parts: Sequence[tuple[float, Reward]]) -> None:
        self.parts = parts

    def __call__(self, captions: Sequence[str], clip_ids: Sequence[str], ended: Sequence[bool]) -> list[float | None]:
        """Score captions; see :class:`Reward`."""
        scored = [(weight, reward(captions, clip_ids, ended)) for weight, reward in self.parts]
        mixed: list[float | None] = []
        for index in range(len(captions)):
            terms = [None if (value := values[index]) is None else weight * value for weight, values in scored]
            known = [term for term in terms if term is not None]
            mixed.append(sum(known) if len(known) == len(terms) else None)
        return mixed


def make_reward(
    weights: Mapping[str, float],
    references: Mapping[str, Sequence[str]],
    *,
    split: str,
    end_of_text: bool = True,
    frequencies: str = "split",
    first_reference_only: bool = False,
    tokenizer: str = "python",
    scorer_file: Path | None = None,
    replace_file: bool = False,
) -> Reward:
    """Make the reward that a config names.

    Args:
        weights: name → weight (:func:`evlvideo.config.reward_names.parse_reward`).
        references: the captions of every clip, as people wrote them.
        split: name of the references in the scorer's file.
        end_of_text: count the EOS token as a word. User functions do not see it.
        frequencies: document frequencies of CIDEr-D, `split` or `batch`.
        first_reference_only: compare with the first reference of each clip only; count frequencies over all.
        tokenizer: splits captions and references, `python` or `characters`. User functions get text.
        scorer_file: file of CIDEr-D's reference counts. If None, they are not kept.
        replace_file: overwrite a scorer's file of other references.

    Raises:
        UserError: a function cannot be found, or the scorer's file belongs to other references.
    """
    documents = references if first_reference_only else None
    compared = {clip_id: texts[:1] for clip_id, texts in references.items()} if first_reference_only else references

    # First, so that a wrong name fails before anything is counted and written.
    own = {name: load_function(name) for name in weights if ":" in name}

    def cider() -> Reward:
        if scorer_file is None:
            return CiderReward(compared, documents and documents.values(), end_of_text, frequencies, tokenizer)
        scorer = stored_scorer(
            scorer_file,
            split,
            compared,
            documents,
            end_of_text=end_of_text,
            tokenizer=tokenizer,
            replace=replace_file,
        )
        return CiderReward.of_scorer(scorer, frequencies, tokenizer)

    def named(name: str) -> Reward:
        if name == "cider_d":
            return cider()
        if name in _METRICS:
            return SentenceReward(name, compared, end_of_text, tokenizer)
        return OwnReward(own[name], compared, name)

    parts = [(weight, named(name)) for name, weight in weights.items()]
    return parts[0][1] if len(parts) == 1 and parts[0][0] == 1 else MixedReward(parts)


def load_function(name: str) -> PlainReward:
    """Import a user's reward; the working directory is searched last.

    Args:
        name: `module:function`.

    Raises:
        UserError: the module is missing or fails to import, or it has no such function.
    """
    module_name, _, path = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise UserError(
            f"The module of the reward {name!r} cannot be imported: {type(error).__name__}: {error}. Start where "
            f"{module_name.partition('.')[0]} is, or install it."
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise UserError(f"The module {module_name!r} of the reward has no {path!r}.")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"The reward {name!r} is {found!r}, which cannot be called; name a function.")
    function: PlainReward = found
    return function


def checked_rewards(rewards: Any, captions: int, name: str) -> list[float | None]:
    """Check rewards, and return them as floats.

    Args:
        rewards: what a reward returned.
        captions: number of captions that it was given.
        name: name of the reward in error messages.

    Raises:
        UserError: there is not one per caption, or one is neither a finite number nor `None`.
    """
    expected = f"it must return a list of {captions}, one finite number or None for each caption"
    try:
        values = list(rewards)
    except TypeError as error:
        raise UserError(f"The reward {name} returned {str(rewards)[:80]!r}; {expected}.") from error
    if len(values) != captions:
        raise UserError(f"The reward {name} returned {len(values)} values for {captions} captions; {expected}.")
    checked: list[float | None] = []
    for place, value in enumerate(values):
        number = None if value is None else _number(value)
        if number is not None and not math.isfinite(number):
            raise UserError(f"The reward {name} returned {str(value)[:80]!r} for caption {place}; {expected}.")
        checked.append(number)
    return checked


def _number(value: Any) -> float:
    """Convert a number to a float; anything else becomes NaN or infinite."""
    if isinstance(value, str | bytes):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _texts_of(references: Mapping[str, Sequence[str]], clip_id: str) -> Sequence[str]:
    if not references.get(clip_id):
        raise UserError(f"There are no references for the clip {clip_id!r}; give it to the reward first.")
    return references[clip_id]


def _tokenize(caption: str, tokenizer: str) -> str:
    # Printable text has no control characters, and no white space but blanks.
    text = caption if caption.isprintable() else clean(caption)
    return characters_tokenize(text) if tokenizer == "characters" else light_tokenize(text)
