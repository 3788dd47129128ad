"""What a connector is, and what it tells of itself.

Notation of all connectors: `B` clips, `T` frames, `N` tokens of a frame (class token and patches), `D` channels of the
tower, `M` tokens out, `H` channels out, `Q` queries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import BertConfig

from evlvideo.errors import UserError

_KINDS = {
    int: "a whole number, at least 1",
    float: "a number, at least 0",
    bool: "true or false",
    type(None): "a whole number, at least 1, or null",
}
"""What an option may be, by the type of its default."""


@dataclass(frozen=True, slots=True)
class TowerShape:
    """What a connector has to know of the vision tower."""

    dim: int
    """Channels `D` of a token."""
    num_tokens: int
    """Tokens `N` of a frame."""
    grid: tuple[int, int]
    """Rows and columns of a frame's patches, the last tokens of the frame."""
    class_token: bool
    """Whether the first token is a class token."""

    @property
    def num_patches(self) -> int:
        """Patches of a frame."""
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True, slots=True)
class NoOptions:
    """Options of a connector that has none."""


class BlockReader(nn.Module):
    """Reads the outputs of the tower's last blocks and adds a clip token to the tower's tokens.

    The captioner keeps it in the tower, as `video_relations`.
    """

    num_blocks: int
    """How many of the last blocks it reads."""

    def init_weights(self) -> None:
        """Initialise; called after all modules have their random weights."""
        raise NotImplementedError

    def forward(self, blocks: Sequence[Tensor]) -> Tensor:
        """Outputs of the last blocks in their order, each `(B, T, N, D)` → the clip token, `(B, 1, D)`."""
        raise NotImplementedError


class Connector(nn.Module):
    """From the tower's normalised tokens to the input of the language projection.

    Args of every connector:
        bert: sizes and dropout.
        tower: shape of the vision tower.
        options: an instance of `options_class`.
        settings: the keys of the architecture that the class names in `settings`, by keyword.
    """

    options_class: ClassVar[type] = NoOptions
    """Dataclass of `connector_options`. Its defaults are the published values."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Keys of :class:`~evlvideo.models.configuration.EvlVideoConfig` that its constructor takes by keyword."""
    merges_tokens: ClassVar[bool] = False
    """Whether it takes `merge_r` or `merge_to`, `merge_reduction` and `contextualizer=merged`."""
    has_dropout: ClassVar[bool] = False
    """Whether its layers have the dropout of `bert_config`, in training."""
    needs_grid: ClassVar[bool] = False
    """Whether it needs every patch of a frame, in its place."""
    reads_blocks: ClassVar[bool] = False
    """Whether it has a :class:`BlockReader`, so that stored features cannot replace frames."""

    output_dim: int
    """Channels `H` of an output token."""

    @classmethod
    def takes_single_frames(cls, options: Any) -> bool:
        """Whether each frame is taken on its own, so that `fusion` says how frames become one."""
        return True

    @classmethod
    def frozen_weights(cls, options: Any) -> tuple[str, ...]:
        """Prefixes of the captioner's weights outside the towers that stay frozen, as published."""
        return ()

    @classmethod
    def problems(cls, bert: BertConfig, options: Any, settings: Mapping[str, Any]) -> list[str]:
        """List what is wrong with values that have the right types.

        Args:
            bert: sizes.
            options: an instance of `options_class`.
            settings: keys of the architecture that the class names in `settings`.
        """
        return []

    @classmethod
    def make_block_reader(cls, tower: TowerShape, options: Any) -> BlockReader | None:
        """Make what reads the tower's last blocks; only if `reads_blocks`."""
        return None

    def forward(self, x: Tensor) -> Tensor:
        """Normalised tokens `(B, T, N, D)` → `(B, T, M, H)`, or `(B, 1, M, H)` if all frames are taken together."""
        raise NotImplementedError

    def num_output_tokens(self, num_tokens: int) -> int:
        """`M` for `N = num_tokens`."""
        raise NotImplementedError

    def load_bert(self, name: str) -> None:
        """Initialise in place from a BERT checkpoint, by hub name or folder.

        Raises:
            UserError: there is no such checkpoint, its sizes differ, or the connector does not start from a BERT.
        """
        raise UserError(
            f"connector_init starts a connector from the BERT {name!r}, and {type(self).__name__} does not start from "
            "one; set connector_init to null, or use a connector that does, such as tomeformer."
        )

    def train(self, mode: bool = True) -> "Connector":
        """Set the mode; frozen parts stay in eval mode, without dropout."""
        super().train(mode)
        for part in self.children():
            weights = list(part.parameters())
            if weights and not any(weight.requires_grad for weight in weights):
                part.train(False)
        return self


def make_options(connector: type[Connector], given: Mapping[str, Any]) -> Any:
    """Make the options of a connector; names that it does not have are left out."""
    names = {field.name for field in fields(connector.options_class)}
    return connector.options_class(**{name: value for name, value in given.items() if name in names})


def problems_of_options(connector: type[Connector], name: str, given: Mapping[str, Any]) -> list[str]:
    """List unknown options and values of the wrong type.

    Args:
        connector: the class.
        name: its name in configs.
        given: `connector_options`.
    """
    defaults = asdict(connector.options_class())
    unknown = sorted(map(str, given.keys() - defaults.keys()))
    allowed = f"it has {', '.join(defaults)}" if defaults else "it has none"
    problems = [f"connector_options.{option} is not an option of connector={name}; {allowed}" for option in unknown]
    return problems + [
        f"connector_options.{option} is {given[option]!r}; it must be {_KINDS[type(default)]}"
        for option, default in defaults.items()
        if option in given and not _fits(given[option], default)
    ]


def check_heads(heads: int, width: int, connector: str) -> list[str]:
    """List the problem of a width that is not a multiple of the heads."""
    if heads > 0 and width % heads == 0:
        return []
    return [f"bert_config.hidden_size is {width}, not a multiple of the {heads} heads of connector={connector}"]


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if default is None and value is None:
        return True
    if default is None or isinstance(default, int):
        return isinstance(value, int) and value >= 1
    return isinstance(value, int | float) and 0 <= value < float("inf")
