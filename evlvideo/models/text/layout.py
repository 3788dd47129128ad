"""Layouts of texts: what stands before the soft prompt, between it and the caption, and after the caption.

A layout is a text with `{video}` for the soft prompt, `{prompt}` and `{caption}`. That of a chat model is what its
tokenizer's chat template makes of a question about `{video}` whose answer is `{caption}`.
"""

from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from evlvideo.errors import UserError

VIDEO, PROMPT, CAPTION = "{video}", "{prompt}", "{caption}"
PLAIN, CHAT = "plain", "chat"
"""Names of layouts: EVLGen's, which has no placeholders, and the tokenizer's chat template."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts of a layout."""

    before: str
    """Text before the soft prompt."""
    opening: str
    """Text between the soft prompt and the caption, without spaces at its end."""
    space: str
    """Spaces before the caption, which most tokenizers make part of its first word."""
    after: str
    """Text after the caption, which its first token ends."""

    @classmethod
    def parse(cls, text: str, prompt: str) -> "Layout":
        """Split a layout at its placeholders, and put the prompt in its place."""
        before, _, rest = text.partition(VIDEO)
        between, _, after = rest.partition(CAPTION)
        between = between.replace(PROMPT, prompt)
        opening = between.rstrip(" ")
        return cls(before.replace(PROMPT, prompt), opening, between.removeprefix(opening), after)


def problem_of_layout(text: str) -> str | None:
    """Say what is wrong with a layout, or `None` if it has its placeholders in order."""
    counts = {name: text.count(name) for name in (VIDEO, PROMPT, CAPTION)}
    if counts[VIDEO] != 1 or counts[CAPTION] != 1 or counts[PROMPT] > 1:
        return f"it must hold {VIDEO} and {CAPTION} once, and {PROMPT} at most once"
    if not text.index(VIDEO) < text.index(CAPTION) > text.find(PROMPT):
        return f"{VIDEO} and {PROMPT} must stand before {CAPTION}"
    return None


def check_asks(text: str, max_tokens: int | None) -> None:
    """Check that a layout can ask a question of its own about each clip of a batch.

    Args:
        text: the layout.
        max_tokens: longest text before an answer, or None for no limit.

    Raises:
        UserError: it has no place for the question, or one before the soft prompt; or a limit would cut its turns.
    """
    if PROMPT not in text:
        raise UserError(f"text.template has no place for a question; put {PROMPT} into it, behind {VIDEO}.")
    if text.index(PROMPT) < text.index(VIDEO):
        raise UserError(
            f"text.template has {PROMPT} before {VIDEO}, but questions of a batch differ behind the soft prompt only; "
            f"put {PROMPT} behind {VIDEO}."
        )
    if max_tokens is not None:
        raise UserError(
            f"answering.max_prompt_tokens is {max_tokens}, which would cut off the turns of a chat; set it to null, or "
            "use text.template=plain."
        )


def chat_layout(tokenizer: PreTrainedTokenizerBase) -> str:
    """Render a tokenizer's chat template with placeholders.

    Raises:
        UserError: there is no chat template, or it takes no question and answer of plain text.
    """
    question, answer = {"role": "user", "content": VIDEO + PROMPT}, {"role": "assistant", "content": CAPTION}
    try:
        # Llama 3's template states today's date by default, and captions do not depend on it.
        text = str(tokenizer.apply_chat_template([question, answer], tokenize=False, date_string="26 Jul 2024"))
        problem = problem_of_layout(text)
    except (TemplateError, ValueError, TypeError) as error:
        problem = str(error)
    if problem is not None:
        raise UserError(
            f"The tokenizer's chat template cannot be used: {' '.join(problem.split())}. Set text.template to plain, "
            f"or to a text with {VIDEO}, {PROMPT} and {CAPTION} in it."
        )
    return text


def answer_ending(tokenizer: PreTrainedTokenizerBase, after: str) -> str | None:
    """Find what ends a caption: the token that follows it in a layout, or else the EOS token, if there is one.

    Args:
        tokenizer: the language model's.
        after: text after the caption.
    """
    text = after.strip()
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if text.startswith(str(token))]
    if special:
        return max(special, key=len)
    if text:
        return text
    return "\n" if "\n" in after else tokenizer.eos_token


def opens_turns(tokenizer: PreTrainedTokenizerBase, token: str, layout: str) -> bool:
    """Tell whether a chat layout opens turns with a token.

    A BOS token opens only the text, and the EOS token may end turns.
    """
    ending = answer_ending(tokenizer, Layout.parse(layout, "").after)
    return token != ending and token in layout.partition(CAPTION)[0][1:]
