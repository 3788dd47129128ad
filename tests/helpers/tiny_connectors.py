"""Tiny connectors of every kind."""

from typing import Any

from transformers import BertConfig

from evlvideo.models.connectors.base import TowerShape

BERT = BertConfig(hidden_size=40, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80)
VISION_DIM = 48
"""Of the toy tower, as its 4 × 4 patches and its class token."""
GRID = (4, 4)
NUM_TOKENS = 17
TOWER = TowerShape(VISION_DIM, NUM_TOKENS, GRID, class_token=True)

OPTIONS: dict[str, dict[str, Any]] = {
    "blip2": {"num_queries": 5},
    "video_llama": {"num_queries": 5, "video_queries": 4},
    "videochat": {"num_queries": 5, "extra_queries": 3, "relation_blocks": 2, "relation_heads": 4},
    "video_coca": {"num_queries": 6, "num_heads": 4},
    "mlp": {},
    "pixel_shuffle": {"scale_factor": 2},
    "linear": {},
    "average_pool": {"side": 2},
}
TOKENS = {
    "blip2": 5,
    "video_llama": 4,
    "videochat": 8,
    "video_coca": 6,
    "mlp": 16,
    "pixel_shuffle": 4,
    "linear": NUM_TOKENS,
    "average_pool": 5,
}
"""Of a frame, or of a clip."""
PER_FRAME = ("blip2", "mlp", "pixel_shuffle", "linear", "average_pool")


def changes(connector: str, **more: Any) -> dict[str, Any]:
    """Changes of a captioner's configuration that give it this connector, and no more of the TomeFormer."""
    options = OPTIONS[connector] | more.pop("connector_options", {})
    return {"connector": connector, "connector_options": options, "merge_r": None, **more}
