"""Samples clips for a gallery, each with images, every system's caption and the references."""

import logging
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evlvideo.comparison.page.clip_media import (
    ByteBudget,
    ClipMedia,
    FrameReader,
    PageImage,
    PreviewClip,
    decode_frames,
    gather_media,
)
from evlvideo.comparison.rows.row import system_row
from evlvideo.comparison.rows.system import System
from evlvideo.comparison.tables.kinds import KindScores, kind_scores
from evlvideo.comparison.tables.wins import PerClip, Wins, count_wins, rounded
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.splits import dataset_root, read_split
from evlvideo.errors import UserError

logger = logging.getLogger(__name__)

MEDIA_BYTES = 7_500_000
"""Upper bound on the bytes of images and preview clips. With its text, the page stays under 10 MB."""
TEXT_BYTES = 700_000
"""Upper bound on the bytes of the text and markup of cards: some hundred clips."""
LONGEST_TEXT = 5_000
"""Upper bound on the shown characters of a caption or reference."""
MOST_KINDS = 100
"""Upper bound on the kinds of clips in the table of kinds."""
_CARD, _CAPTION, _REFERENCE = 1_000, 500, 40
"""Bytes of markup of a card, of each caption and of each reference."""

_CATEGORIES = ("music", "people", "gaming", "sports", "news", "education", "TV shows", "movies", "animation",
               "vehicles", "how-to", "travel", "science", "animals", "kids", "documentary", "food", "cooking",
               "beauty", "advertisement")  # fmt: skip
"""Categories of MSR-VTT in the order of their indices."""


@dataclass(frozen=True, slots=True)
class Caption:
    """The caption of one system for a clip."""

    system: int
    """Index of the system in the comparison."""
    name: str
    text: str | None
    """`None` if the system has no caption of the clip."""
    cider: float | None
    """A fraction. `None` if the clip was not scored."""
    best: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One clip of the gallery."""

    clip_id: str
    group: str
    """Evidence class or category. Empty if the clip has neither."""
    media: ClipMedia
    captions: tuple[Caption, ...]
    references: tuple[str, ...]
    scores: tuple[float | None, ...]
    """CIDEr of each system. `None` for one that was not scored or is not comparable."""
    spread: float
    """Range of the systems' CIDEr."""

    @property
    def images(self) -> tuple[PageImage, ...]:
        """Frames from start to end. Empty if the clip cannot be read."""
        return self.media.images

    @property
    def preview(self) -> PreviewClip | None:
        """The preview clip, if there was room for it."""
        return self.media.preview


@dataclass(frozen=True, slots=True)
class Gallery:
    """The cards, and how the systems compare on all clips of the split."""

    cards: tuple[Card, ...]
    remarks: tuple[str, ...]
    kinds: tuple[KindScores, ...]
    """CIDEr by group, over all clips."""
    contenders: tuple[int, ...]
    """Indices of the systems whose scores on a clip are comparable."""
    wins: Wins
    """Counts of clips on which one system has a higher CIDEr than another."""
    clips: Mapping[str, CaptionedClip]
    """Annotations of the clips of the cards, as far as they can be read."""

    @property
    def groups(self) -> dict[str, int]:
        """Groups of the cards with their counts, by name."""
        return dict(sorted(Counter(card.group for card in self.cards if card.group).items()))


def build_gallery(
    runs: Sequence[System], count: int, seed: int = 0, read_frames: FrameReader = decode_frames
) -> Gallery:
    """Sample clips and gather their captions, references and images.

    If annotations or videos cannot be read, a remark replaces references or images.

    Args:
        runs: evaluated runs on one split.
        count: number of clips.
        seed: seed of the sample.
        read_frames: reads the frames of a clip.
    """
    clips, remarks = _read_clips(runs)
    places = {clip.clip_id: place for place, clip in enumerate(clips)}
    ids = sorted(set().union(*(run.predictions for run in runs)))
    dataset = runs[0].result.dataset
    groups = {clip_id: group_of(clips[places[clip_id]], dataset) if clip_id in places else "" for clip_id in ids}
    chosen = choose_clips(groups, count, seed)
    known = {clip_id: clips[places[clip_id]] for clip_id in chosen if clip_id in places}
    chosen, left_out = _as_many_as_fit(chosen, known, runs)
    shown = {clip_id: known[clip_id] for clip_id in chosen if clip_id in known}
    if shown:
        logger.info("reading %d clips to show", len(shown))
    made = gather_media(list(shown.values()), ByteBudget(MEDIA_BYTES), read_frames)
    remarks += [*left_out, *_missing_images(list(made.values()))]
    of_all = [_cider(run) for run in runs]
    # The human row is scored against fewer references and does not compete.
    scores = [{} if run.is_human else of_run for run, of_run in zip(runs, of_all, strict=True)]
    cards = tuple(
        _card(clip_id, groups[clip_id], shown.get(clip_id), made.get(clip_id, ClipMedia()), runs, scores)
        for clip_id in chosen
    )
    contenders = tuple(system for system, of_clip in enumerate(scores) if of_clip)
    apart = {system for system, run in enumerate(runs) if not system_row(run).comparable}
    largest = _largest(groups)
    if len(largest) < len(set(groups.values()) - {""}):
        remarks.append(f"Kinds of clips are the {len(largest)} with the most clips; there are more.")
    kinds = kind_scores(of_all, {clip_id: kind for clip_id, kind in groups.items() if kind in largest}, apart)
    return Gallery(cards, tuple(remarks), kinds, contenders, count_wins(scores), shown)


def _as_many_as_fit(
    chosen: Sequence[str], known: Mapping[str, CaptionedClip], runs: Sequence[System]
) -> tuple[list[str], list[str]]:
    """Keep the first clips whose text fits the page, with a remark on the others."""
    left = TEXT_BYTES
    fitting: list[str] = []
    for clip_id in chosen:
        captions = [run.predictions.get(clip_id, "") for run in runs]
        references = known[clip_id].captions if clip_id in known else ()
        texts = sum(len(_shown_text(text).encode("utf-8", "replace")) for text in (*captions, *references))
        left -= texts + _CARD + _CAPTION * len(captions) + _REFERENCE * len(references)
        if left < 0:
            others = f"{len(chosen) - len(fitting):,} of {len(chosen):,} clips that were to be shown are left out"
            return fitting, [f"{others}, which would make the page too large."]
        fitting.append(clip_id)
    return fitting, []


def _shown_text(text: str) -> str:
    """Shorten a very long text and add its length."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} … ({len(text):,} characters)"


def _largest(groups: Mapping[str, str]) -> set[str]:
    counts = Counter(group for group in groups.values() if group)
    return {name for name, _ in counts.most_common(MOST_KINDS)}


def _cider(run: System) -> PerClip:
    return {clip_id: scores["cider"] for clip_id, scores in run.result.per_clip.items() if "cider" in scores}


def choose_clips(groups: Mapping[str, str], count: int, seed: int = 0) -> list[str]:
    """Sample up to `count` clips, taking from every group in turn.

    Args:
        groups: clip → group. The order of the keys does not matter.
        count: upper bound on the clips.
        seed: seed of the sample.
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


def group_of(clip: CaptionedClip, dataset: str) -> str:
    """Name the evidence class of a clip, or else its category. Empty if it has neither.

    Categories have names in MSR-VTT and numbers in other datasets.
    """
    if clip.evidence is not None:
        return clip.evidence.replace("_", " ")
    if clip.category is None:
        return ""
    known = dataset == "msrvtt" and 0 <= clip.category < len(_CATEGORIES)
    return _CATEGORIES[clip.category] if known else f"category {clip.category}"


def _read_clips(runs: Sequence[System]) -> tuple[Sequence[CaptionedClip], list[str]]:
    """Read the annotations of the split through the first run whose config has their location."""
    result = runs[0].result
    data = next((run.data for run in runs if run.data is not None and run.data.dataset == result.dataset), None)
    if data is None:
        return [], ["No run says where its clips are, so there are no frames or references to show."]
    try:
        root = dataset_root(data.dataset, Path(data.root) if data.root else None)
        video_root = Path(data.video_root) if data.video_root else None
        return read_split(data.dataset, result.split or "", root, video_root, check_files=False), []
    except UserError as error:
        return [], [f"The annotations cannot be read, so there are no frames or references to show. {error}"]


def _missing_images(made: Sequence[ClipMedia]) -> list[str]:
    problems = [media.problem for media in made if media.problem]
    without = sum(not media.images and not media.problem for media in made)
    remarks = []
    if problems and not any(media.images for media in made):
        remarks.append(f"The videos cannot be read, so the clips are shown without frames. The first: {problems[0]}")
    elif len(problems) == 1:
        remarks.append(f"1 clip is shown without frames: {problems[0]}")
    elif problems:
        remarks.append(f"{len(problems)} clips are shown without frames. The first: {problems[0]}")
    if without:
        remarks.append(
            f"{without:,} of {len(made):,} clips are shown without frames, which would make the page too large."
        )
    return remarks


def _card(
    clip_id: str,
    group: str,
    clip: CaptionedClip | None,
    media: ClipMedia,
    runs: Sequence[System],
    scores: Sequence[PerClip],
) -> Card:
    values = [rounded(of_clip[clip_id]) for of_clip in scores if clip_id in of_clip]
    differ = bool(values) and max(values) > min(values)
    captions = tuple(
        Caption(
            system,
            run.name,
            None if (text := run.predictions.get(clip_id)) is None else _shown_text(text),
            run.result.per_clip.get(clip_id, {}).get("cider"),
            best=differ and clip_id in of_clip and rounded(of_clip[clip_id]) == max(values),
        )
        for system, (run, of_clip) in enumerate(zip(runs, scores, strict=True))
    )
    return Card(
        clip_id=clip_id,
        group=group,
        media=media,
        captions=captions,
        references=tuple(map(_shown_text, clip.captions)) if clip is not None else (),
        scores=tuple(rounded(of_clip[clip_id]) if clip_id in of_clip else None for of_clip in scores),
        spread=max(values) - min(values) if values else 0.0,
    )
