"""Settings in which the runs of a table differ beside their models: data and budget should be the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evlvideo.comparison.rows.seeds import SeedGroup
from evlvideo.config.run import RunConfig
from evlvideo.config.settings import flat_settings

_NO_DIFFERENCE = ("model.", "seed", "output_dir", "data.root", "data.video_root", "data.num_workers",
                  "training.log_steps", "training.keep_checkpoints", "training.arguments.report_to",
                  "training.arguments.dataloader_",
                  "generation.batch_size", "answering.batch_size")  # fmt: skip
"""Prefixes of keys that are the object of the comparison, or change no number."""
_LISTED = 6


def training_difference_remarks(groups: Sequence[SeedGroup]) -> list[str]:
    """Say in which settings the runs of one stage differ, apart from their models."""
    stages: dict[str, dict[str, RunConfig]] = {}
    for group in groups:
        config = group.representative.config
        if config is not None and group.representative.regime == "trained":
            stages.setdefault(config.stage, {})[group.name] = config
    return [remark for configs in stages.values() for remark in _remarks(configs)]


def differing_settings(configs: Mapping[str, RunConfig]) -> dict[str, dict[str, list[str]]]:
    """Find settings outside the `model` section in which runs differ.

    Args:
        configs: name of the run → config.

    Returns:
        key → value, as JSON → names of the runs with it.
    """
    differing = {}
    settings = {name: flat_settings(asdict(config)) for name, config in configs.items()}
    for key in dict.fromkeys(key for of_run in settings.values() for key in of_run):
        if key.startswith(_NO_DIFFERENCE):
            continue
        sides: dict[str, list[str]] = {}
        for name, of_run in settings.items():
            sides.setdefault(_spell(of_run.get(key)), []).append(name)
        if len(sides) > 1:
            differing[key] = sides
    return differing


def _remarks(configs: Mapping[str, RunConfig]) -> list[str]:
    differing = differing_settings(configs)
    if not differing:
        return []
    listed = [
        f"{key} " + ", ".join(f"{value} ({', '.join(names)})" for value, names in sides.items())
        for key, sides in list(differing.items())[:_LISTED]
    ]
    more = ", ".join(list(differing)[_LISTED:])
    return [f"Not trained alike: {'; '.join([*listed, *([f'and in {more}'] if more else [])])}."]


def _spell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
