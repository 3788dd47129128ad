"""Frames and text to tensors, and tokens back to captions.

Text is the opening token, an optional prompt, the caption, and the ending, as EVLGen writes it: for OPT the ending is a
newline, for Vicuna `</s>`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin

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
"""Text that ends a caption, by the language model's kind; the others' is their own ending, `</s>` for Vicuna."""


class EvlVideoProcessor(ProcessorMixin):
    """What a captioner needs to know of its inputs.

    Args:
        tokenizer: the language model's.
        image_size: height and width of a frame, in pixels.
        prompt: text that every caption continues; not a target.
        end_of_text: text that ends a caption; one token.
        max_text_tokens: longest text, opening and ending included; what is beyond is cut off.
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
        """The processor of a new captioner: the language model's tokenizer and ending, the tower's size of pictures.

        Args:
            config: names the language model; its tokens are set to the tokenizer's.
            vision_tower: the tower.
            changes: arguments that should be others.

        Raises:
            UserError: the language model brings no tokenizer, or one without an opening token.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(resolve_source(config.language_model))
        except (OSError, ValueError) as error:
            raise UserError(f"The language model {config.language_model!r} brings no tokenizer: {error}") from error
        if len(tokenizer) < _FEWEST_TOKENS:
            # From a folder without a tokenizer's files, transformers makes one that knows special tokens only.
            raise UserError(
                f"The language model {config.language_model!r} brings no tokenizer: save one beside it "
                "(tokenizer.save_pretrained)."
            )
        if tokenizer.bos_token_id is None:
            raise UserError(
                f"The tokenizer of {config.language_model!r} has no opening token (bos_token), which captions start "
                "with; set one in its tokenizer_config.json."
            )
        kind = config.text.model_type
        values = {
            "image_size": vision_tower.image_size,
            "end_of_text": _ENDINGS.get(kind, tokenizer.eos_token),
        }
        processor = cls(tokenizer, **(values | changes))
        if max(processor.bos_token_id, processor.end_token_id) >= config.text.vocab_size:
            raise UserError(
                f"The tokenizer of {config.language_model!r} opens and ends captions with the tokens "
                f"{processor.bos_token_id} and {processor.end_token_id}, and the language model has "
                f"{config.text.vocab_size}; give it the tokenizer that it was trained with."
            )
        config.bos_token_id = processor.bos_token_id
        config.end_token_id = processor.end_token_id
        config.pad_token_id = processor.pad_token_id
        return processor

    @property
    def end_token_id(self) -> int:
        """The token of `end_of_text`."""
        return self._tokenize(self.end_of_text)[-1]

    @property
    def bos_token_id(self) -> int:
        """The opening token."""
        return int(self.tokenizer.bos_token_id)

    @property
    def pad_token_id(self) -> int:
        """The token that fills a batch; the ending where the tokenizer has none."""
        pad = self.tokenizer.pad_token_id
        return int(self.end_token_id if pad is None else pad)

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def prompt_ids(self) -> Tensor | None:
        """Tokens of the prompt, `(L)`; `None` where there is no prompt."""
        return torch.tensor(self._tokenize(self.prompt)) if self.prompt else None

    def text(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Captions to model inputs.

        Args:
            captions: `B` captions.

        Returns:
            `input_ids`, `attention_mask`, `labels`, each `(B, L)`, padded on the right. The opening token is a target
            unless a prompt follows it; the prompt and padding are none.
        """
        prompt = self._tokenize(self.prompt) if self.prompt else []
        rows = []
        for caption in captions:
            row = [self.bos_token_id, *prompt, *self._tokenize(self._joined(caption) + self.end_of_text)]
            rows.append(row[: self.max_text_tokens])
        length = max(len(row) for row in rows)
        input_ids = torch.full((len(rows), length), self.pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        for place, row in enumerate(rows):
            input_ids[place, : len(row)] = torch.tensor(row)
            attention_mask[place, : len(row)] = 1
        labels = input_ids.masked_fill(attention_mask == 0, IGNORED)
        if prompt:
            labels[:, : 1 + len(prompt)] = IGNORED
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}

    def _joined(self, caption: str) -> str:
        """On one line: a line break inside a caption would end it."""
        caption = " ".join(caption.split())
        return f" {caption}" if self.prompt else caption

    def frames(self, frames: NDArray[np.uint8]) -> Tensor:
        """Frames of one clip, uint8 `(T, height, width, 3)`, to `pixel_values`, uint8 `(T, 3, size, size)`.

        The model normalises them.
        """
        from evlvideo.data.loading.transforms import eval_transform

        return eval_transform(self.image_size)(frames)

    def captions(self, token_ids: Tensor) -> list[str]:
        """New tokens `(B, L)` of :meth:`EvlVideoForCaptioning.generate` to captions."""
        end = self.end_token_id
        rows = [row[: row.index(end)] if end in row else row for row in token_ids.tolist()]
        texts = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        # An ending may also be inside a longer token, such as one of two newlines.
        return [" ".join(text.split(self.end_of_text)[0].split()) for text in texts]

    def __call__(
        self, videos: Sequence[NDArray[np.uint8]] | None = None, text: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Clips of the same number of frames, and captions, to model inputs."""
        inputs: dict[str, Tensor] = {}
        if videos is not None:
            inputs["pixel_values"] = torch.stack([self.frames(video) for video in videos])
        if text is not None:
            inputs.update(self.text(text))
        return inputs


AutoProcessor.register(EvlVideoConfig, EvlVideoProcessor)
