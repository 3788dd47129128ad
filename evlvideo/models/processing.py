"""Turn frames and text into tensors, and tokens back into captions.

Text is the BOS token, an optional prompt, the caption, and its ending, as in EVLGen: a newline for OPT, `</s>` for
Vicuna.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin

from evlvideo.data.loading.transforms import eval_transform
from evlvideo.errors import UserError
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.towers import resolve_source
from evlvideo.models.vision import VisionTower

IGNORED = -100
"""Label of a token that is not a target."""
MAX_TEXT_TOKENS = 32
"""Longest text in training, as published."""
_FEWEST_TOKENS = 10
_ENDINGS = {"opt": "\n"}
"""Text that ends a caption, by type of language model. Defaults to the EOS token, `</s>` for Vicuna."""


class EvlVideoProcessor(ProcessorMixin):
    """Prepare a captioner's inputs, and decode its captions.

    Args:
        tokenizer: the language model's.
        image_size: height and width of a frame, in pixels.
        prompt: text that every caption continues; not a target.
        end_of_text: text that ends a caption; one token.
        max_text_tokens: longest text, with BOS token and ending; longer ones are cut off.
    """

    tokenizer: PreTrainedTokenizerBase

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int = 224,
        prompt: str = "",
        end_of_text: str = "\n",
        max_text_tokens: int = MAX_TEXT_TOKENS,
        **kwargs: Any,
    ) -> None:
        self.image_size = image_size
        self.prompt = prompt
        self.end_of_text = end_of_text
        self.max_text_tokens = max_text_tokens
        super().__init__(tokenizer, **kwargs)

    @classmethod
    def for_towers(cls, config: EvlVideoConfig, vision_tower: VisionTower, **changes: Any) -> "EvlVideoProcessor":
        """Make the processor of a new captioner, from the language model's tokenizer and the tower's image size.

        Args:
            config: names the language model; its special tokens are set to the tokenizer's.
            vision_tower: the tower.
            changes: arguments to override.

        Raises:
            UserError: the language model has no tokenizer, one without a BOS token, or one of a larger vocabulary.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(resolve_source(config.language_model))
        except (OSError, ValueError) as error:
            raise UserError(f"The language model {config.language_model!r} has no tokenizer: {error}") from error
        if len(tokenizer) < _FEWEST_TOKENS:
            # From a folder without a tokenizer's files, transformers makes one that knows only special tokens.
            raise UserError(
                f"The language model {config.language_model!r} has no tokenizer: save one beside it "
                "(tokenizer.save_pretrained)."
            )
        if tokenizer.bos_token_id is None:
            raise UserError(
                f"The tokenizer of {config.language_model!r} has no BOS token, which captions start with; set "
                "bos_token in its tokenizer_config.json."
            )
        kind = config.text.model_type
        values = {
            "image_size": vision_tower.image_size,
            "end_of_text": _ENDINGS.get(kind, tokenizer.eos_token),
        }
        processor = cls(tokenizer, **(values | changes))
        if max(processor.bos_token_id, processor.end_token_id) >= config.text.vocab_size:
            raise UserError(
                f"The tokenizer of {config.language_model!r} starts and ends captions with tokens "
                f"{processor.bos_token_id} and {processor.end_token_id}, but the language model has only "
                f"{config.text.vocab_size} tokens; use the tokenizer that it was trained with."
            )
        config.bos_token_id = processor.bos_token_id
        config.end_token_id = processor.end_token_id
        config.pad_token_id = processor.pad_token_id
        return processor

    @property
    def end_token_id(self) -> int:
        """Token of `end_of_text`."""
        return self._tokenize(self.end_of_text)[-1]

    @property
    def bos_token_id(self) -> int:
        """BOS token."""
        return int(self.tokenizer.bos_token_id)

    @property
    def pad_token_id(self) -> int:
        """Padding token. Defaults to the ending if the tokenizer has none."""
        pad = self.tokenizer.pad_token_id
        return int(self.end_token_id if pad is None else pad)

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def prompt_ids(self) -> Tensor | None:
        """Tokenize the prompt, `(L)`; `None` if there is none."""
        return torch.tensor(self._tokenize(self.prompt)) if self.prompt else None

    def text(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Tokenize captions.

        Args:
            captions: `B` captions.

        Returns:
            `input_ids`, `attention_mask`, `labels`, each `(B, L)`, padded on the right. The BOS token is a target
            unless a prompt follows it; prompt and padding are not targets.
        """
        prompt = self._tokenize(self.prompt) if self.prompt else []
        rows = []
        for caption in captions:
            row = [self.bos_token_id, *prompt, *self._tokenize(self._joined(caption) + self.end_of_text)]
            rows.append(row[: self.max_text_tokens])
        length = max(len(row) for row in rows)
        input_ids = torch.full((len(rows), length), self.pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        for index, row in enumerate(rows):
            input_ids[index, : len(row)] = torch.tensor(row)
            attention_mask[index, : len(row)] = 1
        labels = input_ids.masked_fill(attention_mask == 0, IGNORED)
        if prompt:
            labels[:, : 1 + len(prompt)] = IGNORED
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}

    def _joined(self, caption: str) -> str:
        """Put a caption on one line: a line break would end it."""
        caption = " ".join(caption.split())
        return f" {caption}" if self.prompt else caption

    def frames(self, frames: NDArray[np.uint8]) -> Tensor:
        """Resize and crop the frames of one clip: uint8 `(T, height, width, 3)` → uint8 `(T, 3, size, size)`.

        The model normalises them.
        """
        return eval_transform(self.image_size)(frames)

    def captions(self, token_ids: Tensor) -> list[str]:
        """Decode the new tokens of :meth:`EvlVideoForCaptioning.generate`, `(B, L)`, without special tokens."""
        texts = self.tokenizer.batch_decode(self._before_ending(token_ids), skip_special_tokens=True)
        # The ending may also be part of a longer token, such as one of two newlines.
        return [" ".join(text.split(self.end_of_text)[0].split()) for text in texts]

    def special_tokens(self, token_ids: Tensor) -> list[list[str]]:
        """Name the special tokens that :meth:`captions` leaves out of each caption.

        Args:
            token_ids: as there, `(B, L)`.

        Returns:
            `B` lists of those before the ending, in order.
        """
        known = self.tokenizer.added_tokens_decoder.items()
        special = {place for place, token in known if token.special} | set(self.tokenizer.all_special_ids)
        return [self._special_of(row, special) for row in self._before_ending(token_ids)]

    def _special_of(self, row: list[int], special: set[int]) -> list[str]:
        found: list[str] = []
        for place, token in enumerate(row):
            if token not in special:
                continue
            if self.end_of_text in self.tokenizer.decode(row[:place]):
                break
            found.append(str(self.tokenizer.convert_ids_to_tokens(token)))
        return found

    def _before_ending(self, token_ids: Tensor) -> list[list[int]]:
        """Tokens of each caption before the token that ends it."""
        end = self.end_token_id
        return [row[: row.index(end)] if end in row else row for row in token_ids.tolist()]

    def __call__(
        self, videos: Sequence[NDArray[np.uint8]] | None = None, text: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Prepare clips of equally many frames, and captions, as model inputs."""
        inputs: dict[str, Tensor] = {}
        if videos is not None:
            inputs["pixel_values"] = torch.stack([self.frames(video) for video in videos])
        if text is not None:
            inputs.update(self.text(text))
        return inputs


AutoProcessor.register(EvlVideoConfig, EvlVideoProcessor)
