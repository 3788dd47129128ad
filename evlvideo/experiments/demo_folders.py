"""The folders and configs of demos: an earlier demo makes room for a later one, and nothing else does."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError

_MARK = ".evlvideo-demo"
"""Empty file in each folder that a demo made."""
_PACKAGE = Path(__file__).parents[1]


def configs_directory() -> Path:
    """Return the directory of the configs: in the package of a wheel, beside it in a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def demo_config(name: str, out: Path, seed: int) -> RunConfig:
    """Load a config of `configs/mini` for a run in a directory, wherever the configs are.

    Args:
        name: the config's path under `configs/mini`, without its suffix.
        out: directory of the run.
        seed: its seed.
    """
    configs = configs_directory()
    config = load_config(configs / "mini" / f"{name}.yaml")
    architecture = None if config.architecture is None else str(configs.parent / config.architecture)
    return replace(config, output_dir=str(out), seed=seed, architecture=architecture)


def make_room(out: Path, folders: Sequence[str]) -> None:
    """Remove an earlier demo, and nothing else, and make and mark the folders of this one.

    Raises:
        UserError: there is something without our mark, or the folders cannot be made.
    """
    found = sorted(out.iterdir()) if out.is_dir() else [out] if os.path.lexists(out) else []
    others = [path.name for path in found if not _is_ours(path)]
    if others:
        raise UserError(
            f"{out} holds {', '.join(others[:5])}, which no demo is known to have made; remove it, or name another "
            "directory with --out."
        )
    try:
        for path in found:
            shutil.rmtree(path)
        for name in folders:
            (out / name).mkdir(parents=True)
            (out / name / _MARK).touch()
    except OSError as error:
        raise UserError(f"{out} cannot be written to: {error.strerror or error}; name another --out.") from error


def _is_ours(folder: Path) -> bool:
    return not folder.is_symlink() and (folder / _MARK).is_file()
