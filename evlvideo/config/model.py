"""What a run changes in the checkpoint that it starts from."""

from dataclasses import dataclass
from typing import Any


@dataclass
class ModelConfig:
    """What to change in the checkpoint named by `init`. `None` keeps the checkpoint's value."""

    connector: str | None = None
    """What turns vision tokens into soft ones: `tomeformer`, `blip2`, `video_llama`, `videochat`, `video_coca`,
    `linear` or `average_pool`. One that the checkpoint does not have starts at random."""
    connector_options: Any = None
    """What the connector can be told beyond its sizes, by name, such as `num_queries`; see
    evlvideo/models/connectors/options.py."""
    fusion: str | None = None
    """Where frames become one: `mean` (before the connector), `mean_tokens` or `concat` (after it)."""
    contextualizer: str | None = None
    """Where frames see each other: `none`, `in_tower` (in the vision blocks), `merged` (over merged tokens)."""
    contextualizer_blocks: list[int] | None = None
    """Vision blocks, counted from 0, that get an in-tower contextualizer; all of them where nothing is named."""
    frame_positions: bool | None = None
    """Whether contextualizers know the order of the frames. The published forms do not."""
    merge_r: Any = None
    """Tokens merged in each connector layer: a number, a list with one a layer, or `[r, inflection]` as a schedule."""
    lora_r: int | None = None
    """Rank of a LoRA on the language model, such as 8; 0 is none."""
    lora_alpha: int | None = None
    """Scale of the LoRA: what it adds is multiplied by `lora_alpha / lora_r`."""
    lora_dropout: float | None = None
    """Dropout of what the LoRA reads. There is none in the self-critical stage."""
    lora_targets: list[str] | None = None
    """Layers that get LoRA, by the end of their names; queries and values of OPT and LLaMA where nothing is named."""
