"""Renders the comparison as one self-contained HTML page."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from evlvideo.comparison.page import learning_curves
from evlvideo.comparison.page.gallery import NO_CLIPS, Gallery
from evlvideo.comparison.page.inspection import Inspection
from evlvideo.comparison.page.learning_curves import Tick, nice_ticks
from evlvideo.comparison.page.questions import AnswersPart
from evlvideo.comparison.page.validations import validations_of
from evlvideo.comparison.rows.answers import AnsweringSystem
from evlvideo.comparison.rows.system import System
from evlvideo.comparison.tables.kinds import KindScores
from evlvideo.comparison.tables.table import Table
from evlvideo.metrics.answers.measures import NAMES, title_of
from evlvideo.metrics.names import format_score

DATASET_TITLES = {
    "msrvtt": "MSR-VTT",
    "mini": "The mini set",
    "mini_images": "The mini images",
    "nocaps": "NoCaps",
    "vqav2": "VQAv2",
    "okvqa": "OK-VQA",
    "gqa": "GQA",
    "pathvqa": "PathVQA",
    "msrvtt_qa": "MSRVTT-QA",
    "msvd_qa": "MSVD-QA",
}
_COLOURS = 8
"""Colours in the style sheet. Further systems repeat them with other dashes."""


def render_report(
    table: Table | None,
    runs: Sequence[System] = (),
    gallery: Gallery = NO_CLIPS,
    inspection: Inspection | None = None,
    answers: Sequence[AnswersPart] = (),
) -> str:
    """Render the page.

    Args:
        table: scores and costs of captions. `None` if only answers are compared.
        runs: the systems whose captions are compared, in the order of their colours.
        gallery: sampled clips, wins, and scores by kind of clip.
        inspection: what was seen inside the models.
        answers: what is shown of answers to questions. A run has one colour in all parts.

    Escapes all text. A content security policy forbids every request, and all scripts and styles but the page's own,
    whose digests it holds.
    """
    style, script = _resource("report.css"), _resource("report.js")
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "system_class": _system_class,
        "score": format_score,
        "on_axis": _on_axis,
        "pieces": _pieces,
        "spans": _header_spans,
        "bars": _bars,
    }
    names = dict.fromkeys([run.name for run in runs] + [system.name for part in answers for system in part.systems])
    page = environment.get_template("report.html").render(
        policy=_policy(style, script),
        style=style,
        script=script,
        title=next(shown.title for shown in (table, *(part.table for part in answers)) if shown is not None),
        table=table,
        names=list(names),
        systems=[run.name for run in runs],
        facts=shared_facts(runs) if runs else {},
        alike=_alike(runs),
        runs=[
            _provenance(
                run, with_versions=not _same_versions(runs), with_pruning=any(other.result.pruning for other in runs)
            )
            for run in runs
        ],
        charts=learning_curves.draw_learning_curves(runs),
        geometry=learning_curves,
        validations=validations_of(runs),
        gallery=gallery,
        kind_axis=_kind_axis(gallery.kinds),
        fast_previews=any(card.preview is not None and card.preview.speed > 1.05 for card in gallery.cards),
        inspection=inspection or Inspection(),
        answers=[_section(part) for part in answers],
    )
    # JSON allows lone surrogates, UTF-8 does not.
    return page.encode("utf-8", "replace").decode("utf-8")


def split_title(dataset: str, split: str | None) -> str:
    """Name a split in a heading."""
    name = DATASET_TITLES.get(dataset, dataset)
    return f"{name}, {split} split" if split else name


def _section(part: AnswersPart) -> dict[str, Any]:
    """Return what the template shows of the answers to one set of questions."""
    answered, systems = part.answered, part.systems
    result = systems[0].result
    alike = _same_versions(systems)
    facts = {
        "dataset": DATASET_TITLES.get(answered.dataset, answered.dataset),
        "split": answered.split,
        "questions": f"{result.questions:,}",
        "references": f"{result.references.captions:,} ({result.references.sha256[:12]})",
        "metrics": ", ".join(title_of(name) for name in NAMES if any(name in one.result.scores for one in systems)),
        "versions": _versions(systems[0]) if alike else "",
    }
    return {
        "slug": f"answers-{answered.dataset}-{answered.split}",
        "heading": split_title(answered.dataset, answered.split),
        "table": part.table,
        "gallery": part.gallery,
        "systems": [system.name for system in systems],
        "questions": facts["questions"],
        "score": title_of(answered.score),
        "facts": {key: value for key, value in facts.items() if value},
        "origin": [_provenance(system, with_versions=not alike) | _how_answered(system) for system in systems],
    }


def _how_answered(system: AnsweringSystem) -> dict[str, str]:
    result = system.result
    decoding = {name: value for name, value in result.decoding.items() if name != "prompt" and value is not None}
    return {"prompt": result.prompt or "–", "decoding": _listed(decoding) or "–"}


def shared_facts(runs: Sequence[System]) -> dict[str, str]:
    """Return the facts that all runs of a comparison share."""
    result = runs[0].result
    facts = {
        "dataset": DATASET_TITLES.get(result.dataset, result.dataset),
        "split": result.split or "",
        "clips": f"{result.clips_expected:,}",
        "references": f"{result.references.captions:,} ({result.references.sha256[:12]})",
        "tokenization": result.tokenizer,
        "kinds of clips": ", ".join(
            f"{count:,} {name.replace('_', ' ')}" for name, count in (result.evidence_clips or {}).items()
        ),
        "decoding": _listed(result.decoding),
    }
    if _same_versions(runs):
        facts["versions"] = _versions(runs[0])
    return {key: value for key, value in facts.items() if value}


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())


def _same_versions(runs: Sequence[System | AnsweringSystem]) -> bool:
    return len({_versions(run) for run in runs}) == 1


def _versions(run: System | AnsweringSystem) -> str:
    return ", ".join(f"{name} {version}" for name, version in run.result.versions.items())


def _alike(runs: Sequence[System]) -> str:
    """Say what all systems share beside the clips. The decoding of captions from elsewhere is unknown."""
    here = all(run.regime == "trained" for run in runs)
    return "references, decoding and metrics" if here else "references and metrics"


def _provenance(run: System | AnsweringSystem, *, with_versions: bool, with_pruning: bool = False) -> dict[str, str]:
    result, training = run.result, run.training
    stage = {"caption": "cross-entropy", "scst": "self-critical"}
    values: dict[str, Any] = {
        "trained by": stage.get(training.get("stage", ""), training.get("stage")),
        "from": training.get("init") or run.source,
        "steps": training.get("steps"),
        "best step": training.get("best_step"),
        "seed": result.seed,
        "commit": _short(result.commit),
    }
    if with_pruning and isinstance(run, System):
        values["pruned by"] = _pruned_by(run.result.pruning or {})
    if with_versions:
        values["versions"] = _versions(run)
    return {"system": run.name, **{key: "–" if value in (None, "") else str(value) for key, value in values.items()}}


def _pruned_by(pruning: Mapping[str, Any]) -> str | None:
    """Say what guides pruning in the vision tower, if anything does."""
    guide, trained = pruning.get("guide"), pruning.get("guide_in_training")
    return guide if guide == trained else f"{guide} ({trained} in training)"


def _short(commit: str | None) -> str | None:
    """Shorten a commit but keep `-dirty`."""
    return commit and commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")


def _resource(name: str) -> str:
    return resources.files("evlvideo.comparison.page").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    def digest(text: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")

    return (
        f"default-src 'none'; img-src data:; media-src data:; style-src '{digest(style)}'; "
        f"script-src '{digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def _system_class(system: int) -> str:
    return f"s{system % _COLOURS} d{system // _COLOURS % 3}"


def _pieces(name: str) -> list[str]:
    """Split a name after separators, where a line may break."""
    return re.split(r"(?<=[_/:.-])(?=[^_/:.-])", name)


def _header_spans(table: Table) -> list[tuple[str, int]]:
    """Return the headings above the columns with their spans. Empty if no column has one."""
    spans: list[tuple[str, int]] = []
    for column in table.columns:
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    return spans if any(name for name, _ in spans) else []


def _bars(table: Table) -> list[float | None]:
    """Return the length of each CIDEr bar in percent of the longest."""
    values = [row.cells[0].value for row in table.rows]
    longest = max((value for value in values if value is not None), default=0.0)
    return [None if value is None or longest <= 0 else round(100 * value / longest, 1) for value in values]


def _kind_axis(kinds: Sequence[KindScores]) -> list[Tick]:
    """Lay out an axis of CIDEr ×100 for the means of all kinds, with positions in percent."""
    values = [100 * mean for kind in kinds for mean in kind.means if mean is not None]
    if not values:
        return []
    ticks = nice_ticks(min(values), max(values))
    apart = 90 / (len(ticks) - 1)
    return [Tick(round(5 + index * apart, 2), f"{value:g}") for index, value in enumerate(ticks)]


def _on_axis(mean: float, axis: Sequence[Tick]) -> float:
    """Place a fraction between the first and last tick, in percent."""
    low, high = float(axis[0].label), float(axis[-1].label)
    return round(5 + 90 * (100 * mean - low) / (high - low), 2)
