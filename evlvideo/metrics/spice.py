"""SPICE by pycocoevalcap's Java program, if its models are installed.

Source: Anderson et al., ECCV 2016. It parses with models of Stanford CoreNLP, 400 MB, which are not in the package and
are never downloaded here.

Modifications to pycocoevalcap's class: nothing is downloaded or written into the installed package, there is a time
limit, and a score that is not a number becomes 0.
"""

import json
import math
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from evlvideo.metrics.java import NO_JAVA, SAME_EVERYWHERE, find_java

Texts = Mapping[int, list[str]]
"""Clip index → tokenized texts."""

_JAR = "spice-1.0.jar"
_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
NO_MODELS = "its models are not there; `python -m pycocoevalcap.spice.get_stanford_models` downloads them (400 MB)"
"""Reason for skipping SPICE, as users read it."""


def spice(
    hypotheses: Texts, references: Texts, *, directory: Path | None = None, limit_seconds: float = 600
) -> tuple[float, list[float]] | str:
    """Score tokenized captions.

    Args:
        hypotheses: one caption a clip.
        references: references of each clip.
        directory: holds the program and, in `lib`, its models. Defaults to pycocoevalcap's.
        limit_seconds: time limit; a second is added for each clip.

    Returns:
        the mean over the clips and each clip's score, in the order of `hypotheses`; or the reason that there is none.
    """
    directory = directory or _package_directory()
    java = find_java()
    if java is None:
        return NO_JAVA
    if not all((directory / "lib" / name).is_file() for name in _MODELS):
        return NO_MODELS
    asked = [{"image_id": clip, "test": texts[0], "refs": references[clip]} for clip, texts in hypotheses.items()]
    with tempfile.TemporaryDirectory(prefix="evlvideo-spice-") as temporary:
        source, result = Path(temporary) / "captions.json", Path(temporary) / "scores.json"
        source.write_text(json.dumps(asked), encoding="utf-8")
        command = [java, "-Xmx8G", *SAME_EVERYWHERE, "-jar", _JAR, source, "-out", result, "-subset", "-silent"]
        limit_seconds += len(asked)
        try:
            done = subprocess.run(
                list(map(str, command)), cwd=directory, capture_output=True, timeout=limit_seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return f"its Java program took more than {limit_seconds:.0f} seconds"
        except OSError as error:
            return f"its Java program could not be started: {error}"
        if done.returncode != 0 or not result.is_file():
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            return f"its Java program failed: {said[0] if said else f'status {done.returncode}'}"
        return _read(result, list(hypotheses))


def _read(result: Path, clips: list[int]) -> tuple[float, list[float]] | str:
    try:
        found = {item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(result.read_text("utf-8"))}
        values = [found[clip] for clip in clips]
    except (ValueError, KeyError, TypeError) as error:
        return f"its Java program did not write a list of scores: {error!r}"
    scores = [float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0 for value in values]
    return sum(scores) / len(scores), scores


def _package_directory() -> Path:
    spec = find_spec("pycocoevalcap.spice")
    assert spec is not None and spec.submodule_search_locations, "pycocoevalcap is a dependency"
    return Path(spec.submodule_search_locations[0])
