"""The comparison as one HTML page that needs nothing beside itself."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from evlvideo.comparison import curves
from evlvideo.comparison.gallery import Gallery
from evlvideo.comparison.runs import EvaluatedRun
from evlvideo.comparison.table import Table
from evlvideo.evaluation.score import format_score

DATASET_TITLES = {"msrvtt": "MSR-VTT", "mini": "The mini set"}
_COLOURS = 8
"""Colours in the style sheet; further systems repeat them with other dashes."""


def render_report(table: Table, runs: Sequence[EvaluatedRun], gallery: Gallery) -> str:
    """Write the page.

    All text is escaped. The page forbids itself every request, and every script and style but its own two, by a
    content security policy that holds their digests.
    """
    style, script = _resource("report.css"), _resource("report.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"system_class": _system_class, "score": format_score}
    page = environment.from_string(_resource("report.html")).render(
        policy=_policy(style, script),
        style=style,
        script=script,
        table=table,
        spans=_header_spans(table),
        bars=_bars(table),
        systems=[run.name for run in runs],
        facts=shared_facts(runs),
        runs=[_provenance(run) for run in runs],
        charts=curves.charts_of(runs),
        geometry=curves,
        gallery=gallery,
    )
    # Half of a surrogate pair, which JSON allows, cannot be written as UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


def shared_facts(runs: Sequence[EvaluatedRun]) -> dict[str, str]:
    """Give what the runs of a comparison have in common, in words, for people."""
    result = runs[0].result
    facts = {
        "data set": DATASET_TITLES.get(result.dataset, result.dataset),
        "split": result.split or "",
        "clips": f"{result.clips_expected:,}",
        "references": f"{result.references.captions:,} ({result.references.sha256[:12]})",
        "tokenisation": result.tokenizer,
        "kinds of clips": ", ".join(
            f"{count:,} {name.replace('_', ' ')}" for name, count in (result.evidence_clips or {}).items()
        ),
        "decoding": ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in result.decoding.items()),
    }
    return {key: value for key, value in facts.items() if value}


def _provenance(run: EvaluatedRun) -> dict[str, str]:
    result, training = run.result, run.training
    stage = {"caption": "cross-entropy", "scst": "self-critical"}
    values: Mapping[str, Any] = {
        "trained by": stage.get(training.get("stage", ""), training.get("stage")),
        "from": training.get("init"),
        "steps": training.get("steps"),
        "best step": training.get("best_step"),
        "seed": result.seed,
        "commit": _short(result.commit),
        "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
    }
    return {"system": run.name, **{key: "–" if value in (None, "") else str(value) for key, value in values.items()}}


def _short(commit: str | None) -> str | None:
    """Shorten a commit, but keep the word that its code was changed."""
    return commit and commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")


def _resource(name: str) -> str:
    return resources.files("evlvideo.comparison").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    def digest(text: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")

    return (
        f"default-src 'none'; img-src data:; style-src '{digest(style)}'; script-src '{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _system_class(system: int) -> str:
    return f"s{system % _COLOURS} d{system // _COLOURS % 3}"


def _header_spans(table: Table) -> list[tuple[str, int]]:
    """Give the headings above the columns with how many each covers; none where no column has one."""
    spans: list[tuple[str, int]] = []
    for column in table.columns:
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    return spans if any(name for name, _ in spans) else []


def _bars(table: Table) -> list[float | None]:
    """Give the length of each row's CIDEr bar in percent of the longest."""
    values = [row.cells[0].value for row in table.rows]
    longest = max((value for value in values if value is not None), default=0.0)
    return [None if value is None or longest <= 0 else round(100 * value / longest, 1) for value in values]
