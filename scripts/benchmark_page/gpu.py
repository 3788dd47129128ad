"""EVLGen at full size on a GPU. A part of the report that did not finish says so above its table."""

from typing import Any

from benchmark_page.tables import spread, table

STATES = {"cut off": "was cut off", "failed": "failed", "skipped": "was skipped", "waiting": "did not run"}


def gpu(report: dict[str, Any]) -> list[str]:
    """Make the section on one card."""
    card = _found(report, "card")
    machine = card.get("machine", {})
    driver, cuda, torch = machine.get("driver"), machine.get("cuda"), report["versions"]["torch"]
    return [
        f"## EVLGen at full size, on {machine.get('card') or 'a CPU, reduced'}",
        "",
        f"`scripts/benchmarks/gpu.py`: random weights in bfloat16, clips of noise, {report['seconds'] / 60:.1f} "
        f"minutes in all; driver {driver}, CUDA {cuda}, torch {torch}. "
        f"{_limits(card)}Seconds are medians, with the range. A share is of the manufacturer's peak, or of the "
        "measured one if that is unknown. Estimates do not count the recomputation of gradient checkpointing.",
        "",
        *_tests(report),
        *_steps(report),
        *_captioning(report),
        *_connectors(report),
        *_syncs(report),
        *_transfer(report),
    ][:-1]


def _limits(card: dict[str, Any]) -> str:
    product, published = card.get("matrix_product", {}), card.get("published_tflops")
    said = f"{published:.0f} TFLOPS according to the manufacturer, " if published else ""
    return f"{said}{product['tflops']:.0f} measured in a large matrix product. " if "tflops" in product else ""


def _tests(report: dict[str, Any]) -> list[str]:
    outcomes = [test["outcome"] for test in _found(report, "cuda_tests").values() if isinstance(test, dict)]
    counted = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in sorted(set(outcomes)))
    return [*_state(report, "cuda_tests"), f"Tests that need a GPU: {counted or 'none'}.", ""]


def _steps(report: dict[str, Any]) -> list[str]:
    rows = [
        [title, case, *_costs(found)]
        for part, title in (
            ("training", "cross-entropy"),
            ("compiled", "cross-entropy"),
            ("self_critical", "self-critical"),
        )
        for case, found in _found(report, part).items()
    ]
    header = ["step", "form", "seconds", "TFLOPS", "share", "peak GiB", "estimated GiB"]
    states = [line for part in ("training", "compiled", "self_critical") for line in _state(report, part)]
    return [*states, *table(header, rows), ""]


def _costs(found: dict[str, Any]) -> list[str]:
    if "failed" in found:
        return [found["failed"].replace("\n", " ").replace("|", "/")[:80], *4 * [""]]
    return [
        f"{found['median_seconds']:.3f} ({spread(found['seconds'], 3)})",
        _number(found.get("tflops"), ".0f"),
        _number(found.get("share_of_limit"), ".0%"),
        _number(found.get("peak_gib"), ".1f"),
        _number(found.get("estimated", {}).get("gib"), ".1f"),
    ]


def _captioning(report: dict[str, Any]) -> list[str]:
    rows = [
        [case, str(found.get("batch", "")), _number(found.get("clips_per_second"), ".1f"), *_costs(found)[:4]]
        for case, found in _found(report, "captioning").items()
    ]
    header = ["captioning", "batch", "clips per second", "seconds", "TFLOPS", "share", "peak GiB"]
    return [*_state(report, "captioning"), *table(header, rows), ""]


def _connectors(report: dict[str, Any]) -> list[str]:
    found = _found(report, "connectors")
    rows = [
        [
            name,
            str(case["soft_tokens"]),
            *(_milliseconds(case[run]) for run in ("forward", "forward_and_backward", "with_tower")),
            _number(case["forward"].get("share_of_limit"), ".0%"),
        ]
        for name, case in found.items()
        if "soft_tokens" in case
    ]
    header = ["connector", "soft tokens", "forward, ms", "forward and backward, ms", "with the tower, ms", "share"]
    return [*_state(report, "connectors"), *table(header, rows), "", *_merging(found)]


def _merging(found: dict[str, Any]) -> list[str]:
    alone = found.get("merging alone", {})
    merging = next((case for name, case in found.items() if name.startswith("tomeformer")), {})
    if "forward" not in alone or "forward" not in merging:
        return []
    seconds, whole = alone["forward"]["median_seconds"], merging["forward"]["median_seconds"]
    share = f"{seconds / whole:.0%} of the connector's time"
    return [f"Matching and merging alone take {1000 * seconds:.2f} ms, {share}.", ""]


def _syncs(report: dict[str, Any]) -> list[str]:
    rows = [
        [
            stage,
            str(found["reads"]),
            _number(found.get("warnings"), "d"),
            _number(sum(found["calls_that_wait"].values()) if "calls_that_wait" in found else None, "d"),
            _number(found.get("copies_to_cpu"), "d"),
            _number(found.get("kernels_launched"), "d"),
        ]
        for stage, found in _found(report, "syncs").items()
        if "reads" in found
    ]
    header = ["stage", "reads of values", "warnings", "calls that wait", "copies to the CPU", "kernels"]
    return [*_state(report, "syncs"), "How often a step waits for the device:", "", *table(header, rows), ""]


def _transfer(report: dict[str, Any]) -> list[str]:
    rows = [[case, _milliseconds(found)] for case, found in _found(report, "transfer").items()]
    return [*_state(report, "transfer"), *table(["a batch of frames", "ms"], rows), ""]


def _milliseconds(found: dict[str, Any]) -> str:
    return _number(1000 * found["median_seconds"] if "median_seconds" in found else None, ".2f")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _found(report: dict[str, Any], part: str) -> dict[str, Any]:
    found: dict[str, Any] = report["parts"].get(part, {}).get("found", {})
    return found


def _state(report: dict[str, Any], part: str) -> list[str]:
    state = report["parts"].get(part, {}).get("state", "waiting")
    return [] if state == "done" else [f"The part `{part}` {STATES[state]}.", ""]
