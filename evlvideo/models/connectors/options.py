"""What each connector can be told beyond its sizes, with the published values as defaults, and the names of all."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

TOMEFORMER = "tomeformer"
EVA_MLP_RATIO = 4.3637


@dataclass(frozen=True, slots=True)
class NoOptions:
    """Of a connector that has none."""


@dataclass(frozen=True, slots=True)
class Blip2Options:
    """BLIP-2 (Li et al., ICML 2023)."""

    num_queries: int = 32
    """Queries, which are the tokens that a frame becomes."""
    cross_attention_every: int = 2
    """Layers from one that looks at the image to the next."""
    all_frames: bool = False
    """Whether the queries look at the tokens of all frames together, as published captioning of MSR-VTT does."""


@dataclass(frozen=True, slots=True)
class VideoLlamaOptions:
    """Video-LLaMA (Zhang et al., EMNLP 2023 demonstrations), its vision branch."""

    num_queries: int = 32
    """Queries of the image Q-Former, for each frame."""
    cross_attention_every: int = 2
    """Layers of the image Q-Former from one that looks at the image to the next."""
    video_queries: int = 32
    """Queries of the video Q-Former, which are the tokens that a clip becomes."""
    video_layers: int = 2
    """Layers of the video Q-Former; each looks at the frames."""
    train_qformer: bool = False
    """Whether the image Q-Former and the norm before it are trained too. Published, they are BLIP-2's and stay so."""


@dataclass(frozen=True, slots=True)
class VideoChatOptions:
    """VideoChat (Li et al., 2023), as published for fine-tuning."""

    num_queries: int = 32
    """Queries that come with the Q-Former."""
    extra_queries: int = 64
    """Queries that are added for videos."""
    cross_attention_every: int = 2
    """Layers of the Q-Former from one that looks at the clip to the next."""
    relation_blocks: int = 8
    """Last blocks of the vision tower that the video token looks at."""
    relation_heads: int = 16
    """Heads with which it looks; those of the tower."""
    relation_mlp_ratio: float = EVA_MLP_RATIO
    """Width of its MLPs, in widths of the tower."""
    relation_dropout: float = 0.5
    """Dropout inside its MLPs."""
    train_qformer: bool = False
    """Whether the Q-Former and its own queries are trained too. Published, they are BLIP-2's and stay so."""


@dataclass(frozen=True, slots=True)
class VideoCocaOptions:
    """VideoCoCa (Yan et al., 2022)."""

    num_queries: int = 256
    """Queries of the pooler, which are the tokens that a clip becomes."""
    num_heads: int = 8
    """Heads of the pooler; open_clip's number."""


@dataclass(frozen=True, slots=True)
class AveragePoolOptions:
    """A floor."""

    side: int = 5
    """The patches of a frame are averaged to a square of this many tokens a side."""


OPTIONS: dict[str, type] = {
    TOMEFORMER: NoOptions,
    "blip2": Blip2Options,
    "video_llama": VideoLlamaOptions,
    "videochat": VideoChatOptions,
    "video_coca": VideoCocaOptions,
    "linear": NoOptions,
    "average_pool": AveragePoolOptions,
}
CONNECTORS = tuple(OPTIONS)
_FRAME_BY_FRAME = (TOMEFORMER, "blip2", "linear", "average_pool")
_KINDS = {int: "a whole number, at least 1", float: "a number, at least 0", bool: "true or false"}


def is_frame_by_frame(connector: str, given: Mapping[str, Any]) -> bool:
    """Whether a connector takes each frame on its own, so that `fusion` says how frames become one."""
    return connector in _FRAME_BY_FRAME and given.get("all_frames") is not True


def problems_of_options(connector: str, given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the options given to a connector: unknown names and wrong values."""
    defaults = asdict(OPTIONS[connector]())
    unknown = sorted(map(str, given.keys() - defaults.keys()))
    allowed = f"it has {', '.join(defaults)}" if defaults else "it has none"
    problems = [f"connector_options.{name} is not an option of connector={connector}; {allowed}" for name in unknown]
    problems += [
        f"connector_options.{name} is {given[name]!r}; it must be {_KINDS[type(default)]}"
        for name, default in defaults.items()
        if name in given and not _fits(given[name], default)
    ]
    dropout = given.get("relation_dropout")
    if "relation_dropout" in defaults and isinstance(dropout, int | float) and dropout >= 1:
        problems.append(f"connector_options.relation_dropout is {dropout}; it must be below 1")
    return problems


def make_options(connector: str, given: Mapping[str, Any]) -> Any:
    """The options of a connector, in its own dataclass."""
    names = {field.name for field in fields(OPTIONS[connector])}
    return OPTIONS[connector](**{name: value for name, value in given.items() if name in names})


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, int) and value >= 1
    return isinstance(value, int | float) and 0 <= value < float("inf")
