"""Connectors, one file each: from the tower's tokens to those that the language projection takes.

Adding one takes its file, its line in :data:`CONNECTORS`, a config and a test. This file imports no torch, so that a
run's config can be checked quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evlvideo.models.connectors.base import Connector

TOMEFORMER = "tomeformer"
"""The default."""
CONNECTORS = {
    TOMEFORMER: "tomeformer:TomeFormer",
    "blip2": "blip2:Blip2",
    "video_llama": "video_llama:VideoLlama",
    "videochat": "videochat:VideoChat",
    "video_coca": "video_coca:VideoCoca",
    "mlp": "mlp:Mlp",
    "pixel_shuffle": "pixel_shuffle:PixelShuffle",
    "linear": "linear:EveryToken",
    "average_pool": "average_pool:AveragePool",
}
"""Module and class by the connector's name in configs."""


def connector_class(name: str) -> "type[Connector]":
    """Import the class of a connector."""
    module, _, class_name = CONNECTORS[name].partition(":")
    found: type[Connector] = getattr(import_module(f"{__name__}.{module}"), class_name)
    return found
