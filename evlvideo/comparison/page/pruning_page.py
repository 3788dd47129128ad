"""Writes a page that shows which patches of clips a pre-trained model's pruning leaves, by what guides it.

Notation: `B` clips, `J` prunes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FunctionLoader, StrictUndefined
from torch import Tensor

from evlvideo.assembly.clips import read_clips
from evlvideo.assembly.datasets import video_dataset
from evlvideo.comparison.page.clip_media import PageImage, encode_png
from evlvideo.comparison.page.pruned_patches import paint_pruned
from evlvideo.config.vlp import VlpConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.splits import RETRIEVAL
from evlvideo.errors import UserError
from evlvideo.files import write_text
from evlvideo.inference.embed_run import ImageSize, open_run
from evlvideo.inference.embedding import refuse_bad
from evlvideo.models.blocks.prunable_towers import BlipTower, ClipTower, text_in_tower_width
from evlvideo.models.blocks.pruned_encoding import PrunableTower, encode_pruned
from evlvideo.models.tokens.pruning import patches_left
from evlvideo.models.vlp.hosts.clip import clip_text_features
from evlvideo.models.vlp.hosts.matching import MatchingHost
from evlvideo.models.vlp.hosts.words import tokenized
from evlvideo.models.vlp.images import Guidance, normalized, read_guidance

OWN, CLASS, ANOTHER = "own caption", "class token", "another caption"
_TEMPLATE = "pruning_page.html"


@dataclass(frozen=True, slots=True)
class GuidedPicture:
    """What is left of a frame after each prune."""

    title: str
    """What guided."""
    text: str
    """The caption, if one guided."""
    image: PageImage


@dataclass(frozen=True, slots=True)
class ClipPictures:
    """The pictures of a clip."""

    clip_id: str
    pictures: tuple[GuidedPicture, ...]


@torch.no_grad()
def write_pruning_page(
    run: Path, split: str, out: Path, *, clips: int = 8, overrides: list[str] | None = None
) -> dict[str, float]:
    """Draw what each prune leaves of the first frames of clips.

    They are guided by the clip's own first caption, by the class token alone, and by the caption of the next clip.

    Args:
        run: directory of a finished run of pre-training.
        split: the split.
        out: HTML file to write.
        clips: number of clips, at least 2, spread over the split.
        overrides: changes to the run's config, `key=value`, such as another schedule.

    Returns:
        guide → share of the patches left by the own caption at the last prune that it leaves, too.

    Raises:
        UserError: the run cannot be opened or prunes nothing, or there are too few clips.
    """
    config, host, tokenizer = open_run(run, overrides)
    guidance = read_guidance(config.model.pruning)
    if guidance is None:
        raise UserError(
            f"{run} was trained without pruning; name a run with model.pruning, or give one, as with "
            "--set model.pruning.preset=blip."
        )
    shown = _spread(read_clips(config.data, split, purpose=RETRIEVAL), clips, f"{config.data.dataset}:{split}")
    frames = _first_frames(config, shown)
    captions = [clip.captions[0] for clip in shown]
    tower, guides = _tower_and_guides(host, tokenized(tokenizer, captions, config.model.max_text_tokens))
    by_guide = {OWN: guides, CLASS: None, ANOTHER: guides.roll(-1, dims=0)}
    left = {title: _left(tower, frames, guide, guidance) for title, guide in by_guide.items()}
    texts = {OWN: captions, CLASS: [""] * clips, ANOTHER: [*captions[1:], captions[0]]}
    shared = {title: _shared(left[OWN][:, -1], of_guide[:, -1]) for title, of_guide in left.items()}
    pictures = [
        ClipPictures(
            clip.clip_id,
            tuple(_picture(title, texts[title][number], of_guide[number], frame) for title, of_guide in left.items()),
        )
        for number, (clip, frame) in enumerate(zip(shown, frames, strict=True))
    ]
    kept = [int(count) for count in left[OWN][0].sum(axis=(1, 2))]
    page = _environment().get_template(_TEMPLATE)
    facts = {"run": str(run), "split": f"{config.data.dataset}:{split}", "look_ahead": guidance.pruning.look_ahead}
    write_text(out, page.render(**facts, kept=kept, patches=left[OWN][0, 0].size, shared=shared, clips=pictures))
    return shared


def _spread(clips: Sequence[CaptionedClip], count: int, name: str) -> list[CaptionedClip]:
    """Choose clips evenly.

    Raises:
        UserError: there are too few.
    """
    if not 2 <= count <= len(clips):
        raise UserError(f"{count} clips are asked for; {name} can show 2 to {len(clips)}.")
    return [clips[number * len(clips) // count] for number in range(count)]


def _first_frames(config: VlpConfig, clips: Sequence[CaptionedClip]) -> Tensor:
    """Decode the first frame of each clip, uint8 `(B, 3, H, W)`."""
    dataset = video_dataset(config.data, ImageSize(config.model.image_size), clips)
    items = [dataset[number] for number in range(len(clips))]
    refuse_bad(items)
    return torch.stack([item["pixel_values"][0] for item in items])


def _tower_and_guides(host: Any, text: dict[str, Tensor]) -> tuple[PrunableTower, Tensor]:
    """Return the tower of a host, and the guides that texts give, `(B, C)`."""
    if isinstance(host, MatchingHost):
        return BlipTower(host.vision_model), host.text_states(**text)[:, 0]
    return ClipTower(host.vision_model), text_in_tower_width(clip_text_features(host, **text), host.visual_projection)


def _left(tower: PrunableTower, frames: Tensor, guide: Tensor | None, guidance: Guidance) -> np.ndarray:
    """Return which patches are left, booleans `(B, J, rows, columns)`."""
    images = normalized(frames)
    prunes = encode_pruned(tower, images, guide, guidance.pruning).prunes
    patches = tower.embed(images[:1]).shape[1] - tower.prefix
    side = int(patches**0.5)
    left: np.ndarray = patches_left(prunes, patches, tower.prefix).unflatten(-1, (side, side)).numpy()
    return left


def _picture(title: str, text: str, left: np.ndarray, frame: Tensor) -> GuidedPicture:
    return GuidedPicture(title, text, encode_png(paint_pruned(frame.permute(1, 2, 0).numpy(), left)))


def _shared(own: np.ndarray, other: np.ndarray) -> float:
    return float((own & other).sum() / own.sum())


def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(lambda name: resources.files(__package__).joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
