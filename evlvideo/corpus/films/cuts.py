"""Find where shots change, from small pictures of a film at a constant rate.

A hard cut is a step from picture to picture that stands out among its neighbors, between pictures that stay different:
medians of half a second on either side are compared, so that a flash is none. Differences are those of all three
colors, so that a cut from red to green of equal brightness counts as any other. A gradual change, such as a dissolve or
a fade, is one whose pictures in between are blends of those at its ends, and whose ends do not look alike; a pan blends
nothing, and a change of light leaves its picture alike.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

RATE = 10
"""Pictures per second."""
VERSION = 1
"""Increase it if the same film gets other cuts."""
CONTEXT = 5 * RATE
"""Pictures on either side that it takes to tell whether a shot changes."""

_SIDE = RATE // 2
"""Pictures on either side of a hard cut."""
_MOST = 24.0
"""Most that a value can differ by, of 0 … 255, so that a small object that comes or goes makes no great difference."""
_PAIRS = (*((1, after) for after in range(RATE)), *((before, 0) for before in range(2, RATE + 1)), (2, 1))
"""Places before and after a cut that all differ; what was there before a flash is there again within a second."""
_STEP, _STANDS_OUT = 8.0, 2.5
"""Least difference at a hard cut, in 0 … 24, and how many times the usual step around it that step is."""
_Shares = tuple[tuple[float, float], ...]
_DISSOLVE: _Shares = ((0.75, 0.25), (0.5, 0.5), (0.25, 0.75))
_FADE: _Shares = ((0.5, 0), (0, 0), (0, 0.5))
"""Shares of the picture before and the one after, at a quarter, half and three quarters of a gradual change."""
_LENGTHS = (4, 6, 8, 12, 16, 24, 36)
"""Lengths of gradual changes that are looked for, in pictures."""
_BLEND = 10.0
"""Least difference between the ends of a gradual change, in 0 … 24."""
_UNLIKE_BLEND = 0.3
"""Largest difference of the pictures between them from a blend, as a share of the difference of the ends."""
_STAYS = 0.3
"""Largest change right before and after a gradual one, as a share of it; a pan goes on."""
_ALIKE_BLEND, _ALIKE = 0.7, 0.9
"""Correlation from which on pictures before and after a gradual or a hard change are one in another light."""
_FLAT, _BLACK = 4.0, 24.0
"""Standard deviation below which a picture has one color, and the brightness below which it is black."""
_SAME = 4.0
"""Difference, in 0 … 24, up to which a picture is another one in less light."""
_DARK = 4 * RATE
"""Longest time between a fade out and a fade in."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A change of shot."""

    place: int
    """Index of the first picture of the new shot, or of the middle of a gradual change."""
    difference: float
    """Mean difference of the pictures before and after, in 0 … 24."""
    before: Floats
    """Picture before the change, `(P,)`."""
    after: Floats
    """Picture after it, `(P,)`."""


def find_cuts(pictures: np.ndarray) -> list[Cut]:
    """Find where shots change.

    Args:
        pictures: uint8 of shape (N, height, width, 3), :data:`RATE` per second.

    Returns:
        changes in the order of time.
    """
    if len(pictures) < 2:
        return []
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    return sorted([*_hard(flat), *_gradual(flat)], key=lambda cut: cut.place)


def find_cuts_in_blocks(blocks: Iterable[np.ndarray]) -> Iterator[Cut]:
    """Find where shots change as :func:`find_cuts` does, in blocks of pictures, of which few are in memory at a time.

    Args:
        blocks: pictures as there, each block of any length.
    """
    held, first, settled = np.empty((0, 0, 0, 3), np.uint8), 0, 0
    for block in blocks:
        held = np.concatenate([held, block]) if len(held) else block
        if len(held) > 3 * CONTEXT:
            until = first + len(held) - CONTEXT
            yield from _between(held, first, settled, until)
            settled, first, held = until, until - CONTEXT, held[-2 * CONTEXT :]
    yield from _between(held, first, settled, first + len(held))


def resolve(cuts: Sequence[Cut], least: int) -> list[Cut]:
    """Leave out what is no change of shot of its own.

    That is: a fade in right after a fade out, of which one cut remains in the middle; what returns to the picture
    before it within `least` pictures, as a long flash; and the lesser of two changes within `least` pictures.

    Args:
        cuts: changes in the order of time.
        least: shortest shot in pictures.
    """
    kept: list[Cut] = []
    for cut in cuts:
        last = kept[-1] if kept else None
        if last is None:
            kept.append(cut)
            continue
        faded = cut.place - last.place <= _DARK and _is_black(last.after) and _is_black(cut.before)
        if not faded and cut.place - last.place >= least:
            kept.append(cut)
        elif _difference(last.before, cut.after) < _STEP:
            kept.pop()
        else:
            middle = (last.place + cut.place) // 2
            place = middle if faded else max(last, cut, key=lambda one: one.difference).place
            kept[-1] = _cut(place, last.before, cut.after)
    return kept


def _between(held: np.ndarray, first: int, start: int, end: int) -> Iterator[Cut]:
    """Find the changes from `start` to `end`, counted from the first picture of the film."""
    for cut in find_cuts(held):
        place = first + cut.place
        if start <= place < end:
            yield Cut(place, cut.difference, cut.before, cut.after)


def _hard(flat: Floats) -> Iterator[Cut]:
    """Find hard cuts in pictures of shape (N, P)."""
    padded = np.pad(flat, ((_SIDE, _SIDE), (0, 0)), mode="edge")
    medians = np.median(sliding_window_view(padded, _SIDE, axis=0), axis=-1)  # (N + SIDE + 1, P)
    before, after = medians[: len(flat)], medians[_SIDE : _SIDE + len(flat)]
    steps = _over(flat, 1, 0, 255)
    lasting = np.min([_over(flat, *pair, 255) for pair in _PAIRS], axis=0)
    scores = np.min([_differences(before, after), *(_over(flat, *pair, _MOST) for pair in _PAIRS)], axis=0)
    usual = np.median(sliding_window_view(np.pad(steps, 2 * _SIDE, mode="symmetric"), 4 * _SIDE + 1), axis=-1)
    highest = sliding_window_view(np.pad(scores, _SIDE), 2 * _SIDE + 1).max(axis=-1)
    for place in np.flatnonzero((scores == highest) & (scores >= _STEP) & (lasting >= _STANDS_OUT * usual)).tolist():
        one, other = before[place], after[place]
        if not _is_same_in_other_light(one, other, _ALIKE):
            yield _cut(place, one, other)


def _cut(place: int, before: Floats, after: Floats) -> Cut:
    # Copies, since views would keep the pictures of the whole block in memory.
    return Cut(place, _difference(before, after), before.copy(), after.copy())


def _over(flat: Floats, before: int, after: int, most: float) -> Floats:
    """Return the difference of the pictures at so many places before and after each, (N,); 0 where there is none."""
    found = np.zeros(len(flat), np.float32)
    if len(flat) > before + after:
        found[before : len(flat) - after] = _differences(flat[: -before - after], flat[before + after :], most)
    return found


def _gradual(flat: Floats) -> Iterator[Cut]:
    """Find gradual changes in pictures of shape (N, P), the clearest first."""
    found: list[tuple[float, int, int]] = []
    smooth = np.median(sliding_window_view(np.pad(flat, ((1, 1), (0, 0)), mode="edge"), 3, axis=0), axis=-1)
    for length in _LENGTHS:
        for shares in (_DISSOLVE, _FADE):
            if len(flat) > length:
                found += _blends(flat, smooth, length, shares)
    taken: list[tuple[int, int]] = []
    for _, start, end in sorted(found, reverse=True):
        if all(end <= other_start or start >= other_end for other_start, other_end in taken):
            taken.append((start, end))
            yield _cut((start + end) // 2, smooth[start], smooth[end])


def _blends(flat: Floats, smooth: Floats, length: int, shares: _Shares) -> Iterator[tuple[float, int, int]]:
    """Find stretches of a length whose pictures blend from first to last; yield their clarity, start and end."""
    before, after = smooth[:-length], smooth[length:]
    whole = np.abs(after - before).mean(axis=1) if shares is _DISSOLVE else (before + after).mean(axis=1) / 2
    worst = np.zeros(len(before), np.float32)
    for quarter, (of_before, of_after) in enumerate(shares, start=1):
        offset = round(length * quarter / 4)
        between = flat[offset : offset + len(before)]
        np.maximum(worst, np.abs(between - of_before * before - of_after * after).mean(axis=1), out=worst)
    blends = (_differences(before, after) >= _BLEND) & (worst <= _UNLIKE_BLEND * whole)
    margin = max(length // 2, _SIDE)
    for start in np.flatnonzero(blends).tolist():
        one, other = before[start], after[start]
        least = _STAYS * float(whole[start])
        earlier, later = smooth[max(start - margin, 0)], smooth[min(start + length + margin, len(smooth) - 1)]
        comes = _is_black(one) or np.abs(one - earlier).mean() <= least
        goes = _is_black(other) or np.abs(other - later).mean() <= least
        if comes and goes and not _is_same_in_other_light(one, other, _ALIKE_BLEND):
            yield float(whole[start] - worst[start]), start, start + length


def _is_same_in_other_light(one: Floats, other: Floats, alike: float) -> bool:
    if _is_black(one) or _is_black(other):
        return False
    dark, bright = sorted((one, other), key=lambda picture: float(picture.sum()))
    share = np.float32(dark @ bright / (bright @ bright))
    if _difference(dark, bright * share) <= _SAME:
        return True
    return not _is_flat(one) and not _is_flat(other) and float(np.corrcoef(one, other)[0, 1]) >= alike


def _is_black(picture: Floats) -> bool:
    return _is_flat(picture) and float(picture.max()) < _BLACK


def _is_flat(picture: Floats) -> bool:
    return bool(picture.reshape(-1, 3).std(axis=0).max() < _FLAT)


def _difference(one: Floats, other: Floats) -> float:
    return float(_differences(one[None], other[None])[0])


def _differences(some: Floats, others: Floats, most: float = _MOST) -> Floats:
    """Return the mean difference of each pair of pictures, from two of (N, P) to (N,)."""
    found: Floats = np.minimum(np.abs(some - others), most).mean(axis=1)
    return found
