"""The config of an evaluation: a run's own, on its own dataset or on another."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evlvideo.config.data import CAPTIONS, DataConfig
from evlvideo.config.loading import config_of, save_config
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.facts import facts_of
from evlvideo.errors import UserError
from evlvideo.mini.rendered import RENDERED
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.results.run_directory import CONFIG_NAME, run_config

_OF_A_DATASET = ("kind", "root", "video_root", "check_counts", "quarantine", "features", "scoring_tokenizer")
"""Keys under `data` whose values belong to one dataset at one place."""


def evaluation_config(
    checkpoint: str,
    overrides: Sequence[str] = (),
    *,
    dataset: str | None = None,
    root: Path | None = None,
    out: Path | None = None,
) -> RunConfig:
    """Make the config that a checkpoint is evaluated with. Frames and decoding are the run's, unless overridden.

    Args:
        checkpoint: a run; or, with `out`, any checkpoint, which is evaluated with the default config.
        overrides: `key=value` changes to the run's config.
        dataset: another dataset than the run's. Nothing that belongs to the run's own dataset is kept for it: its root,
            the folder of its videos, its features, its list of bad files.
        root: directory of the dataset. Defaults to the run's, for its own dataset.
        out: directory that the result belongs to. Defaults to the run's.

    Raises:
        UserError: there is no checkpoint, a key or the dataset is unknown, a dataset is named twice, another dataset
            has no root, or a checkpoint that is no run has no `out`.
    """
    directory = checkpoint_directory(checkpoint)
    if (directory / CONFIG_NAME).is_file():
        config = run_config(directory, list(overrides))
        if out is not None:
            config = replace(config, init=checkpoint, output_dir=str(out))
    elif out is not None:
        config = replace(config_of(list(overrides)), init=checkpoint, output_dir=str(out))
    else:
        raise UserError(
            f"{checkpoint} holds no {CONFIG_NAME}, so it is a checkpoint but not a run; name a directory for its "
            "result with --out."
        )
    given = {override.partition("=")[0].strip() for override in overrides}
    return replace(config, data=_other_data(config.data, dataset, root, given))


def _other_data(data: DataConfig, dataset: str | None, root: Path | None, given: set[str]) -> DataConfig:
    """Return the data section with another dataset or root, and with the keys that the user set."""
    twice = [
        f"{option} {value} and data.{key}"
        for option, key, value in (("--dataset", "dataset", dataset), ("--root", "root", root))
        if value is not None and f"data.{key}" in given
    ]
    if twice:
        raise UserError(f"Both {' and '.join(twice)} are given; give one of each.")
    if dataset is None and root is None:
        return data
    dataset = dataset or data.dataset
    facts_of(dataset)
    place = None if root is None else str(root)
    if data.kind == CAPTIONS and dataset == data.dataset and place in (None, data.root):
        return data
    if place is None and dataset not in RENDERED and "data.root" not in given:
        raise UserError(f"The dataset {dataset!r} has no root; name the directory that holds it with --root.")
    defaults = DataConfig()
    fresh: dict[str, Any] = {key: getattr(defaults, key) for key in _OF_A_DATASET if f"data.{key}" not in given}
    return replace(data, dataset=dataset, **{**fresh, **({} if place is None else {"root": place})})


def check_out(out: Path, config: RunConfig) -> None:
    """Check, before any work, that a directory holds no evaluations of another checkpoint.

    Raises:
        UserError: it does.
    """
    if (out / CONFIG_NAME).is_file() and (init := run_config(out).init) != config.init:
        raise UserError(f"{out} holds evaluations of {init}, not of {config.init}; name another --out.")


def keep_config(out: Path, config: RunConfig) -> None:
    """Keep the config of a first evaluation in its directory, as that of a run, for `compare` and later evaluations."""
    if not (out / CONFIG_NAME).is_file():
        save_config(replace(config, output_dir=str(out)), out / CONFIG_NAME)
