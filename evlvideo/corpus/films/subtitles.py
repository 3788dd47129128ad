"""Write cues as subtitles: SRT and WebVTT (https://www.w3.org/TR/webvtt1/)."""

import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console
from rich.text import Text

from evlvideo.corpus.films.joining import Cue

LINE_WIDTH = 42
"""Upper bound of a line, in columns of which a letter takes one and a Chinese character two."""
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_JOINER = "\u2060"
"""Has no width, and keeps SRT's players from seeing a tag: SRT knows no escapes."""
_TAG = re.compile(r"<(?=[A-Za-z/!])")
_ARROW = re.compile(r"--+>")


def to_vtt(cues: Iterable[Cue]) -> str:
    """Return a WebVTT file of cues.

    Args:
        cues: in the order of time, as :func:`evlvideo.corpus.films.joining.join_captions` gives them.
    """

    def escaped(line: str) -> str:
        return "".join(_ESCAPES.get(character, character) for character in line)

    return "WEBVTT\n\n" + "\n".join(_blocks(cues, ".", escaped))


def to_srt(cues: Iterable[Cue]) -> str:
    """Return an SRT file of cues.

    Args:
        cues: as there.
    """

    def escaped(line: str) -> str:
        return _TAG.sub(lambda found: found[0] + _JOINER, _ARROW.sub("→", line))

    return "\n".join(_blocks(cues, ",", escaped))


SUBTITLES: dict[str, Callable[[Iterable[Cue]], str]] = {"srt": to_srt, "vtt": to_vtt}
"""Forms of subtitles by their suffix."""


def _blocks(cues: Iterable[Cue], decimal_sign: str, escaped: Callable[[str], str]) -> Iterator[str]:
    for number, (start, end, lines) in enumerate(_timed(cues), start=1):
        times = f"{_clock(start, decimal_sign)} --> {_clock(end, decimal_sign)}"
        # Escapes come after wrapping, which must not part them.
        yield "\n".join([str(number), times, *map(escaped, lines), ""])


def _timed(cues: Iterable[Cue]) -> Iterator[tuple[int, int, list[str]]]:
    """Round times to milliseconds; leave out cues without text, and those of which rounding leaves no time."""
    last_end = 0
    for cue in cues:
        start, end = max(round(cue.start * 1000), last_end), round(cue.end * 1000)
        lines = _lines(cue.text)
        if lines and end > start:
            yield start, end, lines
            last_end = end


def _clock(milliseconds: int, decimal_sign: str) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{decimal_sign}{thousandths:03}"


def _lines(text: str) -> list[str]:
    """Break a caption into lines. An empty line would end its cue, and control characters have no place in one."""
    plain = "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)
    words = Text(" ".join(plain.split()))
    if not words:
        return []
    console = Console(file=io.StringIO(), width=LINE_WIDTH)
    return [line.plain.rstrip() for line in words.wrap(console, LINE_WIDTH)]
