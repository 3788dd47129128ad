"""Tokenizers of language models, and the tokens at which these stop."""

from contextlib import suppress

from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from evlvideo.errors import UserError
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.towers import resolve_source

_FEWEST_TOKENS = 10


def read_tokenizer(language_model: str) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a language model, by hub name or folder.

    Raises:
        UserError: it has none.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(resolve_source(language_model))
    except (OSError, ValueError) as error:
        raise UserError(f"The language model {language_model!r} has no tokenizer: {error}") from error
    if len(tokenizer) < _FEWEST_TOKENS:
        # From a folder without a tokenizer's files, transformers makes one that knows only special tokens.
        raise UserError(
            f"The language model {language_model!r} has no tokenizer: save one beside it (tokenizer.save_pretrained)."
        )
    return tokenizer


def tokens_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenize a text as it is, without tokens that the tokenizer would add."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def stop_tokens(config: EvlVideoConfig, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Collect the tokens at which a language model stops by its tokenizer and its own settings.

    Args:
        config: names the language model.
        tokenizer: its tokenizer.
    """
    stated = [tokenizer.eos_token_id, config.text.eos_token_id]
    with suppress(OSError, ValueError):  # Not every model has settings of its own.
        stated.append(GenerationConfig.from_pretrained(resolve_source(config.language_model)).eos_token_id)
    lists = [tokens if isinstance(tokens, list) else [tokens] for tokens in stated]
    return {token for tokens in lists for token in tokens if token is not None}
