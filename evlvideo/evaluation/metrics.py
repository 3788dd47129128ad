"""BLEU-1…4, METEOR, ROUGE-L and CIDEr, by pycocoevalcap's scorers, on one tokenisation of everything.

The scorers are called one by one: pycocoevalcap's own evaluation class also starts SPICE, whose models are downloaded.

Answers that this module defines where pycocoevalcap has none or breaks:

- A caption without words scores 0 in every metric, and its references still count in the corpus scores.
- Where METEOR or SPICE fails or there is no Java, it is in `skipped` with the reason, and the other metrics stand.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from evlvideo.errors import UserError
from evlvideo.evaluation.meteor import MeteorProcess, Texts
from evlvideo.evaluation.spice import spice
from evlvideo.evaluation.tokenization import default_tokenizer, tokenize_lines

METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider")
"""Keys of the metrics, in the order in which they are computed. As fractions: 0.74 is what papers print as 74.0."""
ALL_METRICS = (*METRICS, "spice")
"""SPICE too, which needs models of its own and is computed where it is asked for."""

_Scored = dict[str, tuple[float, list[float]]]


@dataclass(frozen=True)
class Scores:
    """Scores of one system on one set of clips."""

    corpus: dict[str, float]
    """Metric → score over all clips."""
    per_clip: dict[str, dict[str, float]]
    """Clip → metric → score of its caption."""
    tokenizer: str
    """The tokeniser that was used."""
    skipped: dict[str, str]
    """Metric → why it was not computed."""
    subsets: dict[str, dict[str, float]]
    """Subset → metric → score over its clips; see :func:`score_captions`."""


def score_captions(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    metrics: Sequence[str] = METRICS,
    tokenizer: str | None = None,
    subsets: Mapping[str, Sequence[str]] | None = None,
    meteor: MeteorProcess | None = None,
) -> Scores:
    """Score one caption for each clip against the references of the clip.

    Args:
        predictions: clip → caption, for exactly the clips of `references`.
        references: clip → what people wrote, at least one with a word in it.
        metrics: which of :data:`ALL_METRICS`.
        tokenizer: `ptb` or `python`; `ptb` where Java runs, else `python`, where nothing is given.
        subsets: name → clips to score on their own as well. BLEU is computed over the captions of the subset. METEOR,
            ROUGE-L and CIDEr are means of the clips' scores, so that CIDEr keeps the document frequencies of the whole.
        meteor: a running METEOR, left open; where nothing is given, one is started and ended.

    Raises:
        UserError: clips are missing or unknown (they are listed), references are empty, a name is unknown, or the
            tokeniser cannot run.
    """
    _check(predictions, references, metrics)
    tokenizer = tokenizer or default_tokenizer()
    with ExitStack() as stack:
        if "meteor" in metrics and meteor is None:
            # Started first: it reads its tables while the others are computed.
            meteor = stack.enter_context(MeteorProcess())
        words, reference_words = tokenize_together([predictions], references, tokenizer)
        return score_tokenized(words[0], reference_words, tokenizer, metrics, subsets, meteor)


def score_tokenized(
    words: Mapping[str, str],
    reference_words: Mapping[str, Sequence[str]],
    tokenizer: str,
    metrics: Sequence[str] = METRICS,
    subsets: Mapping[str, Sequence[str]] | None = None,
    meteor: MeteorProcess | None = None,
) -> Scores:
    """Score captions that :func:`tokenize_together` has made words of; see :func:`score_captions`.

    Args:
        words: clip → caption, for exactly the clips of the references.
        reference_words: clip → references.
        tokenizer: what made the words, for the record.
        metrics: which of :data:`ALL_METRICS`; METEOR only where `meteor` is given.
        subsets: name → clips to score on their own as well.
        meteor: a running METEOR, left open.

    Raises:
        UserError: clips are missing or unknown, references have no words, or a name is unknown.
    """
    _check(words, reference_words, metrics)
    empty = [clip_id for clip_id, group in reference_words.items() if not any(group)]
    if empty:
        raise UserError(f"{len(empty)} clips have no reference with a word in it: {_first(empty)}.")
    clip_ids = list(reference_words)
    hypotheses = {index: [words[clip_id]] for index, clip_id in enumerate(clip_ids)}
    tokenized = {index: list(group) for index, group in enumerate(reference_words.values())}
    scored, skipped = _run(hypotheses, tokenized, metrics, meteor)
    places = {clip_id: index for index, clip_id in enumerate(clip_ids)}
    names = [name for name in ALL_METRICS if name in scored]
    return Scores(
        corpus={name: scored[name][0] for name in names},
        per_clip={clip_id: {name: scored[name][1][index] for name in names} for index, clip_id in enumerate(clip_ids)},
        tokenizer=tokenizer,
        skipped=skipped,
        subsets={
            subset: _subset([places[clip_id] for clip_id in members], hypotheses, tokenized, scored)
            for subset, members in (subsets or {}).items()
        },
    )


def _check(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], metrics: Sequence[str]) -> None:
    unknown_metrics = [name for name in metrics if name not in ALL_METRICS]
    if unknown_metrics:
        raise UserError(f"Unknown metrics: {', '.join(unknown_metrics)}; allowed: {', '.join(ALL_METRICS)}.")
    if not references:
        raise UserError("There is nothing to score: the references hold no clip.")
    problems = []
    if missing := [clip_id for clip_id in references if clip_id not in predictions]:
        problems.append(f"{len(missing)} of {len(references)} clips have no caption: {_first(missing)}")
    if unknown := [clip_id for clip_id in predictions if clip_id not in references]:
        problems.append(f"{len(unknown)} of {len(predictions)} captions are for unknown clips: {_first(unknown)}")
    if problems:
        problems.append("there must be exactly one caption for every clip of the references")
        raise UserError("The captions do not match the references: " + "; ".join(problems) + ".")


def _first(names: Sequence[str], shown: int = 10) -> str:
    return ", ".join(map(str, names[:shown])) + (", …" if len(names) > shown else "")


def tokenize_together(
    captions: Sequence[Mapping[str, str]], references: Mapping[str, Sequence[str]], tokenizer: str
) -> tuple[list[dict[str, str]], dict[str, list[str]]]:
    """Make words of the captions of several systems and of their references, in one pass.

    Returns:
        clip → caption of each system, and clip → references, with words separated by single spaces.

    Raises:
        UserError: the tokeniser is unknown, or is `ptb` and cannot run.
    """
    flat = [caption for of_system in captions for caption in of_system.values()]
    flat += [reference for group in references.values() for reference in group]
    lines = iter(tokenize_lines(flat, tokenizer))
    words = [{clip_id: next(lines) for clip_id in of_system} for of_system in captions]
    return words, {clip_id: [next(lines) for _ in group] for clip_id, group in references.items()}


def _run(
    hypotheses: Texts, references: Texts, metrics: Sequence[str], meteor: MeteorProcess | None
) -> tuple[_Scored, dict[str, str]]:
    scored: _Scored = {}
    skipped: dict[str, str] = {}
    if any(name.startswith("bleu") for name in metrics):
        scored |= {name: score for name, score in _bleu(hypotheses, references).items() if name in metrics}
    simple: dict[str, Callable[[Texts, Texts], tuple[float, list[float]]]] = {"rouge_l": _rouge_l, "cider": _cider}
    scored |= {name: score(hypotheses, references) for name, score in simple.items() if name in metrics}
    if "meteor" in metrics and meteor is not None:
        result = meteor.score(hypotheses, references)
        if result is None:
            skipped["meteor"] = meteor.failure or "unknown"
        else:
            scored["meteor"] = result
    if "spice" in metrics:
        found = spice(hypotheses, references)
        if isinstance(found, str):
            skipped["spice"] = found
        else:
            scored["spice"] = found
    return scored, skipped


def _subset(members: list[int], hypotheses: Texts, references: Texts, scored: _Scored) -> dict[str, float]:
    if not members:
        return {}
    bleu: _Scored = {}
    if any(name.startswith("bleu") for name in scored):
        bleu = _bleu({i: hypotheses[i] for i in members}, {i: references[i] for i in members})
    return {
        name: bleu[name][0] if name in bleu else sum(scored[name][1][i] for i in members) / len(members)
        for name in ALL_METRICS
        if name in scored
    }


def _bleu(hypotheses: Texts, references: Texts) -> _Scored:
    from pycocoevalcap.bleu.bleu import Bleu

    corpus, per_clip = Bleu(4).compute_score(references, hypotheses, verbose=0)
    return {f"bleu_{n + 1}": (float(corpus[n]), [float(score) for score in per_clip[n]]) for n in range(4)}


def _rouge_l(hypotheses: Texts, references: Texts) -> tuple[float, list[float]]:
    from pycocoevalcap.rouge.rouge import Rouge

    _, per_clip = Rouge().compute_score(references, hypotheses)
    # The scorer reads a text without words as one empty word, which equals that of another such text.
    scores = [float(score) if hypotheses[index][0] else 0.0 for index, score in enumerate(per_clip)]
    return sum(scores) / len(scores), scores


def _cider(hypotheses: Texts, references: Texts) -> tuple[float, list[float]]:
    from pycocoevalcap.cider.cider import Cider

    corpus, per_clip = Cider().compute_score(references, hypotheses)
    return float(corpus), [float(score) for score in per_clip]
