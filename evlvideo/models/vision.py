"""The frozen vision tower: any timm ViT by name, where contextualizers sit in its blocks, and what is read of them.

Notation: `B` clips, `T` frames, `N` tokens of a frame (class token and patches), `D` channels.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import timm
import torch
from torch import Tensor, nn

from evlvideo.errors import UserError
from evlvideo.models.contextualizers import InTowerContextualizer
from evlvideo.models.gradient_checkpointing import Layer
from evlvideo.models.precision import autocast_by, in_own_precision


class _Insertion:
    """Adds a contextualizer's context to a block's stream after attention and its residual, before the MLP.

    A pre-norm block computes `x = x + drop_path1(attention branch)`. The stream after attention is thus the block's
    input plus what `drop_path1` returns, and adding the context to what it returns adds it to the stream, whatever
    the block does around it (layer scale, rotary positions). The block's code and its weights' names stay as they are.

    The block may run several times for one backward pass, with other clips between: what it is given, and how many
    frames that is, belongs to one run.
    """

    def __init__(self, block: Any, contextualizer: InTowerContextualizer) -> None:
        self.contextualizer = contextualizer
        self.frames = 1
        self._given: list[tuple[Tensor, int]] = []
        self._block_forward = block.forward
        block.forward = self.enter
        block.drop_path1.register_forward_hook(self.add)

    def enter(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the block."""
        return self.forward(x, *args, frames=self.frames, **kwargs)

    def forward(self, x: Tensor, *args: Any, frames: int, **kwargs: Any) -> Tensor:
        """Run the block on clips of so many frames, `(B·T, N, D)` → `(B·T, N, D)`."""
        self._given.append((x, frames))
        try:
            output: Tensor = self._block_forward(x, *args, **kwargs)
            return output
        finally:
            self._given.pop()

    def add(self, drop_path: nn.Module, arguments: tuple[Tensor, ...], attention: Tensor) -> Tensor:
        """The attention branch, with the context of the stream."""
        x, frames = self._given[-1]
        stream = (x + attention).unflatten(0, (-1, frames))  # (B, T, N, D)
        # The tower may be in half precision while what is trained is in float32.
        context = self.contextualizer(stream.to(self.contextualizer.alpha.dtype))
        return attention + context.flatten(0, 1).to(attention.dtype)


class _Reading:
    """Keeps what blocks give, in their order."""

    def __init__(self) -> None:
        self.outputs: list[Tensor] = []

    def note(self, block: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        self.outputs.append(output)


class VisionTower(nn.Module):
    """A frozen timm ViT, `(B, T, 3, height, width)` → `(B, T, N, D)`.

    It is in eval mode always and its weights take no gradient; contextualizers in its blocks do, and so do relations.

    Args:
        name: timm's name of the model.
        overrides: arguments for `timm.create_model`, such as `depth` or `img_size`.
        final_norm: whether the tower's last norm is kept. EVLGen's has none.
        image_mean: mean of each channel, with pixels from 0 to 1, by which uint8 frames are normalised; what timm says
            of the tower where nothing is given.
        image_std: standard deviation of each channel, likewise.
    """

    vit: Any

    def __init__(
        self,
        name: str,
        *,
        overrides: dict[str, Any] | None = None,
        final_norm: bool = True,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        try:
            self.vit = timm.create_model(name, pretrained=False, **{"num_classes": 0, **(overrides or {})})
        except (RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"timm cannot make the vision tower {name!r} with {overrides or {}}: {error}") from error
        if not hasattr(self.vit, "blocks") or not hasattr(self.vit, "num_prefix_tokens"):
            raise UserError(f"The vision tower {name!r} is not a ViT; name a timm model made of transformer blocks.")
        if not final_norm:
            self.vit.norm = nn.Identity()
        self.image_mean = tuple(image_mean or self.vit.pretrained_cfg["mean"])
        self.image_std = tuple(image_std or self.vit.pretrained_cfg["std"])
        self._insertions: dict[int, _Insertion] = {}
        self._reading = _Reading()
        self.video_relations: nn.Module | None = None
        self.vit.requires_grad_(False)
        self.eval()

    @property
    def dtype(self) -> torch.dtype:
        """Type in which the tower is kept, computes, and gives its tokens."""
        return self._weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the tower is."""
        return self._weight.device

    @property
    def _weight(self) -> Tensor:
        weight: Tensor = self.vit.patch_embed.proj.weight
        return weight

    def autocast(self) -> AbstractContextManager[Any]:
        """What the tower computes in, and the captioner around it."""
        return autocast_by(self._weight)

    @property
    def dim(self) -> int:
        """Channels `D` of a token."""
        return int(self.vit.embed_dim)

    @property
    def has_class_token(self) -> bool:
        """Whether the token at place 0 is a class token."""
        return bool(self.vit.num_prefix_tokens)

    @property
    def image_size(self) -> int:
        """Height and width of a frame, in pixels."""
        return int(self.vit.patch_embed.img_size[0])

    @property
    def num_tokens(self) -> int:
        """Tokens `N` of a frame."""
        return int(self.vit.patch_embed.num_patches + self.vit.num_prefix_tokens)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a frame's patches."""
        rows, columns = self.vit.patch_embed.grid_size
        return int(rows), int(columns)

    def insert_relations(self, relations: nn.Module, count: int) -> None:
        """Let a module read what the last blocks give; what they give to each other stays as it is.

        Args:
            relations: from what `count` blocks give, each `(B, T, N, D)`, to a token of the clip, `(B, 1, D)`, which is
                put behind the tokens of every frame.
            count: how many of the last blocks.

        Raises:
            UserError: there are fewer blocks.
        """
        depth = len(self.vit.blocks)
        if count > depth:
            raise UserError(f"relation_blocks is {count}; the tower has {depth} blocks.")
        self.video_relations = relations
        for block in self.vit.blocks[-count:]:
            block.register_forward_hook(self._reading.note)

    def insert_contextualizers(
        self, blocks: Sequence[int] | None, make_contextualizer: Callable[[], InTowerContextualizer]
    ) -> None:
        """Put a contextualizer between attention and MLP of the chosen blocks.

        Args:
            blocks: their numbers, from 0; all of them where `None`.
            make_contextualizer: makes one of the tower's width; called once a block.

        Raises:
            UserError: there is no such block, or the tower's blocks have no MLP after attention.
        """
        depth = len(self.vit.blocks)
        for number in range(depth) if blocks is None else sorted(set(blocks)):
            if not 0 <= number < depth:
                raise UserError(f"contextualizer_blocks names block {number}; the tower has blocks 0 to {depth - 1}.")
            block = self.vit.blocks[number]
            if not (hasattr(block, "drop_path1") and hasattr(block, "norm2") and hasattr(block, "mlp")):
                raise UserError(
                    f"The tower's {type(block).__name__} has no place between attention and MLP; use "
                    "contextualizer=merged, or a ViT whose blocks run one after the other."
                )
            block.temporal_merge = make_contextualizer()
            self._insertions[number] = _Insertion(block, block.temporal_merge)

    @property
    def layers(self) -> list[Layer]:
        """The blocks, each with what was put into it."""
        return [self._insertions.get(number, block) for number, block in enumerate(self.vit.blocks)]

    def train(self, mode: bool = True) -> "VisionTower":
        """Stay in eval mode: a frozen tower has no dropout and updates no statistics. What reads its blocks has."""
        super().train(False)
        if self.video_relations is not None:
            self.video_relations.train(mode)
        return self

    @in_own_precision
    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode clips.

        Args:
            pixel_values: frames, `(B, T, 3, height, width)`: uint8, which are normalised here, or float, which are
                taken to be normalised already.

        Returns:
            tokens after the last block (and its norm where kept), `(B, T, N, D)`; with relations `(B, T, N + 1, D)`,
            the last one that of the clip, the same in every frame. Of the tower's type.

        Raises:
            UserError: the input has another number of dimensions.
        """
        if pixel_values.dim() != 5:
            raise UserError(
                f"pixel_values has shape {tuple(pixel_values.shape)}; it must be (batch, frames, channels, height, "
                "width). An image is a video of one frame."
            )
        batch, frames = pixel_values.shape[:2]
        for insertion in self._insertions.values():
            insertion.frames = frames
        images = self._normalised(pixel_values).flatten(0, 1).to(self.dtype)
        self._reading.outputs.clear()
        # Without contextualizers nothing in the tower is trained, and keeping its activations would be waste.
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(self._insertions)):
            tokens = self.vit.forward_features(images)  # (B·T, N, D)
        # On a GPU, autocast leaves what comes out of a norm in float32.
        tokens = tokens.to(self.dtype).unflatten(0, (batch, frames))
        return tokens if self.video_relations is None else self._with_clip_token(tokens)

    def _normalised(self, pixel_values: Tensor) -> Tensor:
        if pixel_values.dtype != torch.uint8:
            return pixel_values
        images = pixel_values.float().div_(255)
        # Numbers, not tensors: they need no place on a device, and stay what they are in whatever type the model is.
        for channel, (mean, std) in enumerate(zip(self.image_mean, self.image_std, strict=True)):
            images.select(-3, channel).sub_(mean).div_(std)
        return images

    def _with_clip_token(self, tokens: Tensor) -> Tensor:
        assert self.video_relations is not None
        blocks = [output.unflatten(0, tokens.shape[:2]) for output in self._reading.outputs]
        self._reading.outputs.clear()
        token = self.video_relations(blocks).to(tokens.dtype)  # (B, 1, D)
        return torch.cat([tokens, token.unsqueeze(1).expand(-1, tokens.shape[1], -1, -1)], dim=2)
