"""The metrics by name, and scores as papers print them."""

METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider")
"""Keys of the metrics, in the order in which they are computed. Scores are fractions: 0.74 is what papers print as
74.0."""
ALL_METRICS = (*METRICS, "spice")
"""SPICE as well, which needs models of its own and is computed only on request."""
TITLES = {"bleu_1": "BLEU-1", "bleu_2": "BLEU-2", "bleu_3": "BLEU-3", "bleu_4": "BLEU-4", "meteor": "METEOR",
          "rouge_l": "ROUGE-L", "cider": "CIDEr", "spice": "SPICE"}  # fmt: skip
"""Metric → its name in print."""

SUBSET_SCORES = {
    "split": "CIDEr on subsets keeps the document frequencies of the whole split.",
    "own": "Each subset is scored as if it were all, with its own document frequencies, as NoCaps' server does.",
}
"""Source of CIDEr's document frequencies on subsets → what reports say of it. The whole, or the subset alone."""


def format_score(value: float | None) -> str:
    """Return a score times 100 with one decimal, as papers print it, or a dash if there is none."""
    return "–" if value is None else f"{100 * value:.1f}"
