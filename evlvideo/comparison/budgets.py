"""Whether the rows of a table were trained alike: models compare only on the same data and the same budget."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evlvideo.comparison.seeds import SeedPool
from evlvideo.config import RunConfig, flat_settings
from evlvideo.run_directory import CONFIG_NAME, run_config

_COMPARED = ("model.", "output_dir", "seed", "training.log_steps", "training.tensorboard", "training.keep_checkpoints")
"""What is compared, or changes no number."""
_MACHINE = ("data.root", "data.video_root", "data.num_workers", "generation.batch_size")
_LISTED = 6


def budget_remarks(rows: Sequence[SeedPool]) -> list[str]:
    """Sentences on what rows of one stage were not trained alike in, beside what their models are."""
    stages: dict[str, dict[str, RunConfig]] = {}
    for row in rows:
        directory = row.shown.directory
        if row.shown.regime == "trained" and directory is not None and (directory / CONFIG_NAME).is_file():
            config = run_config(directory)
            stages.setdefault(config.stage, {})[row.name] = config
    return [remark for configs in stages.values() for remark in _remarks(configs)]


def differing_settings(configs: Mapping[str, RunConfig]) -> dict[str, dict[str, list[str]]]:
    """Settings outside the `model` section that runs differ in.

    Args:
        configs: by the name of the run.

    Returns:
        key → value, as JSON → names of the runs that have it.
    """
    differing = {}
    settings = {name: flat_settings(asdict(config)) for name, config in configs.items()}
    for key in dict.fromkeys(key for of_run in settings.values() for key in of_run):
        if key.startswith(_COMPARED) or key in _MACHINE:
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
