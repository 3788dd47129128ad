"""Keeps the sums since the last log line in a checkpoint, so that a resumed run logs the same means."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from evlvideo.errors import UserError
from evlvideo.files import read_json, write_json

INTERVAL_NAME = "log_interval.json"
"""The file's name in a checkpoint."""


@dataclass(frozen=True, slots=True)
class LogInterval:
    """Sums over the steps since the last log line, and counts of the whole run."""

    last_logged_step: int | None = None
    """Step of the last log line; `None` in checkpoints that kept no interval."""
    loss: float = 0.0
    """Sum of the losses, as a mean over processes."""
    sums: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Totals and counts of other means, over all processes."""
    cut_texts: tuple[int, int] = (0, 0)
    """Texts of the whole run that were cut off, and all of its texts, over all processes."""
    processes: int | None = None
    """Number of processes that trained; `None` if unknown."""


def write_interval(checkpoint: Path, interval: LogInterval) -> None:
    """Write an interval beside a checkpoint's weights."""
    write_json(checkpoint / INTERVAL_NAME, asdict(interval))


def read_interval(checkpoint: Path) -> LogInterval:
    """Read a checkpoint's interval; an empty one if the checkpoint has none, as older ones do.

    Raises:
        UserError: the file is broken.
    """
    path = checkpoint / INTERVAL_NAME
    if not path.is_file():
        return LogInterval()
    content = read_json(path)
    try:
        sums = {name: (total, count) for name, (total, count) in content.pop("sums").items()}
        lost, texts = content.pop("cut_texts", (0, 0))
        return LogInterval(**content, sums=sums, cut_texts=(int(lost), int(texts)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a log interval: {error!r}.") from error
