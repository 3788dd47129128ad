"""Tiny clips whose frames tell their own index, and annotations in MSR-VTT's layout."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"

FRAMES = 24
WIDTH, HEIGHT = 80, 64


def brightness(index: int) -> int:
    """Brightness of the left half of frame `index`; the right half is black."""
    return 30 + 8 * index


def index_of(frame: np.ndarray) -> int:
    """Read the index of a rendered frame of shape (H, W, 3) from its left half."""
    left = frame[:, : frame.shape[1] // 2 - 4]
    return round((float(left.mean()) - 30) / 8)


def picture(index: int) -> np.ndarray:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2] = brightness(index)
    return pixels


def render(path: Path, frames: int = FRAMES, codec: str = "libx264", options: dict[str, str] | None = None) -> Path:
    """Write a clip of `frames` frames at 12 frames per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=12, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 2_000_000
        for index in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        container.mux(stream.encode())
    return path


def write_layout(root: Path, sizes: dict[str, int], captions: int = 20) -> None:
    """Write MSR-VTT's two official files for splits of given sizes, with `captions` sentences a clip."""
    root.mkdir(parents=True, exist_ok=True)
    first = 0
    for part, splits in (("train_val", ("train", "validate")), ("test", ("test",))):
        videos: list[dict[str, Any]] = []
        for split in splits:
            videos += [video(first + place, split) for place in range(sizes[split])]
            first += sizes[split]
        # Backwards, as the order of sentences in the official files is not that of the clips.
        write_official(root / f"{part}_videodatainfo.json", videos, sentences(videos, captions)[::-1])


def video(number: int, split: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "video_id": f"video{number}", "category": number % 20, "split": split, **more}


def sentences(videos: Sequence[dict[str, Any]], captions: int) -> list[dict[str, Any]]:
    return [
        {"sen_id": place * captions + k, "video_id": video["video_id"], "caption": f"{video['video_id']} caption {k}"}
        for place, video in enumerate(videos)
        for k in range(captions)
    ]


def write_official(path: Path, videos: list[dict[str, Any]], sentences: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"info": {}, "videos": videos, "sentences": sentences}), encoding="utf-8")
