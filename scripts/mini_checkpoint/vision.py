"""Trains the vision tower: a tiny ViT, on stills, without any caption.

It stands for CLIP's. Dense supervision makes it train in minutes: the content of each patch and the position of its
object; the background; and the pairs of shape and colour in the image. The prediction heads are discarded.
"""

import logging
import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import Tensor, nn
from torch.nn import functional as F

from evlvideo.files import write_json
from evlvideo.mini.render import WHOLE_VIEW, View, item_masks, render_still
from evlvideo.mini.world import BACKGROUNDS, COLOURS, SHAPES, SYMMETRY_DEGREES, Item, Scene, items_at, sample_scene
from mini_checkpoint.common import muon_and_adamw, pooled_batches, rounded, update, warm_up_and_cosine

IMAGE_SIZE = 64
PATCH = 8
GRID = IMAGE_SIZE // PATCH
TOWER_NAME = "vit_tiny_r_s16_p8_224"
"""A ViT behind one strided convolution and a pooling, without which shapes take several times as long to learn."""
TOWER_OVERRIDES = {
    "img_size": IMAGE_SIZE,
    "patch_size": PATCH // 4,  # in the features behind the convolution and the pooling, a quarter of each side
    "embed_dim": 96,
    "depth": 4,
    "num_heads": 4,
    "num_classes": 0,
}
NOTHING = 0
"""Class of a patch without an object; shapes and colours count from 1."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Still:
    """An image and what is in it, by patch (row by row) and as a whole."""

    picture: np.ndarray
    """uint8 (size, size, 3)."""
    shapes: np.ndarray
    """int64 (patches): 0 for nothing, else 1 + index."""
    colours: np.ndarray
    """int64 (patches): 0 for nothing, else 1 + index."""
    geometry: np.ndarray
    """float32 (patches, 5): offset to the object's centre (across, down), radius, sine and cosine of its tilt."""
    oriented: np.ndarray
    """bool (patches): whether the tilt can be seen."""
    cover: np.ndarray
    """float32 (patches, pixels of a patch): how much of each pixel is an object."""
    background: int
    present: np.ndarray
    """float32 (shapes x colours): 1 for each pair in the image."""


def random_view(rng: random.Random) -> View:
    """Sample a view: the whole image, or a random crop of at least half its area."""
    if rng.random() < 0.4:
        return WHOLE_VIEW
    area, aspect = rng.uniform(0.5, 1.0), rng.uniform(0.85, 1.18)
    width, height = min(1.0, math.sqrt(area * aspect)), min(1.0, math.sqrt(area / aspect))
    return rng.uniform(0, 1 - width), rng.uniform(0, 1 - height), width, height


def draw_still(rng: random.Random) -> Still:
    """Render a random scene at a random moment, whole or in part, with its labels."""
    scene, moment, view = sample_scene(rng), rng.random(), random_view(rng)
    items = items_at(scene, moment)
    shapes, colours = np.zeros(GRID**2, np.int64), np.zeros(GRID**2, np.int64)
    geometry, oriented = np.zeros((GRID**2, 5), np.float32), np.zeros(GRID**2, bool)
    present = np.zeros(len(SHAPES) * len(COLOURS), np.float32)
    masks = [by_patch(mask) for mask in item_masks(scene, IMAGE_SIZE, moment, view)]
    shares = [mask.mean(axis=1) for mask in masks]
    cover = np.max(masks, axis=0) if masks else np.zeros((GRID**2, PATCH**2), np.float32)
    for index, item in enumerate(items):
        shape, colour = SHAPES.index(item.shape), COLOURS.index(item.colour)
        here = (shares[index] > 0.12) & (shares[index] >= np.max(shares, axis=0))
        shapes[here], colours[here] = 1 + shape, 1 + colour
        geometry[here] = patch_geometry(scene, item, view)[here]
        oriented[here] = item.shape in SYMMETRY_DEGREES
        present[shape * len(COLOURS) + colour] = float(shares[index].sum() > 1)
    picture = render_still(scene, IMAGE_SIZE, moment, view)
    return Still(picture, shapes, colours, geometry, oriented, cover, BACKGROUNDS.index(scene.background), present)


def by_patch(mask: np.ndarray) -> np.ndarray:
    """Reshape (size, size) to (patches, pixels of a patch)."""
    return mask.reshape(GRID, PATCH, GRID, PATCH).transpose(0, 2, 1, 3).reshape(GRID**2, PATCH**2)


def patch_geometry(scene: Scene, item: Item, view: View) -> np.ndarray:
    """Compute the geometry (patches, 5) of :class:`Still`; distances are shares of the shown image."""
    left, top, width, height = view
    down, across = np.divmod(np.arange(GRID**2), GRID)
    turns = 2 * math.pi * item.tilt_degrees / SYMMETRY_DEGREES.get(item.shape, 360)
    values = (
        (item.x - left) / width - (across + 0.5) / GRID,
        (item.y - top) / height - (down + 0.5) / GRID,
        item.radius * min(scene.width, scene.height) / (scene.width * width),
        math.sin(turns),
        math.cos(turns),
    )
    return np.stack([np.broadcast_to(value, GRID**2) for value in values], axis=1).astype(np.float32)


def normalised(pictures: list[np.ndarray]) -> Tensor:
    """Convert uint8 images (H, W, 3) to float32 (B, 3, H, W), normalised by CLIP's mean and standard deviation."""
    values = torch.from_numpy(np.stack(pictures)).float().div_(255).permute(0, 3, 1, 2)
    return (values - torch.tensor(OPENAI_CLIP_MEAN).view(3, 1, 1)) / torch.tensor(OPENAI_CLIP_STD).view(3, 1, 1)


class DenseHeads(nn.Module):
    """Prediction heads for training the vision tower; discarded afterwards."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.patch = nn.Linear(dim, 1 + len(SHAPES) + 1 + len(COLOURS) + 5 + PATCH**2)
        self.whole = nn.Linear(dim, len(BACKGROUNDS) + len(SHAPES) * len(COLOURS))

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Map tokens (B, 1 + patches, D) to shapes, colours, geometry and cover of patches; background and pairs."""
        whole = self.whole(tokens[:, 0]).split([len(BACKGROUNDS), len(SHAPES) * len(COLOURS)], dim=-1)
        patch = self.patch(tokens[:, 1:]).split([1 + len(SHAPES), 1 + len(COLOURS), 5, PATCH**2], dim=-1)
        return (*patch, *whole)


def stacked(stills: list[Still], field: str) -> Tensor:
    """Stack one field of all stills, (B, …)."""
    return torch.from_numpy(np.stack([getattr(still, field) for still in stills]))


def dense_loss(predicted: tuple[Tensor, ...], stills: list[Still]) -> Tensor:
    """Sum the cross-entropies and distances of all heads."""
    shapes, colours, geometry, cover, background, pairs = predicted
    objects = stacked(stills, "shapes") != NOTHING
    away = (geometry - stacked(stills, "geometry")).abs()
    return (
        F.cross_entropy(shapes.flatten(0, 1), stacked(stills, "shapes").flatten())
        # Few patches hold an object, and shapes are hard to learn.
        + 2 * F.cross_entropy(shapes[objects], stacked(stills, "shapes")[objects])
        + F.cross_entropy(colours.flatten(0, 1), stacked(stills, "colours").flatten())
        + 2 * away[..., :3][objects].mean()
        + 0.5 * away[..., 3:][stacked(stills, "oriented")].mean()
        + 2 * F.binary_cross_entropy_with_logits(cover, stacked(stills, "cover"))
        + F.cross_entropy(background, torch.tensor([still.background for still in stills]))
        + 20 * F.binary_cross_entropy_with_logits(pairs, stacked(stills, "present"))
    )


def dense_accuracies(predicted: tuple[Tensor, ...], stills: list[Still]) -> dict[str, float]:
    """Compute accuracies on patches with an object, of the background, and of all pairs in an image."""
    shapes, colours, geometry, _, background, pairs = predicted
    objects = stacked(stills, "shapes") != NOTHING
    right_pairs = (pairs > 0) == (stacked(stills, "present") > 0)
    away = (geometry - stacked(stills, "geometry"))[..., :2][objects].norm(dim=-1)
    measured = {
        "patch_shape": (shapes.argmax(-1) == stacked(stills, "shapes"))[objects],
        "patch_colour": (colours.argmax(-1) == stacked(stills, "colours"))[objects],
        "patch_has_object": (shapes.argmax(-1) != NOTHING) == objects,
        "background": background.argmax(-1) == torch.tensor([still.background for still in stills]),
        "all_pairs_of_picture": right_pairs.all(dim=-1),
        "centre_distance": away,
    }
    return {name: value.float().mean().item() for name, value in measured.items()}


def create_tower() -> nn.Module:
    """Create a ViT with sine and cosine positions, and matrices initialised to preserve the scale of activations."""
    vit = timm.create_model(TOWER_NAME, pretrained=False, **TOWER_OVERRIDES)
    for name, weight in vit.named_parameters():
        if name.startswith("blocks") and weight.ndim == 2:
            nn.init.xavier_uniform_(weight)
    quarter = vit.embed_dim // 4
    angles = torch.arange(GRID)[:, None] * 1.5 / 40 ** (torch.arange(quarter) / quarter)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (GRID, D / 2)
    down, across = waves[:, None].expand(-1, GRID, -1), waves[None].expand(GRID, -1, -1)
    with torch.no_grad():
        vit.pos_embed[0, vit.num_prefix_tokens :] = 0.7 * torch.cat([down, across], dim=-1).flatten(0, 1)
    return vit


def train_vision_tower(out: Path, steps: int, seed: int = 0, batch: int = 64, pool: int = 4096) -> dict[str, float]:
    """Train a tiny ViT to predict the content of each patch; write it to `out`/vision_tower without the heads."""
    torch.manual_seed(seed)
    vit = create_tower()
    both = nn.ModuleDict({"vit": vit, "heads": DenseHeads(vit.embed_dim)}).train()
    optimizers = muon_and_adamw(both, "vit.blocks.", 6e-3, 3e-3)
    schedules = [warm_up_and_cosine(optimizer, steps) for optimizer in optimizers]
    rng = random.Random(f"checkpoint/vision/{seed}")
    batches = pooled_batches(lambda: draw_still(rng), rng, batch, pool)
    for step in range(steps):
        stills = next(batches)
        predicted = both["heads"](vit.forward_features(normalised([still.picture for still in stills])))
        loss = dense_loss(predicted, stills)
        update(loss, both, optimizers, schedules)
        if step % 100 == 0 or step == steps - 1:
            accuracies = dense_accuracies(predicted, stills)
            log.info("vision tower, step %d of %d: loss %.3f, %s", step, steps, loss.item(), rounded(accuracies))
    both.eval()
    held_out = random.Random(f"checkpoint/vision/held-out/{seed}")
    stills = [draw_still(held_out) for _ in range(max(batch, 500))]
    with torch.no_grad():
        predicted = both["heads"](vit.forward_features(normalised([still.picture for still in stills])))
    folder = out / "vision_tower"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.half().contiguous() for name, value in vit.state_dict().items()}, folder / "model.safetensors"
    )
    write_json(folder / "config.json", {"architecture": TOWER_NAME, "overrides": TOWER_OVERRIDES})
    return dense_accuracies(predicted, stills)
