"""The PTB tokenizer of Stanford CoreNLP, with the options and the punctuation list of pycocoevalcap.

Modifications to pycocoevalcap's wrapper: captions go through a pipe, and not through a file in the installed package,
whose path must be writable and without spaces; and as many lines must come back as went in. pycocoevalcap pairs
captions and lines by position, so that a line separator inside a caption shifts every later caption to another clip.
"""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

from evlvideo.errors import UserError
from evlvideo.metrics.java import NO_JAVA, SAME_EVERYWHERE, find_java
from evlvideo.metrics.tokenizers.light import PUNCTUATION

_JAR = "stanford-corenlp-3.4.1.jar"


def ptb_tokenize(captions: list[str]) -> list[str]:
    """Return the words of captions, lower-case, separated by single spaces.

    Each caption is on one line; see :func:`evlvideo.metrics.tokenizers.tokenize.clean`.

    Raises:
        UserError: there is no Java, or the program fails.
    """
    if not captions:
        return []
    java = find_java()
    if java is None:
        raise UserError(f"The tokenizer 'ptb' cannot run: {NO_JAVA}, or use the tokenizer 'python'.")
    lines = _run_ptb(java, captions)
    if len(lines) != len(captions):
        raise RuntimeError(f"The PTB tokenizer gave {len(lines)} lines for {len(captions)} captions.")
    return [" ".join(word for word in line.strip().split(" ") if word and word not in PUNCTUATION) for line in lines]


def _run_ptb(java: Path, captions: list[str]) -> list[str]:
    program = ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    command = [str(java), *SAME_EVERYWHERE, "-cp", str(_jar()), *program]
    try:
        done = subprocess.run(
            command,
            input="\n".join(captions).encode(),
            capture_output=True,
            timeout=120 + len(captions) / 1000,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"The PTB tokenizer did not finish: {error}. The tokenizer 'python' needs no Java.") from error
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip() or f"status {done.returncode}"
        raise UserError(f"The PTB tokenizer failed: {reason}. The tokenizer 'python' needs no Java.")
    return re.split(r"\r?\n", done.stdout.decode("utf-8"))


def _jar() -> Path:
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("The tokenizer 'ptb' needs pycocoevalcap; `pip install pycocoevalcap`.")
    return Path(spec.submodule_search_locations[0]) / "tokenizer" / _JAR
