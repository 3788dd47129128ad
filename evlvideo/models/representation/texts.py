"""Tokenizes texts for the text branch of a Q-Former."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer

from evlvideo.errors import UserError
from evlvideo.models.towers import resolve_source

TEXT_IDS, TEXT_MASK = "text_ids", "text_mask"
_ROLES = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
_DECODING = "[DEC]"
"""The first token of a text that is generated, as published; no tokenizer has it."""


class PairTokenizer:
    """Tokenizes texts as BERT does: `[CLS]`, the text, `[SEP]`. Tokens that the tokenizer lacks are added to it.

    Args:
        name: hub name or folder of a tokenizer, or `package:` and a folder of this package.
        max_tokens: longest text, both tokens around it included; longer ones are cut off.

    Raises:
        UserError: there is no such tokenizer.
    """

    def __init__(self, name: str, max_tokens: int) -> None:
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(resolve_source(name))
        except (OSError, ValueError) as error:
            raise UserError(
                f"representation.tokenizer is {name!r}, which cannot be opened: {error} Name a hub name, a folder with "
                "a tokenizer, or package:mini/language_model, which needs no download."
            ) from error
        self.own_tokens = len(self._tokenizer)
        """Tokens of the tokenizer as it comes, which a BERT's word embeddings are of."""
        self._tokenizer.add_special_tokens(
            {role: token for role, token in _ROLES.items() if getattr(self._tokenizer, role) is None}
        )
        self._tokenizer.add_tokens([_DECODING], special_tokens=True)
        self.max_tokens = max_tokens

    def __len__(self) -> int:
        return len(self._tokenizer)

    @property
    def pad_token_id(self) -> int:
        """Padding token."""
        return int(self._tokenizer.pad_token_id)

    @property
    def decoding_token_id(self) -> int:
        """First token of a text that is generated."""
        return int(self._tokenizer.convert_tokens_to_ids(_DECODING))

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tokenize `B` texts, padded on the right: `text_ids` and `text_mask`, each `(B, L)`."""
        opening, ending = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        found = [self._tokenizer(" ".join(text.split()), add_special_tokens=False).input_ids for text in texts]
        rows = [[opening, *ids[: self.max_tokens - 2], ending] for ids in found]
        ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=self.pad_token_id)
        lengths = torch.tensor([len(row) for row in rows])
        return {TEXT_IDS: ids, TEXT_MASK: (torch.arange(ids.shape[1]) < lengths.unsqueeze(1)).long()}
