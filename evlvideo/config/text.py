"""The texts that a captioner trains on and continues."""

from collections.abc import Iterator
from dataclasses import dataclass

from evlvideo.config.settings import setting


@dataclass
class TextConfig:
    """What stands around a caption, saved with the checkpoint.

    `None` keeps the checkpoint's value. For a new model, and for another template, it is a default that suits the
    language model; see :mod:`evlvideo.models.text.conventions`.
    """

    template: str | None = None
    """Layout: `plain` (soft prompt, BOS token, prompt, caption), `chat` (the tokenizer's chat template: soft prompt and
    prompt are the user's turn, the caption is the answer), or a text with `{video}`, `{prompt}` and `{caption}` in it.
    Defaults to `chat` if the language model was trained with its tokenizer's chat template, else to `plain`."""
    prompt: str | None = None
    """Text before the caption; never a target. Defaults to none; in a chat, to `Write a caption for this video.`"""
    bos: str | None = None
    """BOS token of plain texts; `""` is none. Defaults to the tokenizer's, unless its chat template opens turns with
    it."""
    end_of_text: str | None = None
    """Text of one token that ends a caption. Defaults to the newline for OPT, to the end of an answer in a chat
    template, and to the EOS token otherwise."""
    bos_in_loss: bool | None = None
    """Whether the BOS token is a target, if no prompt follows it. Defaults to true, as published."""
    max_tokens: int | None = setting(None, least=2)
    """Longest text in training, from the soft prompt to the ending; longer ones are cut off. Defaults to 31 tokens for
    caption and ending, and those before them: 32 with a BOS token, as published."""

    def contradictions(self) -> Iterator[str]:
        """Name values that types and bounds cannot tell are wrong."""
        if self.template == "":
            yield "text.template is empty; it must be plain, chat, or a text with {video} and {caption}"
