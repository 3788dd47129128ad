"""From an architecture to its connector."""

from collections.abc import Callable
from typing import cast

from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors.base import Connector
from evlvideo.models.connectors.blip2 import Blip2
from evlvideo.models.connectors.floors import AveragePool, EveryToken
from evlvideo.models.connectors.options import TOMEFORMER
from evlvideo.models.connectors.tomeformer import TomeFormer
from evlvideo.models.connectors.video_coca import VideoCoca
from evlvideo.models.connectors.video_llama import VideoLlama
from evlvideo.models.connectors.videochat import VideoChat, VideoRelations
from evlvideo.models.tokens.merging import Reduction
from evlvideo.models.vision import VisionTower

_MAKERS: dict[str, Callable[[EvlVideoConfig, VisionTower], TomeFormer | Connector]] = {
    TOMEFORMER: lambda config, tower: TomeFormer(
        config.bert,
        merge_r=cast("int | list[float]", config.merge_r),
        reduction=cast("Reduction", config.merge_reduction),
        class_token=tower.has_class_token,
    ),
    "blip2": lambda config, tower: Blip2(config.bert, vision_dim=tower.dim, options=config.options),
    "video_llama": lambda config, tower: VideoLlama(
        config.bert, vision_dim=tower.dim, max_frames=config.max_frames, options=config.options
    ),
    "videochat": lambda config, tower: VideoChat(config.bert, vision_dim=tower.dim, options=config.options),
    "video_coca": lambda config, tower: VideoCoca(
        config.bert.hidden_size, vision_dim=tower.dim, options=config.options
    ),
    "linear": lambda config, tower: EveryToken(tower.dim),
    "average_pool": lambda config, tower: AveragePool(tower.dim, grid=tower.grid, options=config.options),
}


def make_connector(config: EvlVideoConfig, tower: VisionTower) -> TomeFormer | Connector:
    """Make the connector that an architecture names, of a tower's width, at random.

    VideoChat's also reads what the last blocks of the tower give: the tower is told to let it.

    Raises:
        UserError: the tower has fewer blocks than are to be read.
    """
    if config.connector == "videochat":
        relations = VideoRelations(tower.dim, options=config.options, grid=tower.grid)
        tower.insert_relations(relations, config.options.relation_blocks)
    return _MAKERS[config.connector](config, tower)
