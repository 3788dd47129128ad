"""Cases of the published answers and contrastive loss, whose weights are those of another case."""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from published_case import CASES, Case, PublishedCase
from torch import Tensor

from evlvideo.models.captioner import EvlVideoForCaptioning


def question_cases() -> list[Path]:
    """Every case with answers under the directory of the cases."""
    return sorted(path.parent for path in CASES.rglob("case.json") if "prompt" in json.loads(path.read_text()))


class QuestionsCase(Case):
    """One case: a folder."""

    @cached_property
    def weights(self) -> PublishedCase:
        """The case that has the weights, by the first relative path that this one names."""
        paths = re.findall(r"\.\.?/[\w./-]*\w", self.sizes["weights"])
        return PublishedCase(self.directory / paths[0])

    def model(self) -> EvlVideoForCaptioning:
        """The captioner with the case's weights and special tokens, in eval mode."""
        model, generation = self.weights.model(), self.sizes["generation"]
        model.config.bos_token_id = generation["bos_token_id"]
        model.config.end_token_id = generation["eos_token_id"]
        model.config.pad_token_id = generation["pad_token_id"]
        return model

    def decoding(self, num_beams: int) -> dict[str, Any]:
        """Arguments of `generate`."""
        generation = self.sizes["generation"]
        lengths = {name: generation[name] for name in ("max_new_tokens", "min_new_tokens")}
        return lengths if num_beams == 1 else {**lengths, **{n: generation[n] for n in ("num_beams", "length_penalty")}}

    def until_the_end(self, tokens: Tensor) -> list[list[int]]:
        """Answers of generated tokens: what fills a row after its ending is no part of it."""
        end = self.sizes["generation"]["eos_token_id"]
        return [row[: row.index(end) + 1] if end in row else row for row in tokens.tolist()]
