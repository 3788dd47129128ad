"""Measure the shot detector on rendered films whose shots are known.

    python scripts/benchmarks/shots.py

Renders films of 20 minutes and 60 shots, 320×240 pixels at 25 frames per second, one for each seed: scenes of the mini
dataset with moving objects, pans, a shaking camera, noise, and plain colors of equal brightness, parted by hard cuts,
dissolves, and fades through black. Flashes, a lamp that is turned on and off, and slow changes of light are no change
of shot. Records precision and recall by kind of change, the error in seconds, the time for a film, and the most memory
of both processes in each third of that time. Writes `docs/benchmarks/shots.json`.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np

from evlvideo.corpus.films.shots import find_shots
from evlvideo.data.video import guarded
from evlvideo.files import write_json
from evlvideo.mini.render import render_clip, render_still
from evlvideo.mini.world import Scene, sample_scene
from evlvideo.results.provenance import git_commit

WIDTH, HEIGHT, RATE = 320, 240, 25
SHOTS, SECONDS = 60, 1200
NEAR_SECONDS = 1.0
"""A change that is found counts if a true one is as near."""
KINDS = {"scene": 5, "pan": 3, "shake": 2, "noise": 2, "plain": 2}
"""Kinds of shots with their weights."""
CHANGES = {"cut": 6, "dissolve": 3, "fade": 2}
OUT = Path(__file__).parents[2] / "docs" / "benchmarks" / "shots.json"


@dataclass
class Film:
    """What is true of a rendered film."""

    changes: list[tuple[float, str]] = field(default_factory=list)
    """Middle of each change in seconds, and its kind."""
    disturbances: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How many of each kind there are."""


def main() -> None:
    """Measure every film."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="films (%(default)s)")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="length of a film (%(default)s)")
    parser.add_argument("--shots", type=int, default=SHOTS, help="shots of a film (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="JSON file (%(default)s)")
    parser.add_argument("--film", type=Path, help="only print the shots of this film")
    options = parser.parse_args()
    if options.film:
        find(options.film)
        return
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["EVLVIDEO_CACHE"] = str(Path(temporary) / "cache")
        films = {}
        for seed in options.seeds:
            path = Path(temporary) / f"film-{seed}.mp4"
            films[str(seed)] = measured(path, render(path, seed, options.seconds, options.shots))
            print(seed, films[str(seed)])
    machine = {"processors": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()}
    versions = {"python": platform.python_version(), "av": version("av"), "numpy": version("numpy")}
    size = {"seconds": options.seconds, "shots": options.shots, "width": WIDTH, "height": HEIGHT, "rate": RATE}
    write_json(
        options.out, {"machine": machine, "versions": versions, "commit": git_commit(), "film": size, "films": films}
    )


def render(path: Path, seed: int, seconds: int, shots: int) -> Film:
    """Write a film."""
    rng = random.Random(seed)
    film = Film()
    lengths = [rng.uniform(0.25, 1.75) for _ in range(shots)]
    frames = [max(round(length * seconds * RATE / sum(lengths)), 3 * RATE) for length in lengths]
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in pictures(rng, frames, film):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return film


def pictures(rng: random.Random, frames: list[int], film: Film) -> Iterator[np.ndarray]:
    """Yield the frames of a film, and note what is true of it."""
    shown = 0
    tail: np.ndarray | None = None
    background = ""
    change, overlap = "cut", 0
    for place, count in enumerate(frames):
        shot, background = shot_of(rng, count, background)
        shot = disturbed(rng, shot, film)
        if tail is not None:
            film.changes.append(((shown + overlap / 2) / RATE, change))
            shares = (np.arange(overlap) + 1) / (overlap + 1)
            for index, share in enumerate(shares):
                yield blend(tail[index], shot[index], float(share), change)
            shown += overlap
            shot = shot[overlap:]
        change = rng.choices(list(CHANGES), list(CHANGES.values()))[0]
        overlap = 0 if change == "cut" or place == len(frames) - 1 else rng.randint(RATE // 2, 2 * RATE)
        body = len(shot) - overlap
        yield from shot[:body]
        shown += body
        tail = shot[body:]


def blend(before: np.ndarray, after: np.ndarray, share: float, change: str) -> np.ndarray:
    """Return a picture between two: both at once, or the one and then the other out of black."""
    if change == "fade":
        picture = before * max(1 - 2 * share, 0) + after * max(2 * share - 1, 0)
    else:
        picture = before * (1 - share) + after * share
    return picture.astype(np.uint8)


def shot_of(rng: random.Random, count: int, unlike: str) -> tuple[np.ndarray, str]:
    """Render a shot, uint8 of shape (count, HEIGHT, WIDTH, 3), with another background than that of the last."""
    while True:
        scene = replace(sample_scene(rng), width=WIDTH // 2, height=HEIGHT // 2, frames=count)
        if scene.background != unlike:
            return shown(rng, scene, count), scene.background


def shown(rng: random.Random, scene: Scene, count: int) -> np.ndarray:
    """Render a shot that begins with a scene."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    draw = np.random.default_rng(rng.getrandbits(32))
    if kind == "scene":
        return render_clip(scene).repeat(2, axis=1).repeat(2, axis=2)
    if kind == "plain":
        color = np.array(rng.choice([(214, 60, 60), (60, 138, 60), (95, 95, 230), (138, 106, 60)]))
        grain = draw.normal(0, 4, (HEIGHT + 16, WIDTH + 16, 1))
        return moved(np.clip(color + grain, 0, 255).astype(np.uint8), draw.integers(0, 16, (count, 2)))
    if kind == "noise":
        still = render_still(scene, WIDTH + 16)[: HEIGHT + 16].astype(np.int16)
        noise = draw.normal(0, 20, (8, *still.shape)).astype(np.int16)
        noisy = [np.clip(still + one, 0, 255).astype(np.uint8) for one in noise]
        return np.stack([noisy[index % 8][:HEIGHT, :WIDTH] for index in range(count)])
    wide = np.concatenate([render_still(one, WIDTH) for one in [scene, *(sample_scene(rng) for _ in range(3))]], axis=1)
    if kind == "pan":
        # From a picture's width in two seconds to one in fifteen, back and forth.
        speed = WIDTH / rng.uniform(2, 15) / RATE
        way = np.abs((np.arange(count) * speed + 3 * WIDTH) % (6 * WIDTH) - 3 * WIDTH)
        return moved(wide, np.stack([np.full(count, 40), way], axis=1).astype(int))
    shakes = draw.integers(-24, 25, (count // 3 + 1, 2)).repeat(3, axis=0)[:count]
    return moved(wide, np.clip(shakes + 40, 0, 80))


def moved(still: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return a view onto a still at each place, (count, 2) rows and columns."""
    return np.stack([still[row : row + HEIGHT, column : column + WIDTH] for row, column in places.tolist()])


def disturbed(rng: random.Random, shot: np.ndarray, film: Film) -> np.ndarray:
    """Add flashes of one to three frames, a lamp that goes off and on, or light that changes slowly, to some shots."""
    kind = rng.choices(["none", "flash", "lamp", "light"], [5, 2, 1, 1])[0]
    count = len(shot)
    if kind == "none" or count < 4 * RATE:
        return shot
    film.disturbances[kind] += 1
    shot = shot.copy()
    start = rng.randint(RATE, count - 2 * RATE)
    if kind == "flash":
        for offset in (0, 9, 31):
            part = shot[start + offset : start + offset + rng.randint(1, 3)]
            part[:] = 255 - (255 - part) // 8
    elif kind == "lamp":
        part = shot[start : start + rng.randint(5, RATE - 5)]
        part[:] = part // 8
    else:
        light = np.interp(np.arange(count), [start - RATE, start, start + RATE], [1, 0.4, 1])
        for picture, share in zip(shot, light.tolist(), strict=True):
            picture[:] = picture * share
    return shot


def measured(path: Path, film: Film) -> dict[str, Any]:
    """Find the shots of a film in a process of its own, and compare."""
    command = [sys.executable, __file__, "--film", str(path)]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    borders = found.pop("borders")
    matched = match(film.changes, borders)
    errors = [abs(film.changes[place][0] - border) for place, border in matched.items()]
    hits: dict[str, list[bool]] = {kind: [] for kind in CHANGES}
    for place, (_, kind) in enumerate(film.changes):
        hits[kind].append(place in matched)
    return {
        "precision": round(len(matched) / max(len(borders), 1), 4),
        "recall": round(len(matched) / len(film.changes), 4),
        "found_by_kind": {kind: f"{sum(of_kind)} of {len(of_kind)}" for kind, of_kind in hits.items()},
        "missed": [change for place, change in enumerate(film.changes) if place not in matched],
        "false": sorted(set(borders) - set(matched.values())),
        "median_error_seconds": round(statistics.median(errors), 3),
        "largest_error_seconds": round(max(errors), 3),
        "no_changes": dict(film.disturbances),
        **found,
    }


def find(path: Path) -> None:
    """Find the shots of a film; print changes, seconds, and the most memory in each third of the time."""
    used: list[list[int]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            helper = guarded._helper_of_this_process().pid
            used.append([resident(process) for process in (os.getpid(), helper) if process])

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    # The longest shot is not cut, so that each border is a change.
    found = find_shots(path, most_seconds=1e6)
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    thirds = [used[len(used) * part // 3 : len(used) * (part + 1) // 3] for part in range(3)]
    most = [[max(both[place] for both in third if len(both) > place) for third in thirds] for place in (0, 1)]
    report = {"seconds": round(seconds, 1), "mib_by_third": dict(zip(("detector", "decoder"), most, strict=True))}
    print(json.dumps({"borders": [shot[0] for shot in found.shots[1:]], **report}))


def resident(process: int) -> int:
    """Return the memory of a process in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def match(changes: list[tuple[float, str]], borders: list[float]) -> dict[int, float]:
    """Pair true changes with found ones that are near, the nearest first, each once."""
    pairs = sorted(
        (abs(middle - border), place, border)
        for place, (middle, _) in enumerate(changes)
        for border in borders
        if abs(middle - border) <= NEAR_SECONDS
    )
    matched: dict[int, float] = {}
    for _, place, border in pairs:
        if place not in matched and border not in matched.values():
            matched[place] = border
    return matched


if __name__ == "__main__":
    main()
