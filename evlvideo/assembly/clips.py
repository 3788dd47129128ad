"""Read the clips that a run's config names."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate import PartialState

from evlvideo.config.data import QUESTIONS, SHARDS, DataConfig, SourceConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.facts import facts_of, media_root
from evlvideo.data.annotation.questions.answered import read_answered
from evlvideo.data.annotation.questions.facts import question_facts
from evlvideo.data.annotation.questions.splits import question_media_root
from evlvideo.data.annotation.sample import sample_clips
from evlvideo.data.annotation.split_cache import read_cached_split
from evlvideo.data.annotation.splits import CAPTIONING, check_media, dataset_root
from evlvideo.data.loading.shards.clips import ShardClips, find_shards
from evlvideo.data.video.quarantine import read_quarantine, without_quarantined
from evlvideo.errors import UserError
from evlvideo.mini.rendered import resolved, root_of
from evlvideo.processes import on_main_process, wait_for_all
from evlvideo.progress import timed

logger = logging.getLogger(__name__)


def read_clips(data: DataConfig, split: str, count: int | None = None, *, purpose: str = CAPTIONING) -> ClipTable:
    """Read the clips of a split of a run's dataset; call this in every process.

    Only the main process of each machine checks that the files exist. The others trust it and, if the split is large,
    map its cached table.

    Args:
        data: the dataset.
        split: the split.
        count: draw this many clips; see :func:`evlvideo.data.annotation.sample.sample_clips`. If None, take all.
        purpose: see :func:`evlvideo.data.annotation.splits.read_split`.

    Raises:
        UserError: the split cannot be read, has fewer clips, or files are missing; in every process.
    """
    if data.kind == QUESTIONS:
        return _read_questions(data, data, split, count)
    name = f"{data.dataset}:{split}"
    with timed(f"the clips of {name}", logger.info) as outcome:
        clips = _read_checked(_reader(data, split, count, purpose))
        of_all = "" if count is None else f", drawn from all of {name}"
        made = f" ({clips.generated})" if clips.generated else ""
        outcome.append(f"{len(clips):,} clips with {int(clips.caption_counts().sum()):,} captions{made}{of_all}")
    return clips


def _reader(data: DataConfig, split: str, count: int | None, purpose: str) -> Callable[..., ClipTable]:
    """Return a function that reads the clips of a split, and, unless `check_files` is false, checks their files."""
    root = dataset_root(data.dataset, Path(data.root) if data.root else None)
    video_root = Path(data.video_root) if data.video_root else None
    read = partial(
        read_cached_split,
        data.dataset,
        split,
        root,
        video_root,
        check_counts=data.check_counts,
        purpose=purpose,
    )
    return _drawing(read, count, f"{data.dataset}:{split}", media_root(facts_of(data.dataset), root, video_root))


def _drawing(read: Callable[..., ClipTable], count: int | None, name: str, media: Path) -> Callable[..., ClipTable]:
    """Return a function that draws so many of the clips that another reads; that one itself if `count` is None."""
    if count is None:
        return read

    def read_sample(check_files: bool = True) -> ClipTable:
        # Files of clips that are not drawn may be missing.
        clips = sample_clips(read(check_files=False), count, name)
        if check_files:
            check_media(clips, media)
        return clips

    return read_sample


def _read_checked(read: Callable[..., ClipTable]) -> ClipTable:
    state = PartialState()
    if state.num_processes == 1:
        return read()
    on_main_process(lambda: len(read()))
    if state.is_local_main_process and not state.is_main_process:
        read()
    wait_for_all()
    return read(check_files=False)


def clips_of_run(data: DataConfig, split: str, *, purpose: str = CAPTIONING) -> ClipTable:
    """Read the clips of a split as a run uses them: `data.train_clips` of those it trains on.

    Raises:
        UserError: as :func:`read_clips`.
    """
    return read_clips(data, split, data.train_clips if split == data.train_split else None, purpose=purpose)


def read_training_clips(data: DataConfig, *, purpose: str = CAPTIONING) -> dict[str, ClipTable | ShardClips]:
    """Read the clips that a run trains on, by source, without those in quarantine.

    Args:
        data: the dataset or sources.
        purpose: see :func:`evlvideo.data.annotation.splits.read_split`.
    """
    clips: dict[str, ClipTable | ShardClips] = {
        f"sources[{place}], {_name(source)}": _read_source(data, source, purpose)
        for place, source in enumerate(data.sources)
    }
    if not data.sources:
        clips = {f"{data.dataset}:{data.train_split}": clips_of_run(data, data.train_split, purpose=purpose)}
    if data.quarantine is None:
        return clips
    bad = read_quarantine(Path(data.quarantine))
    return {
        name: of_source if isinstance(of_source, ShardClips) else without_quarantined(of_source, bad, name)
        for name, of_source in clips.items()
    }


def _name(source: SourceConfig) -> str:
    return f"{'questions of ' if source.kind == QUESTIONS else ''}{source.dataset}:{source.split}"


def _read_source(data: DataConfig, source: SourceConfig, purpose: str) -> ClipTable | ShardClips:
    if source.kind == QUESTIONS:
        return _read_questions(data, source, source.split, source.clips)
    if source.dataset != SHARDS:
        of_source = replace(
            data, kind=source.kind, dataset=source.dataset, root=source.root, video_root=source.video_root
        )
        return read_clips(of_source, source.split, source.clips, purpose=purpose)
    if source.root is None:
        raise UserError("A source of shards has no root; set its root to the directory that holds the .tar files.")
    return ShardClips(find_shards(resolved(Path(source.root))))


def _read_questions(data: DataConfig, of: SourceConfig | DataConfig, split: str, count: int | None) -> ClipTable:
    """Read questions as clips whose captions are the answers."""
    root = root_of(of.dataset, Path(of.root) if of.root else None)
    media_root = Path(of.video_root) if of.video_root else None
    read = partial(read_answered, of.dataset, split, root, media_root, check_counts=data.check_counts)
    media = question_media_root(question_facts(of.dataset), root, media_root)
    name = f"questions of {of.dataset}:{split}"
    with timed(f"the {name}", logger.info) as outcome:
        clips = _read_checked(_drawing(read, count, name, media))
        outcome.append(f"{len(clips):,} questions with {int(clips.caption_counts().sum()):,} answers")
    return clips


def references_of(clips: Iterable[CaptionedClip]) -> dict[str, list[str]]:
    """Map clip ids to captions."""
    return {clip.clip_id: list(clip.captions) for clip in clips}
