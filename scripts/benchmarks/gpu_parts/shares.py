"""Compare measured seconds with estimated multiply-adds and the card's peak."""

from typing import Any


def add_shares(parts: dict[str, Any]) -> None:
    """Add the estimate, the TFLOPS reached and their share of the card's peak to each case that names an estimate.

    An estimate counts what the method needs, without what gradient checkpointing recomputes.

    Args:
        parts: name → result.
    """
    estimates = _found(parts, "estimates")
    limit = tflops_limit(_found(parts, "card"))
    for part in ("training", "compiled", "self_critical", "captioning"):
        for case in _found(parts, part).values():
            estimate = estimates.get(case.get("estimate"), {})
            if "multiply_adds" in estimate and "median_seconds" in case:
                case["estimated"] = estimate
                case |= _reached(estimate["multiply_adds"], case["median_seconds"], limit)
    for case in _found(parts, "connectors").values():
        if "multiply_adds" in case:
            case["forward"] |= _reached(case["multiply_adds"], case["forward"]["median_seconds"], limit)


def tflops_limit(card: dict[str, Any]) -> float | None:
    """Return the manufacturer's peak for dense bfloat16. If unknown, return that of a large product."""
    measured = card.get("matrix_product", {}).get("tflops")
    return card.get("published_tflops") or measured


def _reached(multiply_adds: int, seconds: float, limit: float | None) -> dict[str, Any]:
    tflops = 2 * multiply_adds / seconds / 1e12
    return {"tflops": tflops, "share_of_limit": None if limit is None else tflops / limit}


def _found(parts: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = parts.get(name, {}).get("found", {})
    return found
