"""Markdown tables and ranges."""


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Make the lines of a Markdown table."""
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def spread(values: list[float], digits: int = 1) -> str:
    """Format the range of values."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"
