"""Score captions by BLEU-1…4, METEOR, ROUGE-L, CIDEr and SPICE, on one tokenization of everything.

CIDEr is our own (:mod:`evlvideo.metrics.cider`): it equals pycocoevalcap's and counts references once for all systems.
The others are pycocoevalcap's scorers, called one by one, since its evaluation class always starts SPICE, whose models
it downloads.

Defined here, as pycocoevalcap breaks:

- A caption without words scores 0 in every metric, and its references still count in the corpus scores.
- If METEOR or SPICE fails, or there is no Java, `skipped` holds the reason, and the other metrics stand.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from evlvideo.errors import UserError, first_ten, look_alikes
from evlvideo.metrics.meteor import MeteorProcess, Texts
from evlvideo.metrics.names import ALL_METRICS, METRICS, SUBSET_SCORES
from evlvideo.metrics.remarks import cider_remarks, script_remarks
from evlvideo.metrics.spice import spice
from evlvideo.metrics.tokenized_references import TokenizedReferences
from evlvideo.metrics.tokenizers.tokenize import default_tokenizer, tokenize_lines


class _Score(NamedTuple):
    """One metric."""

    corpus: float
    per_clip: list[float]


@dataclass(frozen=True)
class _Scored:
    """Computed metrics, with clips in order."""

    metrics: dict[str, _Score]
    skipped: dict[str, str]
    """Metric → why it was not computed."""
    bleu_counts: list[dict[str, Any]]
    """pycocoevalcap's counts of each clip; empty without BLEU."""


@dataclass(frozen=True)
class Scores:
    """Scores of one system on one set of clips."""

    corpus: dict[str, float]
    """Metric → score over all clips."""
    per_clip: dict[str, dict[str, float]]
    """Clip → metric → score of its caption."""
    tokenizer: str
    """The tokenizer that was used."""
    skipped: dict[str, str]
    """Metric → why it was not computed."""
    subsets: dict[str, dict[str, float]]
    """Subset → metric → score over its clips; see :func:`score_captions`."""
    remarks: list[str] = field(default_factory=list)
    """Why scores say little, whatever the captions."""


def score_captions(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    metrics: Sequence[str] = METRICS,
    tokenizer: str | None = None,
    subsets: Mapping[str, Sequence[str]] | None = None,
    meteor: MeteorProcess | None = None,
    *,
    subset_frequencies: str = "split",
) -> Scores:
    """Score one caption for each clip against the references of the clip.

    Args:
        predictions: clip → caption, for exactly the clips of `references`.
        references: clip → what people wrote, at least one with a word in it.
        metrics: some of :data:`ALL_METRICS`.
        tokenizer: one of :data:`evlvideo.metrics.tokenizers.tokenize.TOKENIZERS`. Defaults to `ptb` if Java runs, else
            `python`.
        subsets: name → clips to score on their own as well. BLEU is computed over the captions of the subset. METEOR,
            ROUGE-L and CIDEr are means of the clips' scores, so that CIDEr keeps the document frequencies of the whole.
        meteor: a running METEOR, left open. If None, one is started and ended.
        subset_frequencies: `split` for the above; `own` to score each subset as if it were all, so that CIDEr has the
            document frequencies of the subset, and METEOR is over its captions.

    Raises:
        UserError: clips are missing or unknown (they are listed), references are empty, a name is unknown, or the
            tokenizer cannot run.
    """
    _check(predictions, references, metrics)
    if subset_frequencies not in SUBSET_SCORES:
        raise UserError(f"The frequencies are {subset_frequencies!r}; allowed: {', '.join(SUBSET_SCORES)}.")
    tokenizer = tokenizer or default_tokenizer()
    with ExitStack() as stack:
        if "meteor" in metrics and meteor is None:
            # Started first: it reads its tables while the others are computed.
            meteor = stack.enter_context(MeteorProcess())
        words, tokenized = tokenize_together([predictions], references, tokenizer)
        return score_tokenized(words[0], tokenized, metrics, subsets, meteor, subset_frequencies=subset_frequencies)


def score_tokenized(
    words: Mapping[str, str],
    references: TokenizedReferences,
    metrics: Sequence[str] = METRICS,
    subsets: Mapping[str, Sequence[str]] | None = None,
    meteor: MeteorProcess | None = None,
    *,
    subset_frequencies: str = "split",
) -> Scores:
    """Score tokenized captions; see :func:`score_captions`.

    Args:
        words: clip → caption, for all clips of the references or some. Clips without a caption are in no score, and not
            among the documents of CIDEr.
        references: shared by any number of systems.
        metrics: some of :data:`ALL_METRICS`; METEOR only with `meteor`.
        subsets: name → clips to score on their own as well.
        meteor: a running METEOR, left open.
        subset_frequencies: `split` or `own`.

    Raises:
        UserError: there is no caption, or one of an unknown clip; references have no words; or a name is unknown.
    """
    of_clips = {clip_id: texts for clip_id, texts in references.words.items() if clip_id in words}
    _check(words, of_clips, metrics)
    empty = [clip_id for clip_id, texts in of_clips.items() if not any(texts)]
    if empty:
        raise UserError(f"{len(empty)} clips have no reference with a word in it: {first_ten(empty)}.")
    # In the order of the references.
    words = {clip_id: words[clip_id] for clip_id in of_clips}
    scored = _run(words, of_clips, references, metrics, meteor)
    names = [name for name in ALL_METRICS if name in scored.metrics]
    rows = zip(*(scored.metrics[name].per_clip for name in names), strict=True) if names else [()] * len(words)
    indices = {clip_id: index for index, clip_id in enumerate(words)}
    of_subsets = {
        subset: _subset([indices[clip_id] for clip_id in members], scored)
        for subset, members in (subsets or {}).items()
    }
    if subset_frequencies == "own":
        for subset, members in (subsets or {}).items():
            part = TokenizedReferences({clip_id: of_clips[clip_id] for clip_id in members}, references.tokenizer)
            of_subsets[subset] |= _as_if_all({clip_id: words[clip_id] for clip_id in members}, part, metrics, meteor)
    return Scores(
        corpus={name: scored.metrics[name].corpus for name in names},
        per_clip={clip_id: dict(zip(names, row, strict=True)) for clip_id, row in zip(words, rows, strict=True)},
        tokenizer=references.tokenizer,
        skipped=scored.skipped,
        subsets=of_subsets,
        remarks=[*references.remarks, *(cider_remarks(of_clips) if "cider" in metrics else [])],
    )


def _check(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], metrics: Sequence[str]) -> None:
    unknown_metrics = [name for name in metrics if name not in ALL_METRICS]
    if unknown_metrics:
        raise UserError(f"Unknown metrics: {', '.join(unknown_metrics)}; allowed: {', '.join(ALL_METRICS)}.")
    if not references:
        raise UserError("There is nothing to score: the references hold no clip.")
    problems = []
    if missing := [clip_id for clip_id in references if clip_id not in predictions]:
        problems.append(f"{len(missing)} of {len(references)} clips have no caption: {first_ten(missing)}")
    if unknown := [clip_id for clip_id in predictions if clip_id not in references]:
        problems.append(
            f"{len(unknown)} of {len(predictions)} captions are for unknown clips: {first_ten(unknown)}"
            f"{look_alikes(missing, unknown)}"
        )
    if problems:
        problems.append("there must be exactly one caption for every clip of the references")
        raise UserError("The captions do not match the references: " + "; ".join(problems) + ".")


def tokenize_together(
    captions: Sequence[Mapping[str, str]], references: Mapping[str, Sequence[str]], tokenizer: str
) -> tuple[list[dict[str, str]], TokenizedReferences]:
    """Tokenize the captions of several systems and their references in one pass.

    Returns:
        clip → caption of each system, and the references, with words separated by single spaces.

    Raises:
        UserError: the tokenizer is unknown, or is `ptb` and cannot run.
    """
    flat = [caption for of_system in captions for caption in of_system.values()]
    flat += [reference for group in references.values() for reference in group]
    lines = iter(tokenize_lines(flat, tokenizer))
    words = [{clip_id: next(lines) for clip_id in of_system} for of_system in captions]
    of_references = {clip_id: [next(lines) for _ in group] for clip_id, group in references.items()}
    return words, TokenizedReferences(of_references, tokenizer, script_remarks(references, tokenizer))


def _run(
    words: Mapping[str, str],
    of_clips: Mapping[str, Sequence[str]],
    references: TokenizedReferences,
    metrics: Sequence[str],
    meteor: MeteorProcess | None,
) -> _Scored:
    """Compute metrics of the captions of some clips, each with its references."""
    found: dict[str, _Score] = {}
    skipped: dict[str, str] = {}
    counts: list[dict[str, Any]] = []
    if any(name.startswith("bleu") for name in metrics):
        counts = _count_for_bleu(words, of_clips)
        found |= {name: score for name, score in _bleu(counts).items() if name in metrics}
    if "rouge_l" in metrics:
        found["rouge_l"] = _rouge_l(words, of_clips)
    if "cider" in metrics:
        per_clip = references.cider(words)
        found["cider"] = _Score(float(np.mean(per_clip)), per_clip.tolist())
    if "meteor" in metrics and meteor is not None:
        result = meteor.score(*_numbered(words, of_clips))
        if result is None:
            skipped["meteor"] = meteor.failure or "unknown"
        else:
            found["meteor"] = _Score(*result)
    if "spice" in metrics:
        outcome = spice(*_numbered(words, of_clips))
        if isinstance(outcome, str):
            skipped["spice"] = outcome
        else:
            found["spice"] = _Score(*outcome)
    return _Scored(found, skipped, counts)


def _numbered(words: Mapping[str, str], of_clips: Mapping[str, Sequence[str]]) -> tuple[Texts, Texts]:
    """Return captions and references in lists by clip index, as pycocoevalcap takes them."""
    hypotheses = {number: [caption] for number, caption in enumerate(words.values())}
    return hypotheses, {number: list(texts) for number, texts in enumerate(of_clips.values())}


def _subset(members: list[int], scored: _Scored) -> dict[str, float]:
    if not members:
        return {}
    bleu = _bleu([scored.bleu_counts[index] for index in members]) if scored.bleu_counts else {}
    return {
        name: bleu[name].corpus if name in bleu else sum(score.per_clip[i] for i in members) / len(members)
        for name in ALL_METRICS
        if (score := scored.metrics.get(name)) is not None
    }


def _as_if_all(
    words: Mapping[str, str], references: TokenizedReferences, metrics: Sequence[str], meteor: MeteorProcess | None
) -> dict[str, float]:
    """Compute the metrics of a subset that depend on what else is scored: CIDEr, and METEOR, which sums counts."""
    if not words:
        return {}
    depending = [name for name in metrics if name in ("cider", "meteor")]
    found = _run(words, references.words, references, depending, meteor).metrics
    return {name: score.corpus for name, score in found.items()}


def _count_for_bleu(words: Mapping[str, str], of_clips: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Count clip by clip, as pycocoevalcap does, without keeping the n-grams of references (20 kB a clip)."""
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    return [cook_test(words[clip_id], cook_refs(texts)) for clip_id, texts in of_clips.items()]


def _bleu(counts: list[dict[str, Any]]) -> dict[str, _Score]:
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    scorer.ctest = counts
    corpus, per_clip = scorer.compute_score(option="closest")
    return {f"bleu_{n + 1}": _Score(float(corpus[n]), [float(score) for score in per_clip[n]]) for n in range(4)}


def _rouge_l(words: Mapping[str, str], of_clips: Mapping[str, Sequence[str]]) -> _Score:
    from pycocoevalcap.rouge.rouge import Rouge

    scorer = Rouge()
    # The scorer reads an empty text as one empty word, which matches that of another empty text.
    scores = [
        float(scorer.calc_score([caption], of_clips[clip_id])) if caption else 0.0 for clip_id, caption in words.items()
    ]
    return _Score(sum(scores) / len(scores), scores)
