"""Filters the captions of a file in our own form by a score, and writes the rest with their scores."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.readers.jsonl import clip_of
from evlvideo.data.annotation.readers.text_files import read_json_lines
from evlvideo.errors import UserError
from evlvideo.files import write_text
from evlvideo.inference.filtering.agreement import agreement
from evlvideo.inference.filtering.matching import matching
from evlvideo.processes import join_processes, on_main_process
from evlvideo.results.generated_captions import GENERATED, MEDIA_ROOT, SCORES, place_of

FILTERED = "filtered"
"""Key of the filters that a line has passed: a list of what each scored by, what it kept, and the scores."""
_DIGITS = 4


class Filtered(NamedTuple):
    """What a filter kept."""

    clips: int
    of_clips: int
    captions: int
    of_captions: int
    bad: dict[str, str]
    """Clip → why it could not be decoded, and has no scores."""
    media_root: Path
    """What names of files are relative to."""


class _Line(NamedTuple):
    entry: dict[str, Any]
    clip: CaptionedClip
    key: str
    """Names the clip; clips of two splits may have one id."""


def filter_captions(
    file: Path,
    out: Path,
    *,
    model: str | None = None,
    least: float | None = None,
    share: float | None = None,
    media_root: Path | None = None,
    overrides: list[str] | None = None,
    console: Console | None = None,
) -> Filtered:
    """Keep the captions of a file with high scores.

    Args:
        file: captions in our own form; see :mod:`evlvideo.data.annotation.readers.jsonl`.
        out: file to write; whole or not at all.
        model: scores captions against what they describe; see :func:`~evlvideo.inference.filtering.matching.matching`.
            If None, they are scored by their agreement with the other captions of their clip; see
            :func:`~evlvideo.inference.filtering.agreement.agreement`.
        least: keep captions whose score is at least this. Give this or `share`.
        share: keep this share of all captions, above 0 and below 1: the best, and of equal ones the first.
        media_root: what names of files are relative to. Defaults to what `file` says, else to its folder.
        overrides: `key=value` changes to the model's config.
        console: where to draw a progress bar.

    Returns:
        what was kept, in every process.

    Raises:
        UserError: arguments are wrong, `out` exists, `file` is malformed, captions cannot be scored, or none is kept.
    """
    join_processes()
    on_main_process(lambda: _check(file, out, least, share))
    media_root, lines = _read(file, media_root)
    clips = _joined(lines)
    bad: dict[str, str] = {}
    if model is None:
        scores: Mapping[str, Sequence[float | None]] = agreement({key: clip.captions for key, clip in clips.items()})
    else:
        scored = [replace(clip, clip_id=key) for key, clip in clips.items()]
        scores, bad = matching(model, scored, overrides=overrides, console=console)
    of_lines = _by_line(lines, clips, scores)
    kept = _chosen(of_lines, least, share)
    rule = {"least": least} if share is None else {"share": share}
    facts = {"by": "agreement" if model is None else model, **rule, **place_of(media_root, out)}
    written = [
        _filtered(line.entry, places, values, facts)
        for line, places, values in zip(lines, kept, of_lines, strict=True)
        if places
    ]
    if not written:
        raise UserError(f"No caption of {file} would be kept; {_best_of(of_lines)}. Nothing is written.")
    on_main_process(lambda: _write(out, written))
    left = {line.key for line, places in zip(lines, kept, strict=True) if places}
    return Filtered(len(left), len(clips), sum(map(len, kept)), sum(map(len, of_lines)), bad, media_root)


def _check(file: Path, out: Path, least: float | None, share: float | None) -> None:
    if (least is None) == (share is None):
        raise UserError("Name what to keep: captions with at least a score (--least), or a share of them (--share).")
    if share is not None and not 0 < share < 1:
        raise UserError(f"The share is {share}; it must be above 0 and below 1.")
    if least is not None and not math.isfinite(least):
        raise UserError(f"The lowest score is {least}; it must be finite.")
    if out.exists():
        what = "is the file that is filtered" if file.exists() and out.samefile(file) else "exists already"
        raise UserError(f"{out} {what}, and is not written over; name another --out.")


def _read(file: Path, media_root: Path | None) -> tuple[Path, list[_Line]]:
    """Read the lines of a file, and what their names are relative to."""
    lines = []
    for place, entry in read_json_lines(file):
        media_root = media_root or _media_root(file, entry)
        clip = clip_of(place, entry, media_root)
        lines.append(_Line(entry, clip, f"{entry['split']}:{clip.clip_id}"))
    if media_root is None or not lines:
        raise UserError(f"{file} holds no captions; name a file that does.")
    return media_root, lines


def _media_root(file: Path, entry: Mapping[str, Any]) -> Path:
    """Return what names are relative to, as the command that wrote a line says; else the file's folder."""
    wrote = [entry.get(GENERATED), *(entry.get(FILTERED) or [])][-1]
    place = wrote.get(MEDIA_ROOT, ".") if isinstance(wrote, dict) else "."
    return Path(os.path.normpath(file.parent / str(place)))


def _joined(lines: Sequence[_Line]) -> dict[str, CaptionedClip]:
    """Join the captions of a clip's lines, which may be several."""
    found: dict[str, CaptionedClip] = {}
    for line in lines:
        known = found.get(line.key)
        captions = line.clip.captions if known is None else known.captions + line.clip.captions
        found[line.key] = replace(line.clip, captions=captions)
    return found


def _by_line(
    lines: Sequence[_Line], clips: Mapping[str, CaptionedClip], scores: Mapping[str, Sequence[float | None]]
) -> list[list[float | None]]:
    """Return the scores of each line's captions; None for those that have none."""
    of_clips = {key: iter(scores.get(key, [None] * len(clip.captions))) for key, clip in clips.items()}
    return [[next(of_clips[line.key]) for _ in line.clip.captions] for line in lines]


def _chosen(of_lines: Sequence[Sequence[float | None]], least: float | None, share: float | None) -> list[list[int]]:
    """Return the indices of the captions of each line that are kept."""
    scored = [(line, place, score) for line, values in enumerate(of_lines) for place, score in enumerate(values)]
    good = [(line, place, score) for line, place, score in scored if score is not None]
    if share is None:
        assert least is not None
        good = [one for one in good if one[2] >= least]
    else:
        good = sorted(good, key=lambda one: -one[2])[: max(1, round(share * len(scored)))]
    kept: list[list[int]] = [[] for _ in of_lines]
    for line, place, _ in sorted(good):
        kept[line].append(place)
    return kept


def _filtered(
    entry: Mapping[str, Any], places: Sequence[int], values: Sequence[float | None], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a line with some of its captions, and their scores, these and earlier ones."""

    def some(of_captions: Any) -> Any:
        return [of_captions[place] for place in places] if isinstance(of_captions, list) else of_captions

    captions = entry["captions"]
    line = {**entry, "captions": some(captions if isinstance(captions, list) else [captions])}
    if isinstance(line.get(GENERATED), dict):
        line[GENERATED] = {**line[GENERATED], SCORES: some(line[GENERATED].get(SCORES))}
    earlier = [{**one, SCORES: some(one.get(SCORES))} for one in line.get(FILTERED) or [] if isinstance(one, dict)]
    scores = [round(score, _DIGITS) for score in some(list(values))]
    return {**line, FILTERED: [*earlier, {**facts, SCORES: scores}]}


def _best_of(of_lines: Sequence[Sequence[float | None]]) -> str:
    best = max((score for values in of_lines for score in values if score is not None), default=None)
    return "no caption has a score" if best is None else f"the highest score is {best:.4g}"


def _write(out: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    write_text(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
