"""Captions to words, the way caption metrics count them.

`ptb` is the PTB tokeniser of Stanford CoreNLP with the options and the punctuation list of pycocoevalcap, which
published caption scores use. `python` follows its conventions without Java
(:mod:`evlvideo.metrics.tokenizers.light`).

Differences from pycocoevalcap's wrapper: captions are cleaned first, the temporary file is not written into the
installed package, and as many lines must come back as went in. pycocoevalcap pairs captions and lines by position, so
that one carriage return or line separator inside a caption shifts every later caption to another clip.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from evlvideo.errors import UserError
from evlvideo.metrics.java import NO_JAVA, find_java
from evlvideo.metrics.tokenizers.light import PUNCTUATION, light_tokenize

TOKENIZERS = ("ptb", "python")
"""Names of the tokenisers."""

_JAR = "stanford-corenlp-3.4.1.jar"
# White space of every kind, control characters, and halves of surrogate pairs, which no encoding can write.
_NOT_TEXT = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def clean(caption: str) -> str:
    """Return the caption on one line: white space and control characters become single spaces, none at the ends."""
    return _NOT_TEXT.sub(" ", caption).strip()


def tokenize(captions: Mapping[str, Sequence[str]], tokenizer: str = "ptb") -> dict[str, list[str]]:
    """Tokenise the captions of every clip in one pass.

    Returns:
        The same clips, in the same order, with words separated by single spaces; a caption without words is empty.

    Raises:
        UserError: the tokeniser is unknown, or is `ptb` and cannot run.
    """
    lines = iter(tokenize_lines([caption for group in captions.values() for caption in group], tokenizer))
    return {clip_id: [next(lines) for _ in group] for clip_id, group in captions.items()}


def tokenize_lines(captions: Sequence[str], tokenizer: str = "ptb") -> list[str]:
    """Tokenise captions in one pass: one line of words for each caption, in order.

    Raises:
        UserError: the tokeniser is unknown, or is `ptb` and cannot run.
    """
    cleaned = [clean(caption) for caption in captions]
    if tokenizer == "python":
        return [light_tokenize(caption) for caption in cleaned]
    if tokenizer == "ptb":
        return _ptb(cleaned)
    raise UserError(f"The tokenizer {tokenizer!r} is unknown; allowed: {', '.join(TOKENIZERS)}.")


def default_tokenizer() -> str:
    """Return `ptb` where Java runs, else `python`."""
    return "python" if find_java() is None else "ptb"


def _ptb(captions: list[str]) -> list[str]:
    if not captions:
        return []
    java = find_java()
    if java is None:
        raise UserError(f"The tokenizer 'ptb' cannot run: {NO_JAVA}, or use the tokenizer 'python'.")
    lines = _run_ptb(java, captions)
    if len(lines) != len(captions):
        raise RuntimeError(f"The PTB tokeniser gave {len(lines)} lines for {len(captions)} captions.")
    return [" ".join(word for word in line.strip().split(" ") if word and word not in PUNCTUATION) for line in lines]


def _run_ptb(java: Path, captions: list[str]) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="evlvideo-ptb-") as directory:
        source = Path(directory) / "captions.txt"
        source.write_text("\n".join(captions), encoding="utf-8", newline="\n")
        command = [java, "-cp", _jar(), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
        try:
            done = subprocess.run(
                [*map(str, command), str(source)], capture_output=True, timeout=120 + len(captions) / 1000, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(
                f"The PTB tokeniser did not finish: {error}. The tokenizer 'python' needs no Java."
            ) from error
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip() or f"status {done.returncode}"
        raise UserError(f"The PTB tokeniser failed: {reason}. The tokenizer 'python' needs no Java.")
    return re.split(r"\r?\n", done.stdout.decode("utf-8"))


def _jar() -> Path:
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("The tokenizer 'ptb' needs pycocoevalcap; `pip install pycocoevalcap`.")
    return Path(spec.submodule_search_locations[0]) / "tokenizer" / _JAR
