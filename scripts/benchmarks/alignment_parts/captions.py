"""Human and generated captions of the same pictures, and the arms that learn from them.

A captioner that has seen the other half of the pictures captions those that all arms learn from.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignment_parts.arms import FROZEN, Arm, Sizes, captions_of, recipe_of, two_stages
from evlvideo.assembly.clips import read_clips
from evlvideo.config.data import DataConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.files import write_text
from evlvideo.mini.images.build import build_mini_images

HUMAN, ONE, GENERATED = "human", "human-one", "generated"
"""Sets of captions: all five of a picture, its first, and the captioner's."""
ARMS = {
    "human, five a picture": (HUMAN,),
    "human, one a picture": (ONE,),
    "generated, one a picture": (GENERATED,),
    "human and generated, 1 : 1": (ONE, GENERATED),
}
VALIDATIONS = 8
_TEACHER_SEED = 1000
"""Is added to the seed of the arms."""


def captions(seed: int, directory: Path, sizes: Sizes) -> Iterator[Arm]:
    """Make the captions of a seed, unless they are there, and plan an arm for each set of them."""
    root = build_mini_images(progress=False)
    place = directory / f"captions-{seed}"
    _write_captions(place, root, seed, sizes)
    often = replace(sizes, eval_steps=max(1, sizes.steps // VALIDATIONS))
    for name, sets in ARMS.items():
        sources = [_source(place / of_set, root) for of_set in sets]
        recipe = recipe_of(place / "-".join(sets), seed, two_stages(sizes.steps, 0.5), often, data={"sources": sources})
        yield Arm(name, seed, recipe)


def _source(place: Path, root: Path) -> dict[str, Any]:
    return {"dataset": "jsonl", "root": str(place), "video_root": str(root)}


def _write_captions(place: Path, root: Path, seed: int, sizes: Sizes) -> None:
    """Write the sets of captions: the even pictures are learned from, the odd ones are the captioner's."""
    clips = list(read_clips(DataConfig(dataset="mini_images", root=str(root)), "train"))
    learned = clips[::2]
    _write(place / "odd", clips[1::2], root, lambda clip: clip.captions)
    _write(place / HUMAN, learned, root, lambda clip: clip.captions)
    _write(place / ONE, learned, root, lambda clip: clip.captions[:1])
    # From the packaged captioner, so that it captions better than what is to be taught.
    packaged: dict[str, Any] = {"init": "mini", "architecture": None, "fit_clips": None}
    stage = {"name": "captioner", "like": FROZEN, "steps": sizes.steps // 2}
    data = {"sources": [_source(place / "odd", root)]}
    captioner = Arm(
        "captioner", seed, recipe_of(place / "captioner", seed + _TEACHER_SEED, [stage], sizes, data=data, **packaged)
    )
    captioner.train()
    generated = captions_of(captioner.last, learned, "generated.json")
    _write(place / GENERATED, learned, root, lambda clip: [generated[clip.clip_id]])


def _write(
    place: Path, clips: Iterable[CaptionedClip], root: Path, texts: Callable[[CaptionedClip], Iterable[str]]
) -> None:
    lines = (
        {
            "image": str(clip.video.relative_to(root)),
            "captions": list(texts(clip)),
            "split": "train",
            "id": clip.clip_id,
        }
        for clip in clips
    )
    write_text(place / "captions.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
