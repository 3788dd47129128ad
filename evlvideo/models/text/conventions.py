"""Defaults of a captioner's texts that suit its language model and its tokenizer."""

import logging
from collections.abc import Iterator, Mapping, Set
from typing import Any

from transformers import PreTrainedTokenizerBase

from evlvideo.errors import UserError
from evlvideo.models.text.layout import (
    CHAT,
    PLAIN,
    PROMPT,
    Layout,
    answer_ending,
    chat_layout,
    opens_turns,
    problem_of_layout,
)
from evlvideo.models.text.tokenizer import tokens_of
from evlvideo.processes import is_main

logger = logging.getLogger(__name__)

CHAT_PROMPT = "Write a caption for this video."
"""What a chat model is asked."""
_ENDINGS = {"opt": "\n"}
"""Text that ends a plain caption, by type of language model, as published. Defaults to the EOS token."""


def default_template(tokenizer: PreTrainedTokenizerBase, stops: Set[int]) -> str:
    """Choose the template of a new model.

    Base models may come with a chat template too. Only a model that was trained with it stops where it ends an answer.

    Args:
        tokenizer: the language model's.
        stops: tokens at which the language model stops by its own settings.

    Returns:
        `chat` or `plain`.
    """
    layout = _usable_chat_layout(tokenizer)
    if layout is None:
        return PLAIN
    ending = answer_ending(tokenizer, Layout.parse(layout, "").after)
    return CHAT if ending is not None and tokens_of(tokenizer, ending)[-1] in stops else PLAIN


def default_texts(tokenizer: PreTrainedTokenizerBase, template: str, kind: str) -> dict[str, Any]:
    """Choose prompt, BOS token and ending for a template.

    Args:
        tokenizer: the language model's.
        template: `plain`, `chat`, or a layout.
        kind: type of the language model, such as `opt`.

    Returns:
        arguments of :class:`evlvideo.models.processing.EvlVideoProcessor`.

    Raises:
        UserError: the layout lacks placeholders, there is no usable chat template, or nothing ends a caption.
    """
    if template == PLAIN:
        end = _ENDINGS.get(kind, tokenizer.eos_token)
        texts = {"layout": None, "prompt": "", "bos": _plain_bos(tokenizer), "end_of_text": end, "bos_in_loss": True}
        return {"template": template, **texts}
    layout = chat_layout(tokenizer) if template == CHAT else template
    if problem := problem_of_layout(layout):
        raise UserError(f"text.template is {template!r}, neither plain nor chat; as a layout, {problem}.")
    end = answer_ending(tokenizer, Layout.parse(layout, "").after)
    prompt = CHAT_PROMPT if PROMPT in layout else ""
    texts = {"layout": layout, "prompt": prompt, "bos": "", "end_of_text": end, "bos_in_loss": False}
    return {"template": template, **texts}


def published_texts(tokenizer: PreTrainedTokenizerBase, kind: str) -> dict[str, Any]:
    """Return the texts of the published EVLGen checkpoints: with Vicuna, the EOS token opens them and is no target.

    Args:
        tokenizer: the language model's.
        kind: type of the language model, such as `opt`.
    """
    opened = {"bos": str(tokenizer.eos_token), "bos_in_loss": False} if kind == "llama" else {}
    return {"template": PLAIN, **opened}


def problems_of_texts(tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Any]) -> Iterator[str]:
    """Name what is wrong with the values that :func:`default_texts` returns, or those that replace them."""
    layout, bos, end = texts["layout"], texts["bos"], texts["end_of_text"]
    if layout is not None:
        if bos:
            yield f"text.bos is {bos!r}, but the template has its own; leave it out, or put it into text.template"
        if texts["bos_in_loss"]:
            yield "text.bos_in_loss is true, but tokens of a template are no targets; leave it out"
        if texts["prompt"] and PROMPT not in layout:
            yield f"text.prompt is {texts['prompt']!r}, but the template has no place for it; put {PROMPT} into it"
    elif bos:
        yield from _problems_of_token(tokenizer, "text.bos", bos)
    if end is None:
        yield "the tokenizer has no EOS token, which captions end with; set text.end_of_text"
    else:
        yield from _problems_of_token(tokenizer, "text.end_of_text", end)


def _problems_of_token(tokenizer: PreTrainedTokenizerBase, key: str, text: str) -> Iterator[str]:
    # Some tokenizers put a space before a text that stands alone.
    letter, both = tokens_of(tokenizer, "a"), tokens_of(tokenizer, f"a{text}")
    if both[:-1] != letter:
        yield f"{key} is {text!r}; it must be one token of the tokenizer"
    layout = _usable_chat_layout(tokenizer)
    if layout is not None and opens_turns(tokenizer, text, layout):
        yield f"{key} is {text!r}, which opens the turns of a chat; set text.template=chat, or another {key}"


def _plain_bos(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the tokenizer's BOS token, or nothing if there is none or the chat template opens turns with it."""
    bos, layout = tokenizer.bos_token, _usable_chat_layout(tokenizer)
    if bos is None:
        return ""
    # A template that takes no plain text still tells by its words.
    template = str(tokenizer.chat_template or "")
    if bos in template if layout is None else opens_turns(tokenizer, bos, layout):
        if is_main():
            logger.info("The tokenizer's BOS token %s opens the turns of a chat; plain texts start without it", bos)
        return ""
    return str(bos)


def _usable_chat_layout(tokenizer: PreTrainedTokenizerBase) -> str | None:
    try:
        return chat_layout(tokenizer) if tokenizer.chat_template else None
    except UserError:
        return None
