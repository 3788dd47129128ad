"""What every test gets: random state as it was, no network, and a GPU where it needs one and one was asked for.

Most tests compare bit for bit, or with what a CPU computed, and would fail on the GPU that they find. Those that need
one are run by themselves: `EVLVIDEO_REQUIRE_CUDA=1 make test ARGS="-m needs_cuda"`.
"""

import logging
import os
import random
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from toy_run import Toy

if not os.environ.get("EVLVIDEO_REQUIRE_CUDA"):
    # Before anything asks for it, and for the processes that tests start too.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
# A name that is no directory is looked up on the hub, again and again where there is no network.
os.environ["HF_HUB_OFFLINE"] = "1"
if hasattr(signal, "SIGHUP"):
    # Under `nohup` it is ignored, here and in what tests start.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# Products in float32 are what a CPU computes; convolutions would be rounded to ten bits before they are multiplied.
torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(autouse=True)
def restore_random_state() -> Iterator[None]:
    """Put the generators of Python, NumPy and torch back, so that no test seeds the next one."""
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    yield
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    torch.set_rng_state(torch_state)
    if cuda_states:
        torch.cuda.set_rng_state_all(cuda_states)


@pytest.fixture(autouse=True)
def restore_our_log() -> Iterator[None]:
    """Put our log back: a command that a test or a shared fixture runs sets its level and adds a handler."""
    ours = logging.getLogger("evlvideo")
    before = ours.handlers[:]
    ours.setLevel(logging.NOTSET)
    yield
    ours.handlers[:] = before


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVLVIDEO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def toy_files(tmp_path_factory: pytest.TempPathFactory) -> "Toy":
    """The toy checkpoint and dataset, written once."""
    from toy_run import make_toy

    return make_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def toy(toy_files: "Toy") -> Iterator["Toy"]:
    """The toy, while the mini dataset has its number of clips."""
    from toy_run import SPLITS

    from evlvideo.mini import build

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "SPLITS", SPLITS)
        yield toy_files


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Java."""
    from evlvideo.metrics import java

    monkeypatch.setattr(java, "_java_on_path", lambda: None)
    monkeypatch.setattr(java, "_java_of_package", lambda: None)


@pytest.fixture
def restore_logging() -> Iterator[None]:
    """Put back how much is said, which a command that runs in the test's own process changes."""
    from transformers.utils import logging as transformers_logging

    level, verbosity = logging.getLogger("evlvideo").level, transformers_logging.get_verbosity()
    yield
    logging.getLogger("evlvideo").setLevel(level)
    transformers_logging.set_verbosity(verbosity)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_cuda") is None or torch.cuda.is_available():
        return
    if os.environ.get("EVLVIDEO_REQUIRE_CUDA"):
        pytest.fail("EVLVIDEO_REQUIRE_CUDA is set, and torch finds no CUDA device")
    pytest.skip("needs a CUDA device")
