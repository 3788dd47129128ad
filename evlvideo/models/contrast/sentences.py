"""The frozen encoder of captions that images are contrasted with, such as SimCSE."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer

from evlvideo.errors import UserError

MAX_TOKENS = 64
"""Longest caption, in the encoder's tokens; longer ones are cut off."""
SENTENCE_IDS, SENTENCE_MASK = "sentence_ids", "sentence_mask"


class SentenceEncoder:
    """Encodes captions by a frozen BERT and its pooler. It is no part of the captioner, nor of its checkpoints.

    Args:
        name: hub name or folder, with a tokenizer.

    Raises:
        UserError: there is no such encoder, it has no tokenizer, or no pooler.
    """

    def __init__(self, name: str) -> None:
        with _told_if_not_opened(name):
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name)
            self._model: Any = AutoModel.from_pretrained(name).float().requires_grad_(False).eval()
        _check_pooler(name, self._model)

    @property
    def dim(self) -> int:
        """Channels of an encoded caption, `D`."""
        return int(self._model.config.hidden_size)

    def tokenize(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Tokenize `B` captions: `sentence_ids` and `sentence_mask`, each `(B, S)`."""
        texts = [" ".join(caption.split()) for caption in captions]
        found = self._tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        return {SENTENCE_IDS: found["input_ids"], SENTENCE_MASK: found["attention_mask"]}

    @torch.no_grad()
    def encode(self, sentence_ids: Tensor, sentence_mask: Tensor) -> Tensor:
        """Encode captions, `(B, S)` → `(B, D)`, on the device that they are on."""
        model = self._model.to(sentence_ids.device)
        return model(input_ids=sentence_ids, attention_mask=sentence_mask).pooler_output


def empty_encoder(name: str) -> Any:
    """Build the encoder of a name without values, on the device that is the default.

    Raises:
        UserError: there is no such encoder, or it has no pooler.
    """
    with _told_if_not_opened(name):
        # Fused attention looks at the values of the mask.
        model: Any = AutoModel.from_config(AutoConfig.from_pretrained(name), attn_implementation="eager")
    _check_pooler(name, model)
    return model.float().requires_grad_(False).eval()


@contextmanager
def _told_if_not_opened(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise UserError(
            f"contrastive.text_encoder is {name!r}, which cannot be opened: {error} Name a hub name, or a folder with "
            "a BERT and its tokenizer."
        ) from error


def _check_pooler(name: str, model: Any) -> None:
    if getattr(model, "pooler", None) is None:
        raise UserError(
            f"contrastive.text_encoder is {name!r}, which has no pooler to encode a caption by; name a BERT, such as "
            "princeton-nlp/sup-simcse-bert-base-uncased."
        )
