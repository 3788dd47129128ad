"""Make a captioner with random weights on the device, and clips of noise, without files or downloads."""

from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from evlvideo.assembly.precision import DTYPES
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.trainable import tower_of
from gpu_parts.measure import free_memory
from gpu_parts.sizes import TEXT_TOKENS, device, precision

_SPECIAL = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>", 50118: "\n"}
"""OPT's special tokens at their ids."""
_VOCABULARY = 50272
_NOISE_CLIPS = 8
_REFERENCES, _REFERENCE_WORDS = 5, 10


def random_captioner(config: EvlVideoConfig, *, language_model: bool = True) -> EvlVideoForCaptioning:
    """Make a captioner on the device, with towers in the dtype of training.

    Weights are sampled on the device, where billions take a second.

    Args:
        config: the architecture.
        language_model: include the language model; without it, the captioner can only encode.
    """
    torch.manual_seed(0)
    with torch.device(device()):
        model = EvlVideoForCaptioning(config, empty_language_model=not language_model)
    for name, weight in model.named_parameters():
        if tower_of(name) is not None:
            weight.data = weight.data.to(DTYPES[precision()])
    free_memory()
    return model.eval()


def make_processor(model: EvlVideoForCaptioning) -> EvlVideoProcessor:
    """Make the processor of a captioner, with a tokenizer of as many words as OPT has tokens."""
    words = {_SPECIAL.get(place, f"w{place}"): place for place in range(_VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|\S+"), "removed", invert=True)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    return EvlVideoProcessor(fast, image_size=model.vision_tower.image_size, max_text_tokens=TEXT_TOKENS)


class NoiseClips(Dataset[dict[str, Any]]):
    """Clips of noise in memory, in the form of decoded ones, with captions of random words.

    Args:
        count: number of clips.
        frames: frames of each clip.
        image_size: height and width of a frame, in pixels.
        per_caption: give items a caption of full length to train on.
    """

    def __init__(self, count: int, frames: int, image_size: int, *, per_caption: bool) -> None:
        self._count, self._per_caption = count, per_caption
        generator = torch.Generator().manual_seed(0)
        shape = (_NOISE_CLIPS, frames, 3, image_size, image_size)
        self._noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def __len__(self) -> int:
        return self._count

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: noise is the same in every epoch."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {
            "clip_id": str(index),
            "captions": _references(index),
            "pixel_values": self._noise[index % _NOISE_CLIPS],
        }
        # BOS and EOS are added.
        return item | {"caption": _words(index, TEXT_TOKENS - 2)} if self._per_caption else item

    def references(self) -> dict[str, list[str]]:
        """Return the captions of every clip, as a reward expects them."""
        return {str(index): _references(index) for index in range(self._count)}


def _references(index: int) -> list[str]:
    return [_words(_REFERENCES * index + place, _REFERENCE_WORDS) for place in range(_REFERENCES)]


def _words(seed: int, count: int) -> str:
    return " ".join(f"w{word}" for word in np.random.default_rng(seed).integers(100, 50_000, count))
