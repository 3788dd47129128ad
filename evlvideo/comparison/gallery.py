"""Clips to look at: a spread sample, each with its frames, every system's caption and the references."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evlvideo.comparison.frames import Filmstrips, FramesFor, Picture, filmstrips, sampled_frames
from evlvideo.comparison.runs import EvaluatedRun
from evlvideo.data.annotations import CaptionedClip, locate, read_split
from evlvideo.errors import UserError

_CATEGORIES = ("music", "people", "gaming", "sports", "news", "education", "TV shows", "movies", "animation",
               "vehicles", "how-to", "travel", "science", "animals", "kids", "documentary", "food", "cooking",
               "beauty", "advertisement")  # fmt: skip
"""MSR-VTT's categories, by their number."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What one system said about a clip."""

    system: int
    """Place of the system among all of the comparison."""
    name: str
    text: str | None
    """`None` where the system was not run on the clip."""
    cider: float | None
    """A fraction, or `None` where the clip was not scored."""
    best: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One clip of the gallery."""

    clip_id: str
    group: str
    """Evidence class or category; empty where the clip has neither."""
    pictures: tuple[Picture, ...]
    captions: tuple[Caption, ...]
    references: tuple[str, ...]
    spread: float
    """How far the systems' CIDEr lie apart."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """The cards, and what is missing from them."""

    cards: tuple[Card, ...]
    remarks: tuple[str, ...]

    @property
    def groups(self) -> dict[str, int]:
        """Groups of the cards with their counts, by name."""
        names = sorted(card.group for card in self.cards if card.group)
        return {name: names.count(name) for name in names}


def build_gallery(
    runs: Sequence[EvaluatedRun], count: int, seed: int = 0, frames_for: FramesFor = sampled_frames
) -> Gallery:
    """Sample clips and gather what there is to see of them.

    Annotations or videos that cannot be read leave out references or pictures, and a remark says so.

    Args:
        runs: evaluated runs on one split.
        count: clips to show.
        seed: decides which clips; the same seed gives the same clips.
        frames_for: gives the frames of a clip.
    """
    ids = sorted(set().union(*(run.predictions for run in runs)))
    clips, remarks = _read_clips(runs)
    groups = {clip_id: group_of(clips[clip_id]) if clip_id in clips else "" for clip_id in ids}
    chosen = choose_clips(groups, count, seed)
    strips = filmstrips((clips[clip_id] for clip_id in chosen if clip_id in clips), frames_for)
    remarks += _missing_pictures(strips)
    cards = tuple(_card(clip_id, groups[clip_id], clips.get(clip_id), strips, runs) for clip_id in chosen)
    return Gallery(cards, tuple(remarks))


def choose_clips(groups: Mapping[str, str], count: int, seed: int = 0) -> list[str]:
    """Draw up to `count` clips, taking from every group in turn.

    Args:
        groups: group by clip. The order of its keys does not matter.
        count: most clips to draw.
        seed: the same seed draws the same clips.
    """
    generator = random.Random(seed)
    piles: dict[str, list[str]] = {}
    for clip_id in sorted(groups):
        piles.setdefault(groups[clip_id], []).append(clip_id)
    for name in sorted(piles):
        generator.shuffle(piles[name])
    chosen: list[str] = []
    while len(chosen) < min(count, len(groups)):
        chosen += [piles[name].pop() for name in sorted(piles) if piles[name]]
    return chosen[:count]


def group_of(clip: CaptionedClip) -> str:
    """Name a clip's evidence class or, without one, its category; empty where it has neither."""
    if clip.evidence is not None:
        return clip.evidence.replace("_", " ")
    if clip.category is None:
        return ""
    known = 0 <= clip.category < len(_CATEGORIES)
    return _CATEGORIES[clip.category] if known else f"category {clip.category}"


def _read_clips(runs: Sequence[EvaluatedRun]) -> tuple[dict[str, CaptionedClip], list[str]]:
    """Read the split's annotations through the first run that says where they are."""
    result = runs[0].result
    data = next((run.data for run in runs if run.data is not None and run.data.dataset == result.dataset), None)
    if data is None:
        return {}, ["No run says where its clips are, so there are no frames or references to show."]
    try:
        root = locate(data.dataset, Path(data.root) if data.root else None)
        video_root = Path(data.video_root) if data.video_root else None
        clips = read_split(data.dataset, result.split or "", root, video_root, check_files=False)
    except UserError as error:
        return {}, [f"The annotations cannot be read, so there are no frames or references to show. {error}"]
    return {clip.clip_id: clip for clip in clips}, []


def _missing_pictures(strips: Filmstrips) -> list[str]:
    if not strips.problems:
        return []
    first, count = next(iter(strips.problems.values())), len(strips.problems)
    if not strips.pictures:
        return [f"The videos cannot be read, so the clips are shown without frames. The first: {first}"]
    if count == 1:
        return [f"1 clip is shown without frames: {first}"]
    return [f"{count} clips are shown without frames. The first: {first}"]


def _card(
    clip_id: str, group: str, clip: CaptionedClip | None, strips: Filmstrips, runs: Sequence[EvaluatedRun]
) -> Card:
    scores = [run.result.per_clip.get(clip_id, {}).get("cider") for run in runs]
    scored = [score for score in scores if score is not None]
    highest = max(scored, default=None) if len(scored) > 1 and max(scored) > min(scored) else None
    captions = tuple(
        Caption(system, run.name, run.predictions.get(clip_id), score, best=score is not None and score == highest)
        for system, (run, score) in enumerate(zip(runs, scores, strict=True))
    )
    return Card(
        clip_id=clip_id,
        group=group,
        pictures=strips.pictures.get(clip_id, ()),
        captions=captions,
        references=clip.captions if clip is not None else (),
        spread=max(scored) - min(scored) if scored else 0.0,
    )
