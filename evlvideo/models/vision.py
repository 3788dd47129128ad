"""The frozen vision tower: a timm ViT by name, run block by block.

Notation: `B` clips, `T` frames, `N` tokens of a frame (prefix tokens and patches), `D` channels.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

from evlvideo.errors import UserError
from evlvideo.models.blocks.families import FAMILIES, POST_NORM, PRE_NORM, block_is_post_norm, stem
from evlvideo.models.blocks.prunable_towers import TimmTower
from evlvideo.models.blocks.pruned_encoding import Encoding, Guide, Pruning, class_tokens, encode_pruned
from evlvideo.models.blocks.pruning_guide import PruningGuide
from evlvideo.models.blocks.pruning_options import NEEDS_FRAMES
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors.base import TowerShape
from evlvideo.models.gradient_checkpointing import Checkpoint
from evlvideo.models.precision import autocast_by, in_own_precision
from evlvideo.models.tokens.contextualizers import InTowerContextualizer
from evlvideo.models.tokens.pruning import tokens_by_block


def check_takes_features(config: EvlVideoConfig, *, trains_tower: bool, training: bool) -> None:
    """Check that stored outputs of the tower can stand for frames.

    Args:
        config: the architecture.
        trains_tower: whether something inside the tower is trained: its weights, contextualizers or relations.
        training: whether the model is in training mode.

    Raises:
        UserError: something inside the tower is trained, or captions depend on a first draft.
    """
    if trains_tower:
        raise UserError(
            "The model trains inside the vision tower, its weights, contextualizers or relations, so that stored "
            "features are not its own; give it frames (data.features=null)."
        )
    if config.drafts and not training:
        raise UserError(f"{NEEDS_FRAMES}.")


def _run_block(block: Any, x: Tensor, *, frames: int, positions: dict[str, Any]) -> Tensor:
    """Run a block, with its contextualizer, if it has one, between attention and MLP: `(B·T, N, D)` → the same."""
    if not hasattr(block, "temporal_merge"):
        output: Tensor = block(x, **positions)
        return output
    attention = _attention(block, x, **positions)
    stream = (x + attention).unflatten(0, (-1, frames))  # (B, T, N, D)
    # The tower may be in half precision, and what is trained is in float32.
    context = block.temporal_merge(stream.to(block.temporal_merge.alpha.dtype)).flatten(0, 1)
    # Another order would round differently, and change what trained models compute.
    x = x + (attention + context.to(attention.dtype))
    return x + _mlp(block, x)


def _attention(block: Any, x: Tensor, **positions: Any) -> Tensor:
    """Compute what a block's attention adds to its input."""
    if block_is_post_norm(block):
        return block.norm1(block.attn(x, **positions))
    return _scaled(block.attn(block.norm1(x), **positions), block.ls1 if hasattr(block, "ls1") else block.gamma_1)


def _mlp(block: Any, x: Tensor) -> Tensor:
    """Compute what a block's MLP adds to the tokens after attention."""
    if block_is_post_norm(block):
        return block.norm2(block.mlp(x))
    return _scaled(block.mlp(block.norm2(x)), block.ls2 if hasattr(block, "ls2") else block.gamma_2)


def _scaled(branch: Tensor, scale: nn.Module | Tensor | None) -> Tensor:
    """Apply layer scale: a module in ViTs; a vector, or None, in EVA and BEiT."""
    if scale is None:
        return branch
    return scale(branch) if isinstance(scale, nn.Module) else scale * branch


class VisionTower(nn.Module):
    """A timm ViT, `(B, T, 3, height, width)` → `(B, T, N, D)`, frozen unless the captioner says otherwise.

    By itself it is in eval mode and its weights take no gradient. Contextualizers in its blocks and video relations
    are trained.

    Modifications: timm's blocks run in a loop, which adds contextualizers between attention and MLP, lets relations
    read the last blocks, and checkpoints gradients in eval mode too. Names of weights stay timm's.

    Args:
        name: timm's name of the model, of one of these families: VisionTransformer (DeiT, CLIP, SigLIP, DINOv2 …), Eva
            (also DINOv3, Perception Encoder), Beit, VisionTransformerRelPos.
        overrides: arguments for `timm.create_model`, such as `depth` or `img_size`.
        final_norm: whether to keep the tower's last norm. EVLGen's tower has none.
        image_mean: mean of each channel, with pixels from 0 to 1, to normalise uint8 frames by. Defaults to timm's for
            the model.
        image_std: standard deviation of each channel, likewise.

    Raises:
        UserError: timm cannot make the model, it is of another family, does not embed patches directly, or takes
            images that are not square.
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
            vit = timm.create_model(name, pretrained=False, **{"num_classes": 0, **(overrides or {})})
        except (RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"timm cannot make the vision tower {name!r} with {overrides or {}}: {error}") from error
        if not isinstance(vit, FAMILIES):
            families = ", ".join(family.__name__ for family in FAMILIES)
            raise UserError(
                f"The vision tower {name!r} is not a ViT of a family that can be run block by block: it is timm's "
                f"{type(vit).__name__}; name a model of {families}, such as vit_base_patch16_clip_224."
            )
        self.vit = vit
        self._check_patches(name)
        if not final_norm:
            self.vit.norm = nn.Identity()
        self.image_mean = tuple(image_mean or self.vit.pretrained_cfg["mean"])
        self.image_std = tuple(image_std or self.vit.pretrained_cfg["std"])
        self.video_relations: nn.Module | None = None
        self._blocks_to_relate = 0
        self._pruning: Pruning | None = None
        self.pruning_guide: PruningGuide | None = None
        self._checkpoint: Checkpoint | None = None
        self._checkpoint_every = 1
        self.computed_in: torch.dtype | None = None
        """What it computes in, if its first weights are trained and so in float32. If None, their type."""
        self.vit.requires_grad_(False)
        self.eval()

    def _check_patches(self, name: str) -> None:
        """Refuse stems that give other patches than a square grid of known size."""
        patches = self.vit.patch_embed
        if not hasattr(getattr(patches, "proj", None), "weight"):
            raise UserError(
                f"The vision tower {name!r} is not a plain ViT: its patches come from timm's "
                f"{type(patches).__name__}; name a ViT that embeds patches directly, such as "
                "vit_base_patch16_clip_224."
            )
        height, width = patches.img_size
        if height != width:
            raise UserError(
                f"The vision tower {name!r} takes images of {height}×{width} pixels, and frames are square here; set "
                f"vision_overrides.img_size, such as {min(height, width)}, or name another tower."
            )

    @classmethod
    def from_config(cls, config: EvlVideoConfig) -> "VisionTower":
        """Make the tower that an architecture names, with its in-tower contextualizers, if any."""
        tower = cls(
            config.vision_tower,
            overrides=config.vision_overrides,
            final_norm=config.vision_final_norm,
            image_mean=config.image_mean,
            image_std=config.image_std,
        )
        if config.tower_pruning is not None:
            tower.prune(config.tower_pruning, config.make_pruning_guide(tower.dim))
        if config.contextualizer == "in_tower":
            tower.insert_contextualizers(
                config.contextualizer_blocks,
                lambda: InTowerContextualizer(
                    tower.dim,
                    attention_dim=config.contextualizer_attention_dim,
                    num_heads=config.contextualizer_heads,
                    max_frames=config.max_frames if config.frame_positions else None,
                ),
            )
        return tower

    @property
    def dtype(self) -> torch.dtype:
        """Type of the frozen weights, of the computation, and of the tokens."""
        return self.computed_in or self._weight.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._weight.device

    @property
    def _weight(self) -> Tensor:
        weight: Tensor = self.vit.patch_embed.proj.weight
        return weight

    def autocast(self) -> AbstractContextManager[Any]:
        """Autocast to the tower's type, for the tower and the captioner around it."""
        return autocast_by(self._weight, self.computed_in)

    @property
    def dim(self) -> int:
        """Channels `D` of a token."""
        return int(self.vit.embed_dim)

    @property
    def has_class_token(self) -> bool:
        """Whether token 0 is a class token."""
        # The prefix of some towers is registers alone.
        return self.vit.cls_token is not None

    @property
    def image_size(self) -> int:
        """Height and width of a frame, in pixels."""
        return int(self.vit.patch_embed.img_size[0])

    @property
    def num_tokens(self) -> int:
        """Tokens `N` of a frame, after pruning."""
        patches, prefix = int(self.vit.patch_embed.num_patches), int(self.vit.num_prefix_tokens)
        if self._pruning is None:
            return patches + prefix
        depth, fold = len(self.vit.blocks), self._pruning.fold
        return tokens_by_block(self._pruning.schedule, depth, patches, prefix, fold=fold)[-1]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a frame's patches."""
        rows, columns = self.vit.patch_embed.grid_size
        return int(rows), int(columns)

    @property
    def shape(self) -> TowerShape:
        """What connectors have to know."""
        return TowerShape(self.dim, self.num_tokens, self.grid, self.has_class_token)

    @property
    def has_contextualizers(self) -> bool:
        """Whether any block has a contextualizer."""
        return any(hasattr(block, "temporal_merge") for block in self.vit.blocks)

    def prune(self, pruning: Pruning, guide: PruningGuide | None = None) -> None:
        """Prune every frame's tokens on the way through the blocks.

        Args:
            pruning: how.
            guide: what guides, if it is not the class token alone.

        Raises:
            UserError: the schedule does not fit the tower, or its patches cannot be scored.
        """
        pruning.schedule.check_depth(len(self.vit.blocks))
        pruning.schedule.kept_patches(int(self.vit.patch_embed.num_patches))
        TimmTower(self.vit)
        self._pruning, self.pruning_guide = pruning, guide

    @in_own_precision
    def encode_pruned(self, pixel_values: Tensor, guide: Tensor | None = None) -> Encoding:
        """Encode every frame of clips with what each prune kept, for pictures; arguments as of :meth:`forward`."""
        assert self._pruning is not None, "the tower prunes nothing"
        images = self._images(pixel_values)
        return encode_pruned(TimmTower(self.vit), images, self._guide(guide, pixel_values.shape[1]), self._pruning)

    @torch.no_grad()
    @in_own_precision
    def class_tokens(self, pixel_values: Tensor) -> Tensor:
        """Run the tower whole, and return the class tokens of every frame before each prune, and after the last block.

        Args:
            pixel_values: as in :meth:`forward`.

        Returns:
            `(B, T, J + 1, D)` for `J` prunes, in float32.
        """
        assert self._pruning is not None, "the tower prunes nothing"
        found = class_tokens(TimmTower(self.vit), self._images(pixel_values), self._pruning.schedule.begin)
        return found.unflatten(0, pixel_values.shape[:2]).float()

    def _guide(self, guide: Tensor | None, frames: int) -> Guide | None:
        """Return what guides the prunes of frames; `guide` is of clips, `(B, D)`."""
        if guide is not None:
            return guide.repeat_interleave(frames, dim=0)
        own = self.pruning_guide
        return own if own is not None and own.kind != "draft" and own.is_fitted else None

    def insert_relations(self, relations: nn.Module, count: int) -> None:
        """Let a module read the outputs of the last blocks, which stay as they are.

        Args:
            relations: maps the outputs of `count` blocks, each `(B, T, N, D)`, to a token of the clip, `(B, 1, D)`,
                which is appended to the tokens of every frame.
            count: how many of the last blocks.

        Raises:
            UserError: there are fewer blocks.
        """
        depth = len(self.vit.blocks)
        if count > depth:
            raise UserError(f"relation_blocks is {count}; the tower has {depth} blocks.")
        self.video_relations = relations
        self._blocks_to_relate = count

    def insert_contextualizers(
        self, blocks: Sequence[int] | None, make_contextualizer: Callable[[], InTowerContextualizer]
    ) -> None:
        """Put a contextualizer between attention and MLP of the chosen blocks.

        Args:
            blocks: their indices, from 0. If None, all blocks.
            make_contextualizer: makes one of the tower's width; called once a block.

        Raises:
            UserError: there is no such block, or the tower's blocks have no MLP after attention.
        """
        depth = len(self.vit.blocks)
        for index in range(depth) if blocks is None else sorted(set(blocks)):
            if not 0 <= index < depth:
                raise UserError(f"contextualizer_blocks names block {index}; the tower has blocks 0 to {depth - 1}.")
            block = self.vit.blocks[index]
            if not isinstance(block, PRE_NORM + POST_NORM):
                raise UserError(
                    f"The tower's {type(block).__name__} has no place between attention and MLP; use "
                    "contextualizer=merged, or a ViT whose attention and MLP run one after the other."
                )
            block.temporal_merge = make_contextualizer()

    def checkpoint_blocks(self, checkpoint: Checkpoint | None, *, every: int = 1) -> None:
        """Keep only the input of every `every`-th block for the backward pass. If None, keep all activations."""
        self._checkpoint, self._checkpoint_every = checkpoint, every

    def train(self, mode: bool = True) -> "VisionTower":
        """Set the mode of the relations. The tower stays in eval mode; the captioner sets what is trained of it."""
        super().train(False)
        if self.video_relations is not None:
            self.video_relations.train(mode)
        return self

    @in_own_precision
    def forward(self, pixel_values: Tensor, guide: Tensor | None = None) -> Tensor:
        """Encode clips.

        Args:
            pixel_values: frames, `(B, T, 3, height, width)`: uint8, to be normalised here, or float, already
                normalised.
            guide: features of a text for each clip that guide pruning, `(B, D)`. Defaults to the tower's own guide; it
                means nothing to a tower that prunes nothing.

        Returns:
            tokens after the last block (and the final norm, if kept), `(B, T, N, D)`, in the tower's type. With
            relations `(B, T, N + 1, D)`: the last token is that of the clip, the same in every frame.

        Raises:
            UserError: the input has another number of dimensions.
        """
        images = self._images(pixel_values)
        batch, frames = pixel_values.shape[:2]
        # If nothing in the tower is trained, keeping its activations would be waste.
        trains = any(weight.requires_grad for weight in self.vit.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and trains):
            tokens, outputs = self._run(images, frames, guide)
        # On a GPU, a norm gives float32 under autocast.
        tokens = tokens.to(self.dtype).unflatten(0, (batch, frames))
        if self.video_relations is None:
            return tokens
        clip = self.video_relations([output.unflatten(0, (batch, frames)) for output in outputs])  # (B, 1, D)
        return torch.cat([tokens, clip.to(tokens.dtype).unsqueeze(1).expand(-1, frames, -1, -1)], dim=2)

    def _images(self, pixel_values: Tensor) -> Tensor:
        """Clips' frames `(B, T, 3, height, width)` to what the tower reads, `(B·T, 3, height, width)`."""
        if pixel_values.dim() != 5:
            raise UserError(
                f"pixel_values has shape {tuple(pixel_values.shape)}; it must be (batch, frames, channels, height, "
                "width). An image is a video of one frame."
            )
        return self._normalised(pixel_values).flatten(0, 1).to(self.dtype)

    def _run(self, images: Tensor, frames: int, guide: Tensor | None) -> tuple[Tensor, Sequence[Tensor]]:
        """Images `(B·T, 3, height, width)` to tokens and the outputs of the blocks to relate, each `(B·T, N, D)`."""
        if self._pruning is not None:
            own = self._guide(guide, frames)
            return encode_pruned(TimmTower(self.vit), images, own, self._pruning).tokens, ()
        x, positions = stem(self.vit, images)
        outputs: deque[Tensor] = deque(maxlen=self._blocks_to_relate)
        checkpoint = self._checkpoint if torch.is_grad_enabled() else None
        for index, block in enumerate(self.vit.blocks):
            run = partial(_run_block, block, frames=frames, positions=positions[index])
            x = run(x) if checkpoint is None or index % self._checkpoint_every else checkpoint(run, x)
            outputs.append(x)
        return self.vit.norm(x), outputs

    def _normalised(self, pixel_values: Tensor) -> Tensor:
        if pixel_values.dtype != torch.uint8:
            return pixel_values
        images = pixel_values.float().div_(255)
        # Numbers, not tensors: they need no device, and keep their precision in a half-precision model.
        for channel, (mean, std) in enumerate(zip(self.image_mean, self.image_std, strict=True)):
            images.select(-3, channel).sub_(mean).div_(std)
        return images
