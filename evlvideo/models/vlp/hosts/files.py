"""Opens and saves hosts in the form of transformers' BLIP and CLIP."""

import logging
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import save_file
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers import AutoTokenizer, BlipConfig, BlipImageProcessor, CLIPImageProcessor, CLIPModel, PreTrainedModel

from evlvideo.errors import UserError
from evlvideo.models.vlp.hosts.blip import Blip
from evlvideo.models.vlp.hosts.matching import MatchingHost
from evlvideo.models.vlp.hosts.new import HOSTS
from evlvideo.models.vlp.hosts.published import published_weights

logger = logging.getLogger(__name__)

_ARCHITECTURES: dict[type, str] = {Blip: "BlipForImageTextRetrieval"}
_BIAS_AND_HEAD = "cls.predictions.decoder."
"""Weights of heads that are tied to others, which files may leave out."""


def open_host(name: str, host: str) -> PreTrainedModel:
    """Open a BLIP, an ALBEF or a CLIP.

    A BLIP without a text encoder (a captioner) takes its decoder's layers for it, and one without a decoder (for
    retrieval) takes its encoder's. Heads that a checkpoint lacks start from random weights, and the log says so.

    Args:
        name: a hub name or folder of transformers, or a folder of :func:`save_host`.
        host: `blip`, `albef` or `clip`.

    Raises:
        UserError: it cannot be opened, or is another kind of model.
    """
    kind: Any = HOSTS.get(host, CLIPModel)
    try:
        model, loaded = kind.from_pretrained(name, output_loading_info=True, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"model.checkpoint is {name!r}, which cannot be opened as {host}: {error}") from error
    missing = {key for key in loaded["missing_keys"] if _BIAS_AND_HEAD not in key and not key.endswith("position_ids")}
    if any(key.startswith("vision_model.") for key in missing):
        raise UserError(f"model.checkpoint is {name!r}, which is no {host}: it has no vision tower of that form.")
    if isinstance(model, Blip):
        missing = _complete(model, missing)
    if missing:
        logger.warning("%s has no %s; these start from random weights.", name, ", ".join(_parts(missing)))
    return model


def _complete(model: Blip, missing: set[str]) -> set[str]:
    """Give a BLIP the encoder or decoder that its checkpoint lacks; return what is still missing."""
    of_encoder = {key for key in missing if key.startswith("text_encoder.")}
    of_decoder = {key for key in missing if key.startswith("text_decoder.bert.")}
    if of_encoder and of_decoder:
        raise UserError("model.checkpoint has no text layers of BLIP; name another, or a new model with text_init.")
    encoder, decoder = model.text_encoder, model.text_decoder.bert
    for part, other, prefix, names in (
        (encoder, decoder, "text_encoder.", of_encoder),
        (decoder, encoder, "text_decoder.bert.", of_decoder),
    ):
        own, weights = part.state_dict(), other.state_dict()
        for name in (name.removeprefix(prefix) for name in names):
            own[name].copy_(weights[name])
    model.share()
    return missing - of_encoder - of_decoder


def _parts(names: set[str]) -> list[str]:
    return sorted({".".join(name.split(".")[:2]) if name.startswith("text_") else name.split(".")[0] for name in names})


def open_published(path: Path, host: str, config: BlipConfig) -> MatchingHost:
    """Open the `.pth` file of a published BLIP or ALBEF.

    Args:
        path: the file.
        host: `blip` or `albef`.
        config: its sizes, which the file does not name.

    Raises:
        UserError: it cannot be read, or has other sizes.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        weights = published_weights(content.get("model", content))
        weights.pop("temp", None)
        model = HOSTS[host](config)
        found = model.load_state_dict(weights, strict=False)
    except (OSError, UnpicklingError) as error:
        raise UserError(f"model.checkpoint is {str(path)!r}, which cannot be read as weights.") from error
    except (RuntimeError, AttributeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(
            f"model.checkpoint is {str(path)!r}, which does not fit the sizes of `model`: {reason}"
        ) from error
    missing = {name for name in found.missing_keys if _BIAS_AND_HEAD not in name}
    if isinstance(model, Blip):
        missing = _complete(model, missing)
    if missing or found.unexpected_keys:
        odd = sorted(missing | set(found.unexpected_keys))
        raise UserError(f"model.checkpoint is {str(path)!r}, which is no {host}: {', '.join(odd[:5])}.")
    return model


def save_host(model: PreTrainedModel, tokenizer: Any, directory: Path) -> None:
    """Save a host with its tokenizer and image processor, for :func:`open_host` and for transformers' own classes.

    A BLIP opens as `BlipForImageTextRetrieval` and as `BlipForConditionalGeneration`, a CLIP as `CLIPModel`. No class
    of transformers computes an ALBEF.
    """
    # Under all of their names, since each of transformers' classes needs its own.
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    config: Any = model.config
    config.architectures = [_ARCHITECTURES.get(type(model), type(model).__name__)]
    config.save_pretrained(directory)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(directory)
    size = {"height": config.vision_config.image_size, "width": config.vision_config.image_size}
    processor = CLIPImageProcessor if isinstance(model, CLIPModel) else BlipImageProcessor
    processor(
        size=size, do_center_crop=False, image_mean=list(OPENAI_CLIP_MEAN), image_std=list(OPENAI_CLIP_STD)
    ).save_pretrained(directory)


def open_tokenizer(name: str) -> Any:
    """Open a tokenizer by its hub name or folder.

    Raises:
        UserError: there is none.
    """
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(f"The tokenizer {name!r} cannot be opened: {error}") from error
