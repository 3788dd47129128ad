"""Run the whole chain in miniature: fine-tune every form, train the best with SCST, evaluate and compare all."""

import logging
import subprocess
import sys
import time
from concurrent.futures import as_completed
from dataclasses import replace
from pathlib import Path

from evlvideo.comparison.compare import Comparison, compare
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.splits import dataset_root
from evlvideo.errors import Interrupted, UserError
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.experiments.demo_folders import demo_config, make_room
from evlvideo.experiments.parallel import parallel_trainings
from evlvideo.files import read_json
from evlvideo.metrics.meteor import MeteorProcess
from evlvideo.processes import usable_cores
from evlvideo.results.run_directory import SUMMARY_NAME

logger = logging.getLogger(__name__)

FINE_TUNED = ("concat", "mean", "in_tower", "in_tower_positions", "merged", "merged_positions")
"""Runs, in the order of the poster's table."""
SCST = "scst"
REPORT, CHECKPOINT = "report", "mini-checkpoint"
MOST_AT_A_TIME = 4
"""Upper bound of parallel trainings; each takes some 1.2 GiB of memory."""

FOLDERS = (*FINE_TUNED, SCST, REPORT, CHECKPOINT)
_PACKAGE = Path(__file__).parents[1]


def run_demo(out: Path, *, seed: int, from_scratch: bool = False) -> Comparison:
    """Fine-tune, run SCST on the best, evaluate all on the test split, and compare.

    One run a core is fine-tuned in parallel; the runs are evaluated while SCST trains.

    Args:
        out: directory of the runs and the report; an earlier demo there is replaced.
        seed: seeds every run.
        from_scratch: train the mini checkpoint first.

    Raises:
        UserError: `out` holds something other than a demo.
        Interrupted: a signal stopped it.
    """
    started = time.perf_counter()
    script = _script() if from_scratch else None
    make_room(out, FOLDERS)
    init = str(_train_mini_checkpoint(out, script)) if script else None
    configs = {name: _demo_config(name, out, seed, init) for name in (*FINE_TUNED, SCST)}
    try:
        _train_and_evaluate(configs, out)
    except (Interrupted, KeyboardInterrupt) as error:
        raise Interrupted("The demo was stopped; it starts over when it is run again.") from error
    comparison = compare([out / name for name in (*FINE_TUNED, SCST)], out=out / REPORT)
    logger.info("the demo took %.0f s", time.perf_counter() - started)
    return comparison


def _train_and_evaluate(configs: dict[str, RunConfig], out: Path) -> None:
    dataset_root("mini", None)  # rendered once, before the processes start
    with parallel_trainings(min(usable_cores(), MOST_AT_A_TIME)) as start, MeteorProcess() as meteor:

        def evaluate_run(name: str) -> None:
            result = evaluate(out / name, meteor=meteor)
            logger.info("%s: test CIDEr %.1f", name, 100 * result.scores["cider"])

        for training in as_completed([start(configs[name]) for name in FINE_TUNED]):
            training.result()
        best = max(FINE_TUNED, key=lambda name: read_json(out / name / SUMMARY_NAME)["best_cider"])
        logger.info("best by validation CIDEr: %s; SCST starts from it", best)
        scst = start(replace(configs[SCST], init=str(out / best)))
        for name in FINE_TUNED:
            evaluate_run(name)
        scst.result()
        evaluate_run(SCST)


def _demo_config(name: str, out: Path, seed: int, init: str | None) -> RunConfig:
    config = demo_config(name, out / name, seed)
    return replace(config, init=init or config.init)


def _script() -> Path:
    script = _PACKAGE.parent / "scripts" / "build_mini_checkpoint.py"
    if not script.is_file():
        raise UserError(
            "--from-scratch needs a checkout of the project, whose scripts are not in the installed package."
        )
    return script


def _train_mini_checkpoint(out: Path, script: Path) -> Path:
    directory = out / CHECKPOINT
    logger.info("training the mini checkpoint, into %s", directory)
    done = subprocess.run([sys.executable, str(script), "--out", str(directory)], check=False)
    if done.returncode != 0:
        raise UserError(f"{script.name} ended with status {done.returncode}; what it printed above says why.")
    return directory / "evlgen"
