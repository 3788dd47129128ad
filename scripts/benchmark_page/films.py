"""Sections on long films."""

from typing import Any

from benchmark_page.tables import table

_KINDS = ("cut", "dissolve", "fade")


def shots(report: dict[str, Any]) -> list[str]:
    """Make the section on the shot detector."""
    film = report["film"]
    rows = [
        [
            seed,
            f"{found['precision']:.3f}",
            f"{found['recall']:.3f}",
            *(found["found_by_kind"][kind] for kind in _KINDS),
            f"{found['median_error_seconds']:.2f}",
            f"{found['largest_error_seconds']:.2f}",
            f"{found['seconds']:.0f}",
            *(", ".join(map(str, found["mib_by_third"][process])) for process in ("detector", "decoder")),
        ]
        for seed, found in report["films"].items()
    ]
    columns = ["seed", "precision", "recall", "cuts", "dissolves", "fades", "median error, s", "largest, s", "film, s"]
    return [
        "### Shots of long films",
        "",
        f"`scripts/benchmarks/shots.py`: rendered films of {film['seconds']} s and {film['shots']} shots, "
        f"{film['width']}×{film['height']} pixels at {film['rate']} frames per second, with flashes, lamps and "
        "changes of light that are no change of shot. A change counts as found within a second. The last columns are "
        "the most MiB in each third of the time. One thread, beside other work (load "
        f"{report['machine']['load'][0]:.0f} on {report['machine']['processors']} processors).",
        "",
        *table([*columns, "detector, MiB", "decoder, MiB"], rows),
    ]
