"""Store a CIDEr-D scorer in a file, so that a training split is counted once.

The file is safetensors: the scorer's arrays, words and ids, with what they were counted from in its metadata. A file
counted from anything else is refused.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from evlvideo.errors import UserError
from evlvideo.files import replacing
from evlvideo.metrics.cider import CiderD
from evlvideo.metrics.ngrams.reference_counts import ReferenceCounts
from evlvideo.metrics.ngrams.tables import NgramTables
from evlvideo.metrics.references_digest import references_digest
from evlvideo.metrics.tokenizers import characters
from evlvideo.metrics.tokenizers.light import RULES_SHA256
from evlvideo.metrics.tokenizers.tokenize import tokenize

FORMAT = "evlvideo-scorer-1"
"""Written into every file; other formats are refused."""


@dataclass(frozen=True)
class ScorerKey:
    """What a scorer was counted from, as text."""

    format: str
    """:data:`FORMAT`."""
    split: str
    """Name of the split, such as `msrvtt:train`."""
    references: str
    """Digest of the ids and captions that hypotheses are scored against."""
    documents: str
    """Digest of the ids and captions that frequencies are counted over."""
    tokenizer: str
    """The tokenizer and the digest of its rules."""
    end_of_text: str
    """Whether EOS counts as a word, `true` or `false`."""


def scorer_key(
    split: str,
    references: Mapping[str, Sequence[str]],
    documents: Mapping[str, Sequence[str]] | None = None,
    *,
    end_of_text: bool,
    tokenizer: str = "python",
) -> ScorerKey:
    """Return the key of the scorer of these captions, as people wrote them."""
    of_references = references_digest(references)
    return ScorerKey(
        format=FORMAT,
        split=split,
        references=of_references,
        documents=of_references if documents is None else references_digest(documents),
        tokenizer=f"{tokenizer} {characters.RULES_SHA256 if tokenizer == 'characters' else RULES_SHA256}",
        end_of_text=str(end_of_text).lower(),
    )


def build_scorer(
    references: Mapping[str, Sequence[str]],
    documents: Mapping[str, Sequence[str]] | None = None,
    *,
    end_of_text: bool,
    tokenizer: str = "python",
) -> CiderD:
    """Tokenize captions, and count them.

    Args:
        references: the captions of every clip that can be scored, as people wrote them.
        documents: the captions that frequencies are counted over. Defaults to `references`.
        end_of_text: count EOS as a word.
        tokenizer: `python` or `characters`, which need no Java.
    """
    tokenized = None if documents is None else tokenize(documents, tokenizer).values()
    return CiderD(tokenize(references, tokenizer), tokenized, end_of_text=end_of_text)


def stored_scorer(
    path: Path,
    split: str,
    references: Mapping[str, Sequence[str]],
    documents: Mapping[str, Sequence[str]] | None = None,
    *,
    end_of_text: bool,
    tokenizer: str = "python",
    replace: bool = False,
) -> CiderD:
    """Load the scorer of some captions; if there is no file yet, build and write it.

    Args:
        path: the file.
        split: name of the split in the file.
        references: as for :func:`build_scorer`.
        documents: as for :func:`build_scorer`.
        end_of_text: as for :func:`build_scorer`.
        tokenizer: as for :func:`build_scorer`.
        replace: overwrite a file that was counted from something else, rather than refuse it.

    Raises:
        UserError: the file is not a scorer, was counted from something else, or cannot be written.
    """
    key = scorer_key(split, references, documents, end_of_text=end_of_text, tokenizer=tokenizer)
    if path.exists():
        try:
            return load_scorer(path, key)
        except UserError:
            if not replace:
                raise
    scorer = build_scorer(references, documents, end_of_text=end_of_text, tokenizer=tokenizer)
    save_scorer(path, scorer, key)
    return scorer


def save_scorer(path: Path, scorer: CiderD, key: ScorerKey) -> None:
    """Write a scorer, whole or not at all."""
    from safetensors.numpy import save_file

    arrays = {
        "words": _packed(scorer.tables.words),
        "clip_ids": _packed(scorer.clip_ids),
        "frequencies": scorer.frequencies,
        "documents": np.array([scorer.documents]),
        **{f"ngrams_{n}": keys for n, keys in enumerate(scorer.tables.keys, start=2)},
        **{f"references.{name}": array for name, array in scorer.references._asdict().items()},
    }
    with replacing(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary, asdict(key))


def load_scorer(path: Path, key: ScorerKey) -> CiderD:
    """Read a scorer.

    Raises:
        UserError: the file is missing, is not a scorer, or was counted from something else; all differences are listed.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            found = file.metadata() or {}
            _check_key(path, found, key)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 – it is not a mapping
        return _scorer_of(arrays, end_of_text=key.end_of_text == "true")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is not a stored scorer: {error}. Remove it to have it built again.") from error


def _check_key(path: Path, found: Mapping[str, str], key: ScorerKey) -> None:
    differences = [
        f"{field.name.replace('_', ' ')} {_shown(found.get(field.name))} rather than {_shown(wanted)}"
        for field in fields(key)
        if found.get(field.name) != (wanted := getattr(key, field.name))
    ]
    if differences:
        raise UserError(
            f"{path} is the scorer of something else: {'; '.join(differences)}. Name another file, or remove this one."
        )


def _shown(value: str | None) -> str:
    return "nothing" if value is None else " ".join(part[:12] if len(part) == 64 else part for part in value.split())


def _scorer_of(arrays: Mapping[str, np.ndarray], *, end_of_text: bool) -> CiderD:
    tables = NgramTables(_unpacked(arrays["words"]), [arrays[f"ngrams_{n}"] for n in (2, 3, 4)])
    references = ReferenceCounts(*(arrays[f"references.{name}"] for name in ReferenceCounts._fields))
    return CiderD.from_parts(
        _unpacked(arrays["clip_ids"]),
        tables,
        references,
        arrays["frequencies"],
        int(arrays["documents"][0]),
        end_of_text=end_of_text,
    )


def _packed(texts: Sequence[str]) -> np.ndarray:
    return np.frombuffer(json.dumps(list(texts)).encode(), np.uint8)


def _unpacked(packed: np.ndarray) -> list[str]:
    texts: Any = json.loads(packed.tobytes())
    return [str(text) for text in texts]
