"""Make `docs/benchmarks.md` from the JSON files in `docs/benchmarks/`.

    python scripts/make_benchmark_tables.py

The programs in `scripts/benchmarks` write the JSON files; no number is typed by hand.
"""

import argparse
from pathlib import Path

from benchmark_page import (
    alignment,
    connectors,
    demo,
    elip,
    films,
    gpu,
    pruning,
    scale,
    self_critical,
    shards,
    speed,
    stages,
)

from evlvideo.files import read_json, write_text

ROOT = Path(__file__).parents[1] / "docs"
SECTIONS = {
    "mini_seeds": demo.mini_seeds,
    "connectors": connectors.connectors,
    "stages": stages.stages,
    "alignment-*": alignment.alignment,
    "merging_sweep": connectors.merging_sweep,
    "pruned_captioning": pruning.pruned_captioning,
    "connector_costs": connectors.connector_costs,
    "elip_costs": elip.elip_costs,
    "elip_mini": elip.elip_mini,
    "full_size": speed.full_size,
    "gpu-*": gpu.gpu,
    "scst_step": self_critical.scst_step,
    "scst_ablation": self_critical.scst_ablation,
    "scst_loss": self_critical.scst_loss,
    "rewards": self_critical.rewards,
    "comparison": speed.comparison,
    "scoring": speed.scoring,
    "answers": speed.answers,
    "decoding": speed.decoding,
    "video_index": shards.video_index,
    "damage": speed.damage,
    "shots": films.shots,
    "shards": shards.shards,
    "features": speed.features,
    "captioning": speed.captioning,
    "checkpointing": speed.checkpointing,
    "threads": speed.threads,
    "scale": scale.scale,
}
"""File name or pattern → section, in page order. Sections without a file are left out."""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    write_text(ROOT / "benchmarks.md", page())


def page() -> str:
    """Make the page from the files that exist."""
    lines = ["# Benchmarks", "", "Made by `scripts/make_benchmark_tables.py` from `docs/benchmarks/*.json`."]
    for pattern, section in SECTIONS.items():
        for path in sorted((ROOT / "benchmarks").glob(f"{pattern}.json")):
            lines += ["", *section(read_json(path))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
