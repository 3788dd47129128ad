"""Make or open the model that a run of vision-language pre-training starts from, and open what one has trained."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPModel, PreTrainedModel

from evlvideo.config.vlp import VlpConfig, VlpModelConfig
from evlvideo.errors import UserError
from evlvideo.models.vlp.clip_pretraining import ClipPretraining
from evlvideo.models.vlp.hosts.encoder import Encoder
from evlvideo.models.vlp.hosts.files import open_host, open_published, open_tokenizer
from evlvideo.models.vlp.hosts.matching import MatchingHost
from evlvideo.models.vlp.hosts.new import Sizes, matching_config, new_clip, new_matching_host, resize_positions
from evlvideo.models.vlp.hosts.words import add_first_tokens, special_ids, tokenizer_of_words
from evlvideo.models.vlp.images import Guidance, read_guidance
from evlvideo.models.vlp.pretraining import MatchingPretraining, Recipe


def start_host(model: VlpModelConfig, captions: Iterable[str]) -> tuple[PreTrainedModel, Any]:
    """Make or open a host and its tokenizer.

    Args:
        model: says which.
        captions: of the training clips, whose words a new model's tokenizer has if it names no other.

    Raises:
        UserError: something cannot be opened, or does not fit.
    """
    tokenizer = _tokenizer(model, captions)
    sizes = Sizes(**{entry.name: getattr(model, entry.name) for entry in fields(Sizes)})
    if model.checkpoint is None or model.checkpoint.endswith(".pth"):
        ids = special_ids(tokenizer, model.host)
        if model.host == "clip":
            if model.checkpoint is not None:
                raise UserError(
                    f"model.checkpoint is {model.checkpoint!r}; a CLIP opens from a hub name or folder of transformers."
                )
            return new_clip(sizes, ids), tokenizer
        config = matching_config(sizes, ids)
        if model.checkpoint is not None:
            return open_published(Path(model.checkpoint), model.host, config), tokenizer
        inits = {"vision_init": model.vision_init, "text_init": model.text_init}
        return new_matching_host(model.host, config, **inits), tokenizer
    host: Any = open_host(model.checkpoint, model.host)
    embeddings = host.vision_model.embeddings
    if model.image_size % embeddings.patch_size:
        raise UserError(
            f"model.image_size is {model.image_size}, no multiple of the checkpoint's patches of "
            f"{embeddings.patch_size} pixels."
        )
    resize_positions(embeddings, model.image_size)
    host.config.vision_config.image_size = model.image_size
    _check_texts(model, host, tokenizer)
    return host, tokenizer


def _tokenizer(model: VlpModelConfig, captions: Iterable[str]) -> Any:
    name = model.tokenizer
    if name is None and model.checkpoint is not None and not model.checkpoint.endswith(".pth"):
        name = model.checkpoint
    if name is None and model.checkpoint is not None:
        raise UserError(
            "model.checkpoint is a published .pth file, which has no tokenizer; set model.tokenizer=bert-base-uncased."
        )
    tokenizer = tokenizer_of_words(captions) if name is None else open_tokenizer(name)
    if model.host == "blip":
        add_first_tokens(tokenizer)
    return tokenizer


def _check_texts(model: VlpModelConfig, host: Any, tokenizer: Any) -> None:
    longest, words = host.config.text_config.max_position_embeddings, host.config.text_config.vocab_size
    if model.max_text_tokens > longest:
        raise UserError(f"model.max_text_tokens is {model.max_text_tokens}; the checkpoint has {longest} positions.")
    if len(tokenizer) > words:
        raise UserError(
            f"The tokenizer has {len(tokenizer)} tokens, and the checkpoint embeds {words}; leave model.tokenizer out, "
            "to use the checkpoint's own."
        )


def pretraining_of(config: VlpConfig, host: PreTrainedModel) -> MatchingPretraining | ClipPretraining:
    """Put a host together with its losses, its queue and its teacher."""
    guidance = read_guidance(config.model.pruning)
    if isinstance(host, CLIPModel):
        return ClipPretraining(host, guidance)
    assert isinstance(host, MatchingHost)
    losses = config.losses
    values = {entry.name: getattr(losses, entry.name) for entry in fields(Recipe) if entry.name != "frames"}
    recipe = Recipe(**values, frames=config.model.frames)
    return MatchingPretraining(host, recipe, guidance, torch.Generator().manual_seed(config.seed))


def check_pruning(config: VlpConfig, host: PreTrainedModel) -> None:
    """Check that a model's pruning fits its tower and its texts, before anything is trained.

    Raises:
        UserError: it does not.
    """
    guidance = read_guidance(config.model.pruning)
    if guidance is None:
        return
    vision: Any = host.config.vision_config
    guidance.pruning.schedule.check_depth(vision.num_hidden_layers)
    guidance.pruning.schedule.kept_patches((vision.image_size // vision.patch_size) ** 2)
    text = host.config.text_config.hidden_size
    if guidance.guide in ("text", "shuffled") and isinstance(host, MatchingHost) and text != vision.hidden_size:
        raise UserError(
            f"The text has {text} channels and the tower {vision.hidden_size}, so texts cannot guide pruning; make "
            "them as wide as each other, or set model.pruning.guide=class."
        )


def encoder_of(config: VlpConfig, host: PreTrainedModel, tokenizer: Any, dtype: torch.dtype = torch.float32) -> Encoder:
    """Make what encodes images and texts in evaluation, where no caption guides.

    Raises:
        UserError: `evaluation.guide` is `class`, and the model prunes nothing.
    """
    guidance: Guidance | None = None
    if config.evaluation.guide == "class":
        guidance = read_guidance(config.model.pruning)
        if guidance is None:
            raise UserError(
                "evaluation.guide is class, but model.pruning is not set; set it, or set the guide to none."
            )
    return Encoder(
        host,
        tokenizer,
        most_tokens=config.model.max_text_tokens,
        frames=config.model.frames,
        guidance=guidance,
        dtype=dtype,
    )
