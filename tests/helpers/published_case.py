"""Cases of the published implementation: toy checkpoints in its format, inputs, and the values it computed."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from tiny_models import FIXTURES
from torch import Tensor

from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.published.evlgen import (
    PublishedCheckpoint,
    captioner_from_published,
    published_config,
    read_published,
)

CASES = Path(os.environ.get("EVLVIDEO_PARITY_CASES") or FIXTURES)
_NOT_IN_TENSORS = ("layer_norm_eps", "hidden_act", "vocab_size", "num_attention_heads")


def case_directories() -> list[Path]:
    """Every case under the directory that EVLVIDEO_PARITY_CASES names, or under the copies here."""
    return sorted(path.parent for path in CASES.rglob("checkpoint.pth") if (path.parent / "case.json").is_file())


@dataclass(frozen=True)
class Case:
    """A folder: `case.json`, inputs, and the values that were computed from them."""

    directory: Path

    @cached_property
    def sizes(self) -> dict[str, Any]:
        return json.loads((self.directory / "case.json").read_text())

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return load_file(self.directory / "inputs.safetensors")

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        return load_file(self.directory / "expected.safetensors")


class PublishedCase(Case):
    """A case of the captioner."""

    @cached_property
    def checkpoint(self) -> PublishedCheckpoint:
        return read_published(self.directory / "checkpoint.pth")

    def config(self) -> EvlVideoConfig:
        """The architecture: what shapes do not tell comes from the case's sizes."""
        vision, connector, generation = (self.sizes[part] for part in ("vision", "connector", "generation"))
        changes: dict[str, Any] = {
            "vision_overrides": {"num_heads": vision["num_heads"]},
            "bert_config": {name: connector[name] for name in _NOT_IN_TENSORS if name in connector},
            "merge_r": connector["r"],
            "bos_token_id": generation["bos_token_id"],
            "end_token_id": generation["eos_token_id"],
        }
        if vision.get("temporal"):
            changes["contextualizer_heads"] = vision["temporal"]["num_heads"]
        return published_config(
            self.checkpoint, str(self.directory / "eva_vit.pth"), str(self.directory / "llm"), changes
        )

    def model(self) -> EvlVideoForCaptioning:
        """The captioner with the case's weights, in eval mode."""
        return captioner_from_published(self.checkpoint, self.config())

    def until_the_end(self, tokens: Tensor) -> list[list[int]]:
        """Captions of generated tokens: what fills a row after its ending is no part of it."""
        end = self.sizes["generation"]["eos_token_id"]
        return [row[: row.index(end) + 1] if end in row else row for row in tokens.tolist()]
