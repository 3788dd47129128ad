"""What a run changes in the checkpoint that it starts from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evlvideo.config.settings import setting
from evlvideo.models.choices import CONTEXTUALIZERS, FUSIONS, VISUAL_MASKS
from evlvideo.models.connectors import CONNECTORS


@dataclass
class ModelConfig:
    """Changes to the checkpoint named by `init`. `None` keeps the checkpoint's value."""

    connector: str | None = setting(None, choices=tuple(CONNECTORS))
    """What turns vision tokens into a soft prompt: `tomeformer`, `blip2`, `video_llama`, `videochat`, `video_coca`,
    `mlp` (LLaVA-1.5's), `pixel_shuffle` (SmolVLM's), `linear` or `average_pool`. A connector that the checkpoint does
    not have starts from random weights."""
    connector_options: dict[str, Any] | None = None
    """Options of the connector beyond its sizes, by name, such as `num_queries`; see evlvideo/models/connectors."""
    connector_dropout: float | None = setting(None, least=0, below=1)
    """Dropout of the connector's BERT layers, in training by cross-entropy. A new connector has that of its
    architecture, 0.1 if its `bert_config` says nothing, as in BERT. `mlp`, `pixel_shuffle`, `video_coca`, `linear` and
    `average_pool` have none."""
    fusion: str | None = setting(None, choices=FUSIONS)
    """Where frames become one: `mean` (before the connector), `mean_tokens` or `concat` (after it)."""
    contextualizer: str | None = setting(None, choices=CONTEXTUALIZERS)
    """Where frames see each other: `none`, `in_tower` (in the vision blocks), `merged` (over merged tokens)."""
    contextualizer_blocks: list[int] | None = None
    """Indices of the vision blocks with an in-tower contextualizer, from 0. Defaults to all blocks."""
    frame_positions: bool | None = None
    """Whether contextualizers know the order of the frames. The published forms do not."""
    merge_r: Any = None
    """Tokens merged in each connector layer: a number, a list with one per layer, or `[r, inflection]`, a schedule."""
    merge_to: int | None = setting(None, least=1)
    """Tokens of a frame that merging leaves, class token included, instead of `merge_r`: layers merge equally many, the
    first ones one more where that does not divide."""
    pruning: dict[str, Any] | None = None
    """Prunes every frame's tokens inside the frozen vision tower (ELIP), such as `{preset: blip, look_ahead: one}` or
    `{begin: [2, 4, 10], keep: [0.9, 0.65, 0.4]}`; `{}` is none. `guide` is `class` (the class token, the default),
    `prompt` (the text `prompt`), `predicted` (a text, from the class token), `draft` (a first caption) or `none`. A
    text has the share 1 − `vision_share` in the guide, 0.2 by default. Controls: `scores: random` and `fold: false`."""
    visual_mask: str | None = setting(None, choices=VISUAL_MASKS)
    """Who sees whom in the language model: `causal` (each token what stands before it, as published), `full` (soft
    tokens also each other), or `full_with_question` (soft tokens, and the text before a caption or an answer, all each
    other; the BOS token is no target then). Needs sdpa or eager attention without a sliding window."""
    lora_r: int | None = None
    """Rank of the LoRA on the language model, such as 8; 0 is none."""
    lora_alpha: int | None = None
    """Scale of the LoRA: its output is multiplied by `lora_alpha / lora_r`."""
    lora_dropout: float | None = None
    """Dropout on the input of the LoRA. The self-critical stage has none."""
    lora_targets: list[str] | None = None
    """Layers with a LoRA, by the end of their names. Defaults to queries and values for OPT and LLaMA."""

    def contradictions(self) -> Iterator[str]:
        """Name values that types and bounds cannot tell are wrong."""
        if not _is_merge_schedule(self.merge_r):
            yield (f"model.merge_r is {self.merge_r!r}; it must be a number, a list of one a layer, or [r, inflection]")
        if self.merge_r is not None and self.merge_to is not None:
            yield (
                f"model.merge_r is {self.merge_r!r} and model.merge_to is {self.merge_to}; give one of them, and set "
                "the other to null"
            )


def _is_merge_schedule(value: Any) -> bool:
    numbers = value if isinstance(value, list) and value else [value]
    return value is None or all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
