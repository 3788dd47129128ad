"""Make the kept runs, with the code of the version that they are kept for; see README.md beside this file."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import toy_run
from toy_run import Toy, make_toy, train_toy

STEPS, RESUMED_STEPS = 3, 6
VISION_SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
CONNECTOR_SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
    "vocab_size": 1,
}
LANGUAGE_SIZES = {
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 64,
    "max_position_embeddings": 96,
    "dropout": 0.0,
}
RUNS: dict[str, dict[str, Any]] = {
    "in_tower": {"model": {"contextualizer": "in_tower", "contextualizer_blocks": [1], "frame_positions": True}},
    "merged": {"model": {"contextualizer": "merged", "fusion": "concat", "frame_positions": True, "merge_r": 3}},
    "videochat": {
        "model": {
            "connector": "videochat",
            "connector_options": {
                "num_queries": 4,
                "extra_queries": 4,
                "relation_blocks": 2,
                "relation_heads": 2,
                "relation_mlp_ratio": 1.0,
            },
        }
    },
    "scst_lora": {"model": {"lora_r": 2}, "init": Path("merged"), "run": {"stage": "scst"}},
}
LEFT_OUT = ("training_args.bin", "*.lock", "reward.safetensors")
"""Not kept: the machine that trained, and files that a resumed run makes again."""


def evlvideo(*arguments: str) -> None:
    with patch.object(sys, "argv", ["evlvideo", *arguments]):
        try:
            toy_run.run()
        except SystemExit as end:
            assert not end.code, arguments


def make_run(toy: Toy, name: str, sections: dict[str, Any]) -> None:
    training = {"max_steps": STEPS, "eval_steps": STEPS}
    train_toy(toy.config(Path(name), training=training, **sections))
    evlvideo("evaluate", name, "--split", "test")
    shutil.copytree(name, "before")
    evlvideo("train", f"{name}/config.yaml", "--resume", f"training.max_steps={RESUMED_STEPS}")
    log = [json.loads(line) for line in (Path(name) / "log.jsonl").read_text().splitlines()]
    expected = Path("expected") / name
    expected.mkdir(parents=True)
    shutil.copy(Path(name) / "checkpoints" / f"checkpoint-{RESUMED_STEPS}" / "model.safetensors", expected)
    (expected / "log.json").write_text(json.dumps(log, indent=1) + "\n")
    shutil.rmtree(name)
    shutil.copytree("before", name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.rmtree("before")


def main() -> None:
    toy_run.VISION_SIZES, toy_run.CONNECTOR_SIZES = VISION_SIZES, CONNECTOR_SIZES
    toy_run.LANGUAGE_SIZES = LANGUAGE_SIZES
    toy = make_toy(Path("toy"))
    for name, sections in RUNS.items():
        make_run(toy, name, sections)


if __name__ == "__main__":
    main()
