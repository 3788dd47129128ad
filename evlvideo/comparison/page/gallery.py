"""Samples clips for a gallery, each with images, every system's caption and the references."""

import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
    kind: str
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
    """CIDEr by kind, over all clips."""
    contenders: tuple[int, ...]
    """Indices of the systems whose scores on a clip are comparable."""
    wins: Wins
    """Counts of clips on which one system has a higher CIDEr than another."""
    clips: Mapping[str, CaptionedClip]
    """Annotations of the clips of the cards, as far as they can be read."""

    @property
    def cards_by_kind(self) -> dict[str, int]:
        """Number of cards of each kind, by name."""
        return dict(sorted(Counter(card.kind for card in self.cards if card.kind).items()))


NO_CLIPS = Gallery((), (), (), (), count_wins([]), {})
"""What is shown of no system's captions."""


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
    annotated, remarks = _read_clips(runs)
    kinds = _kinds(runs, annotated)
    chosen, left_out = _as_many_as_fit(choose_clips(kinds, count, seed), annotated, runs)
    shown = {clip_id: annotated[clip_id] for clip_id in chosen if clip_id in annotated}
    if shown:
        logger.info("reading %d clips to show", len(shown))
    media = gather_media(list(shown.values()), ByteBudget(MEDIA_BYTES), read_frames)
    # The human row is scored against fewer references and does not compete.
    scores = [{} if run.is_human else _cider(run) for run in runs]
    cards = tuple(
        _card(clip_id, kinds[clip_id], shown.get(clip_id), media.get(clip_id, ClipMedia()), runs, scores)
        for clip_id in chosen
    )
    contenders = tuple(system for system, of_clip in enumerate(scores) if of_clip)
    by_kind, more_kinds = _scores_by_kind(runs, kinds)
    remarks = [*remarks, *left_out, *missing_images(list(media.values())), *more_kinds]
    return Gallery(cards, tuple(remarks), by_kind, contenders, count_wins(scores), shown)


def _kinds(runs: Sequence[System], annotated: Mapping[str, CaptionedClip]) -> dict[str, str]:
    """Return clip → kind for all clips with a caption. The kind is empty if the clip has no annotation."""
    dataset = runs[0].result.dataset
    clip_ids = sorted(set().union(*(run.predictions for run in runs)))
    return {clip_id: kind_of(annotated[clip_id], dataset) if clip_id in annotated else "" for clip_id in clip_ids}


def _scores_by_kind(runs: Sequence[System], kinds: Mapping[str, str]) -> tuple[tuple[KindScores, ...], list[str]]:
    """Average the CIDEr of each system over the largest kinds, with a remark on the others."""
    counts = Counter(kind for kind in kinds.values() if kind)
    largest = {kind for kind, _ in counts.most_common(MOST_KINDS)}
    apart = {system for system, run in enumerate(runs) if not system_row(run).comparable}
    of_largest = {clip_id: kind for clip_id, kind in kinds.items() if kind in largest}
    remarks = [f"Kinds of clips are the {len(largest)} with the most clips; there are more."]
    return kind_scores([_cider(run) for run in runs], of_largest, apart), remarks if len(largest) < len(counts) else []


def _as_many_as_fit(
    chosen: Sequence[str], annotated: Mapping[str, CaptionedClip], runs: Sequence[System]
) -> tuple[list[str], list[str]]:
    def texts(clip_id: str) -> tuple[list[str], Sequence[str]]:
        references = annotated[clip_id].captions if clip_id in annotated else ()
        return [run.predictions.get(clip_id, "") for run in runs], references

    return as_many_as_fit(chosen, texts, "clips")


def as_many_as_fit(
    chosen: Sequence[str], texts_of: Callable[[str], tuple[Sequence[str], Sequence[str]]], items: str
) -> tuple[list[str], list[str]]:
    """Keep the first items whose text fits the page, with a remark on the others.

    Args:
        chosen: ids of the items.
        texts_of: returns the systems' texts on an item, and its references.
        items: what they are.
    """
    left = TEXT_BYTES
    fitting: list[str] = []
    for item in chosen:
        texts, references = texts_of(item)
        written = sum(len(shown_text(text).encode("utf-8", "replace")) for text in (*texts, *references))
        left -= written + _CARD + _CAPTION * len(texts) + _REFERENCE * len(references)
        if left < 0:
            others = f"{len(chosen) - len(fitting):,} of {len(chosen):,} {items} that were to be shown are left out"
            return fitting, [f"{others}, which would make the page too large."]
        fitting.append(item)
    return fitting, []


def shown_text(text: str) -> str:
    """Shorten a very long text and add its length."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} … ({len(text):,} characters)"


def _cider(run: System) -> PerClip:
    return {clip_id: scores["cider"] for clip_id, scores in run.result.per_clip.items() if "cider" in scores}


def choose_clips(kinds: Mapping[str, str], count: int, seed: int = 0) -> list[str]:
    """Sample up to `count` clips, taking from every kind in turn.

    Args:
        kinds: clip → kind. The order of the keys does not matter.
        count: upper bound on the clips.
        seed: seed of the sample.
    """
    generator = random.Random(seed)
    piles: dict[str, list[str]] = {}
    for clip_id in sorted(kinds):
        piles.setdefault(kinds[clip_id], []).append(clip_id)
    for name in sorted(piles):
        generator.shuffle(piles[name])
    chosen: list[str] = []
    while len(chosen) < min(count, len(kinds)):
        chosen += [piles[name].pop() for name in sorted(piles) if piles[name]]
    return chosen[:count]


def kind_of(clip: CaptionedClip, dataset: str) -> str:
    """Name the evidence class of a clip, or else its category. Empty if it has neither.

    Categories have names in MSR-VTT and numbers in other datasets.
    """
    if clip.evidence is not None:
        return clip.evidence.replace("_", " ")
    if clip.category is None:
        return ""
    known = dataset == "msrvtt" and 0 <= clip.category < len(_CATEGORIES)
    return _CATEGORIES[clip.category] if known else f"category {clip.category}"


def _read_clips(runs: Sequence[System]) -> tuple[dict[str, CaptionedClip], list[str]]:
    """Read the clips of the split, by id, through the first run whose config has their location."""
    result = runs[0].result
    data = next((run.data for run in runs if run.data is not None and run.data.dataset == result.dataset), None)
    if data is None:
        return {}, ["No run says where its clips are, so there are no frames or references to show."]
    try:
        root = dataset_root(data.dataset, Path(data.root) if data.root else None)
        video_root = Path(data.video_root) if data.video_root else None
        clips = read_split(
            data.dataset,
            result.split or "",
            root,
            video_root,
            check_files=False,
            check_counts=data.check_counts,
        )
    except UserError as error:
        return {}, [f"The annotations cannot be read, so there are no frames or references to show. {error}"]
    return {clip.clip_id: clip for clip in clips}, []


def missing_images(made: Sequence[ClipMedia], items: str = "clips") -> list[str]:
    """Say which items are shown without frames, and why."""
    problems = [media.problem for media in made if media.problem]
    without = sum(not media.images and not media.problem for media in made)
    remarks = []
    if problems and not any(media.images for media in made):
        remarks.append(f"The videos cannot be read, so the {items} are shown without frames. The first: {problems[0]}")
    elif len(problems) == 1:
        remarks.append(f"1 {items[:-1]} is shown without frames: {problems[0]}")
    elif problems:
        remarks.append(f"{len(problems)} {items} are shown without frames. The first: {problems[0]}")
    if without:
        remarks.append(
            f"{without:,} of {len(made):,} {items} are shown without frames, which would make the page too large."
        )
    return remarks


def _card(
    clip_id: str,
    kind: str,
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
            None if (text := run.predictions.get(clip_id)) is None else shown_text(text),
            run.result.per_clip.get(clip_id, {}).get("cider"),
            best=differ and clip_id in of_clip and rounded(of_clip[clip_id]) == max(values),
        )
        for system, (run, of_clip) in enumerate(zip(runs, scores, strict=True))
    )
    return Card(
        clip_id=clip_id,
        kind=kind,
        media=media,
        captions=captions,
        references=tuple(map(shown_text, clip.captions)) if clip is not None else (),
        scores=tuple(rounded(of_clip[clip_id]) if clip_id in of_clip else None for of_clip in scores),
        spread=max(values) - min(values) if values else 0.0,
    )
