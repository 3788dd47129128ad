"""Turn frames and text into tensors, and tokens back into captions.

A plain text is the BOS token, an optional prompt, the caption, and its ending, as in EVLGen: a newline for OPT, `</s>`
for Vicuna, whose published texts also open with `</s>`, which is no target. That of a chat model is a question and its
answer; see :mod:`evlvideo.models.text.layout`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoProcessor, PreTrainedTokenizerBase, ProcessorMixin

from evlvideo.data.loading.transforms import eval_transform
from evlvideo.errors import UserError, raise_problems
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.text.conventions import default_template, default_texts, problems_of_texts
from evlvideo.models.text.layout import CAPTION, PLAIN, VIDEO, Layout, check_asks
from evlvideo.models.text.tokenizer import read_tokenizer, stop_tokens, tokens_of
from evlvideo.models.text.visual_mask import FULL_WITH_QUESTION
from evlvideo.models.vision import VisionTower

IGNORED = -100
"""Label of a token that is not a target."""
MAX_TEXT_TOKENS = 32
"""Longest text in training, as published."""
_CAPTION_TOKENS = MAX_TEXT_TOKENS - 1
"""Those of the published text without its BOS token: a caption and its ending."""
_OF_TEXTS = ("template", "layout", "prompt", "bos", "end_of_text", "bos_in_loss")


class EvlVideoProcessor(ProcessorMixin):
    """Prepare a captioner's inputs, and decode its captions.

    Args:
        tokenizer: the language model's.
        image_size: height and width of a frame, in pixels.
        prompt: text that every caption continues; not a target.
        end_of_text: text that ends a caption; one token.
        max_text_tokens: longest text, from behind the soft prompt to the ending; longer ones are cut off.
        template: `plain`, `chat`, or a layout of one's own.
        layout: what the template stands for, as in :mod:`evlvideo.models.text.layout`. None for plain texts.
        bos: BOS token of plain texts, empty for none. Defaults to the tokenizer's.
        bos_in_loss: whether the BOS token is a target, if no prompt follows it.
    """

    tokenizer: PreTrainedTokenizerBase

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int = 224,
        prompt: str = "",
        end_of_text: str = "\n",
        max_text_tokens: int = MAX_TEXT_TOKENS,
        template: str = PLAIN,
        layout: str | None = None,
        bos: str | None = None,
        bos_in_loss: bool = True,
        **kwargs: Any,
    ) -> None:
        self.image_size = image_size
        self.prompt = prompt
        self.end_of_text = end_of_text
        self.max_text_tokens = max_text_tokens
        self.template = template
        self.layout = layout
        self.bos = bos
        self.bos_in_loss = bos_in_loss
        super().__init__(tokenizer, **kwargs)

    @classmethod
    def for_towers(cls, config: EvlVideoConfig, vision_tower: VisionTower, **changes: Any) -> "EvlVideoProcessor":
        """Make the processor of a new captioner, as :meth:`for_language_model` does, for the tower's image size."""
        return cls.for_language_model(config, **{"image_size": vision_tower.image_size, **changes})

    @classmethod
    def for_language_model(cls, config: EvlVideoConfig, **changes: Any) -> "EvlVideoProcessor":
        """Make the processor of a new captioner from the language model's tokenizer. No tower is needed.

        Args:
            config: names the language model; its special tokens are set to those of the texts.
            changes: arguments to override. What is not among them suits the language model.

        Raises:
            UserError: the language model has no tokenizer, or one of a larger vocabulary, or a text cannot be made as
                asked.
        """
        tokenizer = read_tokenizer(config.language_model)
        template = changes.get("template") or default_template(tokenizer, stop_tokens(config, tokenizer))
        texts = default_texts(tokenizer, template, config.text.model_type)
        return cls._checked(tokenizer, config, {**texts, **changes}, _CAPTION_TOKENS)

    def changed(self, config: EvlVideoConfig, **changes: Any) -> "EvlVideoProcessor":
        """Copy with other texts. Captions keep their room in them.

        Args:
            config: that of the captioner; its special tokens are set to those of the texts.
            changes: arguments to override. Another template comes with its own prompt, BOS token and ending.

        Raises:
            UserError: a text cannot be made as asked.
        """
        template = changes.get("template", self.template)
        texts = {name: getattr(self, name) for name in _OF_TEXTS}
        if template != self.template:
            texts = default_texts(self.tokenizer, template, config.text.model_type)
        values = {"image_size": self.image_size, **texts, **changes}
        return self._checked(self.tokenizer, config, values, self.max_text_tokens - len(self.opening_ids()))

    @classmethod
    def _checked(
        cls, tokenizer: PreTrainedTokenizerBase, config: EvlVideoConfig, values: Mapping[str, Any], room: int
    ) -> "EvlVideoProcessor":
        """Make a processor, by default with room for captions of so many tokens, and set the configuration's tokens."""
        if config.visual_mask == FULL_WITH_QUESTION:
            values = {**values, "bos_in_loss": False}  # soft tokens see it
        raise_problems("The text section", problems_of_texts(tokenizer, values))
        processor = cls(tokenizer, **values)
        opening = processor.opening_ids()
        if "max_text_tokens" not in values:
            processor.max_text_tokens = len(opening) + room
        if processor.max_text_tokens <= len(opening) + 1:
            raise UserError(
                f"text.max_tokens is {processor.max_text_tokens}, but {len(opening)} tokens stand before a caption; "
                "it must leave room for the caption and its ending."
            )
        used = max([*processor.prefix_ids(), *opening, processor.end_token_id])
        if used >= config.text.vocab_size:
            raise UserError(
                f"The tokenizer of {config.language_model!r} makes texts with token {used}, but the language model has "
                f"only {config.text.vocab_size} tokens; use the tokenizer that it was trained with."
            )
        processor._set_tokens(config)
        return processor

    def _set_tokens(self, config: EvlVideoConfig) -> None:
        config.bos_token_id = self.bos_token_id
        config.end_token_id = self.end_token_id
        config.pad_token_id = self.pad_token_id
        config.prefix_token_ids = self.prefix_ids() or None

    @property
    def end_token_id(self) -> int:
        """Token of `end_of_text`."""
        return self._tokenize(self.end_of_text)[-1]

    @property
    def bos_token_id(self) -> int | None:
        """BOS token; None if a text has none, or one in its layout."""
        if self.layout is not None or self.bos == "":
            return None
        token = self.tokenizer.bos_token_id if self.bos is None else self._tokenize(self.bos)[-1]
        return None if token is None else int(token)

    @property
    def pad_token_id(self) -> int:
        """Padding token. Defaults to the ending if the tokenizer has none."""
        pad = self.tokenizer.pad_token_id
        return int(self.end_token_id if pad is None else pad)

    @property
    def shown(self) -> str:
        """A text to read, with `{video}` for the soft prompt and `{caption}`."""
        parts = self._parts()
        bos = "" if self.bos_token_id is None else self.tokenizer.decode([self.bos_token_id])
        return f"{parts.before}{VIDEO}{bos}{parts.opening}{parts.space}{CAPTION}{self.end_of_text}"

    def _tokenize(self, text: str) -> list[int]:
        return tokens_of(self.tokenizer, text)

    def _parts(self, prompt: str | None = None) -> Layout:
        """Return what stands around the soft prompt and the caption, without the BOS token of a plain text."""
        prompt = self.prompt if prompt is None else prompt
        if self.layout is None:
            return Layout(before="", opening=prompt, space=" " if prompt else "", after=self.end_of_text)
        return Layout.parse(self.layout, prompt)

    def prefix_ids(self) -> list[int]:
        """Tokenize what stands before the soft prompt."""
        return self._tokenize(self._parts().before)

    def opening_ids(self) -> list[int]:
        """Tokenize what stands between the soft prompt and the caption, BOS token included."""
        bos = [] if self.bos_token_id is None else [self.bos_token_id]
        return [*bos, *self._tokenize(self._parts().opening)]

    def prompt_ids(self) -> Tensor | None:
        """Tokenize what stands between the BOS token and the caption, `(L)`; None if nothing does."""
        ids = self._tokenize(self._parts().opening)
        return torch.tensor(ids) if ids else None

    def questions(self, prompts: Sequence[str], *, max_tokens: int | None = None) -> dict[str, Tensor]:
        """Tokenize what is asked about each clip of a batch, in the place of the prompt.

        Args:
            prompts: `B` texts.
            max_tokens: cut what stands before an answer off behind so many tokens, BOS token included. The published
                cut is 32. Defaults to no cut.

        Returns:
            `prompt_ids` and `prompt_mask` of :meth:`EvlVideoForCaptioning.generate`, each `(B, L)`, padded on the left.

        Raises:
            UserError: the template has no place for a prompt behind the soft prompt, or a cut would lose its turns.
        """
        rows = [self._question_ids(prompt, max_tokens) for prompt in prompts]
        length = max(map(len, rows))
        return {
            "prompt_ids": torch.tensor([[self.pad_token_id] * (length - len(row)) + row for row in rows]),
            "prompt_mask": torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows]),
        }

    def _question_ids(self, prompt: str, max_tokens: int | None) -> list[int]:
        """Tokenize what stands between the BOS token and an answer."""
        if self.layout is not None:
            check_asks(self.layout, max_tokens)
        room = None if max_tokens is None else max_tokens - (self.bos_token_id is not None)
        return self._tokenize(self._parts(prompt).opening)[:room]

    def text(
        self,
        captions: Sequence[str],
        prompts: Sequence[str | None] | None = None,
        *,
        max_prompt_tokens: int | None = None,
    ) -> dict[str, Tensor]:
        """Tokenize captions, or answers behind what is asked.

        Args:
            captions: `B` captions or answers.
            prompts: what is asked for each, as in :meth:`questions`; None for a caption, behind the processor's own
                prompt. An answer has as much room as a caption, however long its question is. Defaults to captions.
            max_prompt_tokens: `max_tokens` of :meth:`questions`.

        Returns:
            `input_ids`, `attention_mask`, `labels`, each `(B, L)`, padded on the right, of what follows the soft
            prompt. The caption and its ending are targets, and the BOS token if nothing else stands before the caption.

        Raises:
            UserError: as :meth:`questions`.
        """
        own = self.opening_ids()
        prompts = [None] * len(captions) if prompts is None else prompts
        bos = [] if self.bos_token_id is None else [self.bos_token_id]
        openings = [own if text is None else [*bos, *self._question_ids(text, max_prompt_tokens)] for text in prompts]
        room = self.max_text_tokens - len(own)
        rows = [
            [*opening, *self._caption_ids(caption, prompt)][: len(opening) + room]
            for opening, caption, prompt in zip(openings, captions, prompts, strict=True)
        ]
        length = max(len(row) for row in rows)
        input_ids = torch.full((len(rows), length), self.pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        for index, row in enumerate(rows):
            input_ids[index, : len(row)] = torch.tensor(row)
            attention_mask[index, : len(row)] = 1
        labels = input_ids.masked_fill(attention_mask == 0, IGNORED)
        own_is_target = self.prompt_ids() is None and self.bos_in_loss
        for index, (opening, prompt) in enumerate(zip(openings, prompts, strict=True)):
            if prompt is not None or not own_is_target:
                labels[index, : len(opening)] = IGNORED
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}

    def _caption_ids(self, caption: str, prompt: str | None = None) -> list[int]:
        """Tokenize a caption and its ending. It is put on one line, as a line break may end it."""
        parts = self._parts(prompt)
        text = parts.space + " ".join(caption.split()) + self.end_of_text
        if self.layout is None:
            return self._tokenize(text)
        # Some tokenizers put a space before a text that stands alone, but the template may have none.
        before, both = self._tokenize(parts.opening), self._tokenize(parts.opening + text)
        return both[len(before) :] if both[: len(before)] == before else self._tokenize(text)

    def lost_endings(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Tell which texts of :meth:`text` were cut off: tensors `(B, L)` → booleans `(B)`, on the same device."""
        last = attention_mask.sum(dim=1, keepdim=True) - 1
        return input_ids.gather(1, last).squeeze(1) != self.end_token_id

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

    def ended(self, token_ids: Tensor) -> list[bool]:
        """Tell which of the texts of :meth:`captions` reached their ending: new tokens, `(B, L)`."""
        texts = self.tokenizer.batch_decode(token_ids, skip_special_tokens=True)
        rows = zip(token_ids.tolist(), texts, strict=True)
        return [self.end_token_id in row or self.end_of_text in text for row, text in rows]

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
