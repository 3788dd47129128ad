"""Datasets that are rendered on first use, and places in them that are the same on every machine."""

from collections.abc import Callable
from pathlib import Path

from evlvideo.errors import UserError

SCHEME = "rendered:"
"""How the name of a place in a rendered dataset begins: `rendered:mini_images/shards`."""


def _mini() -> Path:
    from evlvideo.mini.build import build_mini

    return build_mini()


def _mini_images() -> Path:
    from evlvideo.mini.images.build import build_mini_images

    return build_mini_images()


RENDERED: dict[str, Callable[[], Path]] = {"mini": _mini, "mini_images": _mini_images}
"""Names of datasets → what renders them into the cache, if they are not there, and returns their directory."""


def root_of(dataset: str, root: Path | None) -> Path:
    """Return the directory of a dataset of captions or questions. Render one of :data:`RENDERED` on first use.

    Args:
        dataset: its name.
        root: a directory, or a place in a rendered dataset. If None, the dataset must be a rendered one.

    Raises:
        UserError: the dataset needs a root, or the place is in no rendered dataset or leads out of it.
    """
    if root is not None:
        return resolved(root)
    if dataset not in RENDERED:
        raise UserError(
            f"The dataset {dataset!r} has no root; set data.root to the directory that holds it, or name that with "
            "--root."
        )
    return RENDERED[dataset]()


def resolved(place: Path) -> Path:
    """Return a directory as it is, and for a place in a rendered dataset its directory in the cache.

    Raises:
        UserError: there is no such dataset, or the place leads out of it.
    """
    if not str(place).startswith(SCHEME):
        return place
    dataset, *folders = str(place).removeprefix(SCHEME).split("/")
    if dataset not in RENDERED or ".." in folders:
        raise UserError(
            f"The place is {str(place)!r}; allowed: {', '.join(SCHEME + name for name in RENDERED)}, and folders in "
            f"them, such as {SCHEME}mini_images/shards."
        )
    return RENDERED[dataset]().joinpath(*folders)
