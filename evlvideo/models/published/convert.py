"""Converts checkpoints from the published format to ours, and back."""

from pathlib import Path
from typing import Any

from evlvideo.errors import UserError
from evlvideo.files import new_directory
from evlvideo.models.architecture import architecture_changes
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors import TOMEFORMER
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.published.connectors import TAKE_OVER, captioner_from_system, system_of
from evlvideo.models.published.evlgen import (
    captioner_from_published,
    published_config,
    read_published,
    write_origin,
    write_published,
)
from evlvideo.models.text.conventions import published_texts
from evlvideo.models.text.layout import PLAIN
from evlvideo.models.text.tokenizer import read_tokenizer


def from_published(
    source: Path, out: Path, *, vision: str, language_model: str, overrides: list[str], qformer: Path | None = None
) -> EvlVideoConfig:
    """Convert a published checkpoint.

    Args:
        source: the published `.pth`.
        out: directory of our checkpoint, which must not exist.
        vision: the tower's file, or its name in timm.
        language_model: hub name or folder.
        overrides: `key=value` changes to :class:`EvlVideoConfig`, for values that the file does not show.
        qformer: a published file of BLIP-2, for a system that uses its Q-Former.

    Returns:
        the architecture found.

    Raises:
        UserError: see :mod:`evlvideo.models.published.evlgen`; or `out` exists.
    """
    checkpoint = read_published(source)
    system, changes = system_of(checkpoint.weights), architecture_changes(overrides)
    vision, language_model = _absolute(vision), _absolute(language_model)
    if qformer is not None and system not in TAKE_OVER:
        raise UserError(
            f"--qformer is for {' or '.join(TAKE_OVER)}, which use BLIP-2's Q-Former, but {source} is "
            f"{system or 'EVLGen'}'s; leave it out."
        )
    with new_directory(out) as directory:
        if system is None:
            model = captioner_from_published(checkpoint, published_config(checkpoint, vision, language_model, changes))
        else:
            model = captioner_from_system(
                system,
                checkpoint.weights,
                blip2=None if qformer is None else read_published(qformer).weights,
                vision=vision,
                language_model=language_model,
                changes=changes,
            )
        texts: dict[str, Any] = {"template": PLAIN}
        if system is None:
            texts = published_texts(read_tokenizer(model.config.language_model), model.config.text.model_type)
        processor = EvlVideoProcessor.for_towers(model.config, model.vision_tower, **texts)
        model.save_pretrained(directory)
        processor.save_pretrained(directory)
        if system is None:
            write_origin(checkpoint, directory)
    return model.config


def described(config: EvlVideoConfig) -> str:
    """Describe the architecture found in one line, so that a wrong guess is noticed."""
    bert = config.bert
    if config.connector != TOMEFORMER:
        return (
            f"connector={config.connector}: tower {config.vision_tower} {config.vision_overrides}, {config.options}, "
            f"{bert.num_hidden_layers} layers with {bert.hidden_size} channels and {bert.num_attention_heads} heads, "
            f"language model {config.text.model_type}, captions end with token {config.end_token_id}"
        )
    form = "video" if config.contextualizer == "in_tower" else "image"
    return (
        f"EVLGen-{form}: tower {config.vision_tower} {config.vision_overrides}, connector of {bert.num_hidden_layers} "
        f"layers with {bert.hidden_size} channels and {bert.num_attention_heads} heads, r = {config.merge_r}, language "
        f"model {config.text.model_type}, captions end with token {config.end_token_id}"
    )


def to_published(source: str, out: Path) -> None:
    """Write one of our checkpoints in the published format.

    Raises:
        UserError: there is no checkpoint, or the published code cannot run it.
    """
    directory = checkpoint_directory(source)
    write_published(EvlVideoForCaptioning.from_pretrained(directory), out, converted=directory)


def _absolute(name: str) -> str:
    """Make a path absolute, since checkpoints are opened from elsewhere; leave other names as they are."""
    return str(Path(name).resolve()) if Path(name).exists() else name
