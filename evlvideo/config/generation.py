"""Decoding at evaluation: captions, and answers to questions."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from evlvideo.config.settings import setting

QUESTION = "{}"
"""Where a prompt has the question."""


@dataclass
class GenerationConfig:
    """Decoding at evaluation. Lengths count new tokens."""

    _section = "generation"

    num_beams: int = setting(5, least=1)
    """Beams; 1 is greedy."""
    do_sample: bool = False
    """Sample captions instead of searching for the most likely one. Beams then have no effect."""
    top_p: float = setting(1.0, above=0, most=1)
    """Nucleus: sample from the most likely tokens that together have this much probability."""
    temperature: float = setting(1.0, above=0)
    """Temperature of sampling; below 1, likely tokens become likelier."""
    max_new_tokens: int = setting(20, least=1)
    """Upper bound on the tokens of a caption."""
    min_new_tokens: int = setting(5, least=0)
    """Lower bound on the tokens of a caption."""
    length_penalty: float = setting(1.0)
    """Exponent on the length in a beam's score; above 1 favours longer captions."""
    repetition_penalty: float = setting(1.0, above=0)
    """Divides the positive logits of tokens that the caption already has, and multiplies the negative ones; above 1
    discourages repetition, 1 does nothing. The published Vicuna models caption and answer with 1.5."""
    forbidden_words: list[str] = field(default_factory=list)
    """Words, or several in a row, that no caption holds, in upper or lower case: `[man, "stock photo"]`."""
    batch_size: int = setting(16, least=1)
    """Clips captioned at once."""

    def contradictions(self) -> Iterator[str]:
        """Name keys that do not fit together."""
        if not all(word.strip() for word in self.forbidden_words):
            yield f"{self._section}.forbidden_words is {self.forbidden_words!r}; a word must not be empty"
        if self.min_new_tokens > self.max_new_tokens:
            yield (
                f"{self._section}.min_new_tokens is {self.min_new_tokens}, more than {self._section}.max_new_tokens, "
                f"{self.max_new_tokens}"
            )


@dataclass
class AnsweringConfig(GenerationConfig):
    """Prompt of questions, and decoding of answers, as published. Lengths count new tokens."""

    _section = "answering"

    max_new_tokens: int = setting(10, least=1)
    """Upper bound on the tokens of an answer. Published: 10 for OPT, 9 for Vicuna."""
    min_new_tokens: int = setting(0, least=0)
    """Lower bound on the tokens of an answer."""
    length_penalty: float = setting(0.0)
    """Exponent on the length in a beam's score; 0 compares sums of log-probabilities."""
    prompt: str = "Question: {} Short answer:"
    """What is asked, with `{}` for the question. In a chat template, it is the user's turn."""
    clean: bool = True
    """Clean questions as published: lower case, at most 50 words, without `. ! " ( ) * # : ; ~`."""
    max_prompt_tokens: int | None = setting(None, least=2)
    """Cut prompts off behind so many tokens, BOS token included. The published cut for OPT is 32, and takes `Short
    answer:` from long questions. Defaults to no cut."""

    def contradictions(self) -> Iterator[str]:
        """Name keys that do not fit together."""
        yield from super().contradictions()
        if self.prompt.count(QUESTION) != 1:
            yield f"answering.prompt is {self.prompt!r}; it must hold {QUESTION} once, for the question"
