"""Refuse one caption for a whole long film: a few frames of it show no event, and captioners make one up."""

MOST_SECONDS = 60.0
"""Longest film that is captioned as a whole. The clips that captioners learn from are no longer: MSR-VTT's last 10 to
32 s, VATEX's 10 s, most of MSVD's under 60 s; and of a minute, eight frames are 7.5 s apart."""


def check_length(path: str, seconds: float) -> str | None:
    """Say why a film is not captioned as a whole, and what to do; None if it is short enough.

    Args:
        path: the film, for the message.
        seconds: how long it lasts.
    """
    if seconds <= MOST_SECONDS:
        return None
    return (
        f"{path} lasts {seconds:,.0f} s, too long for one caption of a few frames, which is given up to "
        f"{MOST_SECONDS:g} s; caption its parts with --windows SECONDS, or its shots with --shots."
    )
