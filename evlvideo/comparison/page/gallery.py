"""Clips to look at: a spread sample, each with frames or film, every system's caption and the references."""

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
"""Most bytes of pictures and films, so that the page stays under 10 MB with its text."""
TEXT_BYTES = 700_000
"""Most bytes of the text of cards with what is around it: some hundreds of clips."""
LONGEST_TEXT = 5_000
"""Characters of a caption or a reference that are shown."""
MOST_KINDS = 100
"""Kinds of clips with a line of their own."""
_CARD, _CAPTION, _REFERENCE = 1_000, 500, 40
"""Bytes around the text of a card, of each of its captions and of each of its references."""

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
    reel: ClipMedia
    captions: tuple[Caption, ...]
    references: tuple[str, ...]
    scores: tuple[float | None, ...]
    """The systems' CIDEr, `None` where one was not scored or cannot be compared."""
    spread: float
    """How far the systems' CIDEr lie apart."""

    @property
    def pictures(self) -> tuple[PageImage, ...]:
        """Frames from start to end; none where the clip cannot be read."""
        return self.reel.pictures

    @property
    def film(self) -> PreviewClip | None:
        """The clip to be played, where there was room for it."""
        return self.reel.film


@dataclass(frozen=True, slots=True)
class Gallery:
    """The cards, what is missing from them, and how the systems stand on all clips of the split."""

    cards: tuple[Card, ...]
    remarks: tuple[str, ...]
    kinds: tuple[KindScores, ...]
    """CIDEr by group, over all clips."""
    contenders: tuple[int, ...]
    """Places of the systems whose scores on a clip can be compared."""
    wins: Wins
    """Who has the higher CIDEr on how many of all clips."""
    clips: Mapping[str, CaptionedClip]
    """The annotations of the cards' clips, as far as they can be read."""

    @property
    def groups(self) -> dict[str, int]:
        """Groups of the cards with their counts, by name."""
        return dict(sorted(Counter(card.group for card in self.cards if card.group).items()))


def build_gallery(
    runs: Sequence[System], count: int, seed: int = 0, read_frames: FrameReader = decode_frames
) -> Gallery:
    """Sample clips and gather what there is to see of them.

    Annotations or videos that cannot be read leave out references or pictures, and a remark says so.

    Args:
        runs: evaluated runs on one split.
        count: clips to show.
        seed: decides which clips; the same seed gives the same clips.
        read_frames: gives the frames of a clip.
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
    remarks += [*left_out, *_missing_pictures(list(made.values()))]
    of_all = [_cider(run) for run in runs]
    # People are scored against fewer references than the systems beside them, and do not compete.
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
    """The first of the chosen clips whose text the page has room for, and a sentence on the others."""
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
    """A text, or the beginning of a very long one, with its length."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} … ({len(text):,} characters)"


def _largest(groups: Mapping[str, str]) -> set[str]:
    counts = Counter(group for group in groups.values() if group)
    return {name for name, _ in counts.most_common(MOST_KINDS)}


def _cider(run: System) -> PerClip:
    return {clip_id: scores["cider"] for clip_id, scores in run.result.per_clip.items() if "cider" in scores}


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


def group_of(clip: CaptionedClip, dataset: str) -> str:
    """Name a clip's evidence class or, without one, its category; empty where it has neither.

    Categories have names in MSR-VTT; another data set's are numbers.
    """
    if clip.evidence is not None:
        return clip.evidence.replace("_", " ")
    if clip.category is None:
        return ""
    known = dataset == "msrvtt" and 0 <= clip.category < len(_CATEGORIES)
    return _CATEGORIES[clip.category] if known else f"category {clip.category}"


def _read_clips(runs: Sequence[System]) -> tuple[Sequence[CaptionedClip], list[str]]:
    """Read the split's annotations through the first run that says where they are."""
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


def _missing_pictures(made: Sequence[ClipMedia]) -> list[str]:
    problems = [reel.problem for reel in made if reel.problem]
    without = sum(not reel.pictures and not reel.problem for reel in made)
    remarks = []
    if problems and not any(reel.pictures for reel in made):
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
    reel: ClipMedia,
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
        reel=reel,
        captions=captions,
        references=tuple(map(_shown_text, clip.captions)) if clip is not None else (),
        scores=tuple(rounded(of_clip[clip_id]) if clip_id in of_clip else None for of_clip in scores),
        spread=max(values) - min(values) if values else 0.0,
    )
