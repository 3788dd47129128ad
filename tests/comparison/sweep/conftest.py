"""Estimates of the toy's few architectures, made once: each takes a second or two."""

from collections.abc import Iterator

import pytest

from evlvideo.comparison.sweep import plan
from evlvideo.config import RunConfig
from evlvideo.estimate.of_run import estimate_run
from evlvideo.estimate.records import Estimate

_made: dict[str, Estimate] = {}


def remembered(config: RunConfig) -> Estimate:
    """What `estimate_run` gives, from an earlier call where nothing differs that the toy's costs depend on."""
    key = f"{config.model} {config.data.num_frames}"
    if key not in _made:
        _made[key] = estimate_run(config)
    return _made[key]


@pytest.fixture(scope="session", autouse=True)
def estimates() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "estimate_run", remembered)
        yield
