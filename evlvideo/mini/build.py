"""Write the mini dataset to disk: H.264 clips and annotations in MSR-VTT's own layout."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
from numpy.typing import NDArray
from rich.console import Console

from evlvideo.cache import cache_directory
from evlvideo.errors import UserError
from evlvideo.files import write_json
from evlvideo.mini.captions import Caption, write_captions
from evlvideo.mini.once import build_once
from evlvideo.mini.render import render_clip
from evlvideo.mini.world import EVENTS, Scene, sample_scene
from evlvideo.progress import Progress

FORMAT_VERSION = 2
"""Increase it if the same seed gives other clips or captions."""
SPLITS = {"train": 600, "validate": 80, "test": 240}
"""Clips in each split."""
CAPTIONS_PER_CLIP = 20
FRAMES_PER_SECOND = 16

_FACTS_FILE = "mini.json"
_WORKERS = 2
# x264's look-ahead is not deterministic; without it, a clip has the same bytes each time.
_ENCODER_OPTIONS = {"preset": "fast", "crf": "23", "x264-params": "mbtree=0:rc-lookahead=0:sync-lookahead=0"}


def mini_root(seed: int = 0) -> Path:
    """Return the directory of the dataset in the cache; see :func:`evlvideo.cache.cache_directory`."""
    return cache_directory() / f"mini-{FORMAT_VERSION}-{seed}"


def build_mini(
    root: Path | None = None, seed: int = 0, progress: bool = True, splits: Mapping[str, int] = SPLITS
) -> Path:
    """Render the dataset, unless `root` has it already.

    The same seed gives the same annotations and frames. The directory appears only when it is complete. If two
    processes render at once, the slower one uses the result of the faster.

    Args:
        root: directory of the dataset. Defaults to :func:`mini_root`.
        seed: seed of scenes and captions.
        progress: whether to show a progress bar on standard error.
        splits: clips in `train`, `validate` and `test`.

    Returns:
        The directory, with `train_val_videodatainfo.json`, `test_videodatainfo.json` and `videos/`.

    Raises:
        UserError: `root` holds something else, or cannot be written.
    """
    facts = {"version": FORMAT_VERSION, "seed": seed, "splits": dict(splits)}
    root = mini_root(seed) if root is None else root
    return build_once(root, "mini dataset", _FACTS_FILE, facts, lambda building: _build(building, facts, progress))


def sample_clip(split: str, index: int, seed: int = 0) -> tuple[Scene, list[Caption]]:
    """Sample the scene and captions of one clip: a pure function of the arguments."""
    rng = random.Random(f"mini/{FORMAT_VERSION}/{seed}/{split}/{index}")
    scene = sample_scene(rng, split)
    return scene, write_captions(scene, rng, CAPTIONS_PER_CLIP)


def write_clip(path: Path, frames: NDArray[Any]) -> None:
    """Encode uint8 (frames, height, width, 3) as H.264 in mp4; height and width must be even."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=_ENCODER_OPTIONS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _build(root: Path, facts: dict[str, Any], progress: bool) -> None:
    (root / "videos").mkdir()
    _render_videos(root, facts, progress)
    _write_annotations(root, facts)


def _clips(facts: dict[str, Any]) -> list[tuple[str, int]]:
    """List the split and index of every clip, in the order of their ids."""
    return [(split, index) for split in ("train", "validate", "test") for index in range(facts["splits"][split])]


def _render_videos(root: Path, facts: dict[str, Any], progress: bool) -> None:
    """Render the clips in several processes.

    Starts new interpreters: forks could hang if the caller has threads, and spawned workers would import the caller's
    main module.
    """
    command = [sys.executable, "-m", "evlvideo.mini.build", str(root), json.dumps(facts), str(os.getpid())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    workers = [
        subprocess.Popen([*command, str(first)], env=environment, stderr=subprocess.PIPE, text=True)
        for first in range(_WORKERS)
    ]
    try:
        console = Console(stderr=True) if progress else None
        with Progress("rendering the mini dataset", len(_clips(facts)), console=console) as rendered:
            while any(worker.poll() is None for worker in workers):
                rendered.update(len(list((root / "videos").iterdir())))
                time.sleep(0.1)
        for worker in workers:
            errors = worker.communicate()[1]
            if worker.returncode != 0:
                said = errors.strip().splitlines() or [f"status {worker.returncode}"]
                raise UserError(f"rendering failed: {said[-1]}")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            if worker.stderr is not None:
                worker.stderr.close()


def _render_share(root: Path, facts: dict[str, Any], parent: int, first: int) -> None:
    """Write every `_WORKERS`-th clip, starting with `first`, as long as the parent process lives."""
    clips = _clips(facts)
    for number in range(first, len(clips), _WORKERS):
        if os.getppid() != parent:
            return
        split, index = clips[number]
        scene, _ = sample_clip(split, index, facts["seed"])
        write_clip(root / "videos" / f"video{number}.mp4", render_clip(scene))


def _write_annotations(root: Path, facts: dict[str, Any]) -> None:
    videos: list[dict[str, Any]] = []
    sentences: list[dict[str, Any]] = []
    for number, (split, index) in enumerate(_clips(facts)):
        scene, captions = sample_clip(split, index, facts["seed"])
        videos.append(_video_entry(number, split, scene))
        for caption in captions:
            sentence = {"sen_id": len(sentences), "video_id": f"video{number}", "caption": caption.text}
            sentences.append({**sentence, "evidence": caption.evidence})
    first_of_test = sum(video["split"] != "test" for video in videos)
    cut = first_of_test * CAPTIONS_PER_CLIP
    info = {"description": "evlvideo mini: rendered clips in the layout of MSR-VTT", **facts}
    parts = {
        "train_val": (videos[:first_of_test], sentences[:cut]),
        "test": (videos[first_of_test:], sentences[cut:]),
    }
    for name, (chosen, said) in parts.items():
        write_json(root / f"{name}_videodatainfo.json", {"info": info, "videos": chosen, "sentences": said})


def _video_entry(number: int, split: str, scene: Scene) -> dict[str, Any]:
    return {
        "id": number,
        "video_id": f"video{number}",
        "category": list(EVENTS).index(scene.event.kind),
        "url": "",
        "start time": 0.0,
        "end time": scene.frames / FRAMES_PER_SECOND,
        "split": split,
        "evidence": scene.event.evidence,
    }


if __name__ == "__main__":
    _render_share(Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
