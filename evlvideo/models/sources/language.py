"""Check from its configuration alone whether a language model can continue a soft prompt.

It has to read embeddings instead of words, from left to right, and keep keys and values of each token, which are copied
for the texts and beams of a clip.
"""

import inspect
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, DynamicCache, PreTrainedConfig
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from evlvideo.errors import UserError

MASKED_ATTENTION = ("sdpa", "eager")
"""Implementations of attention that take a mask of their caller's."""
_OTHER_SENSES = {"vision_config", "audio_config", "audio_encoder_config", "audio_encoder"}
"""Parts of a configuration whose model reads more than text."""
_NEEDED = "name a decoder alone, such as facebook/opt-1.3b, or one of LLaMA's, Qwen2's, Qwen3's or GPT-2's kind"


def check_language_model(name: str, config: PreTrainedConfig) -> None:
    """Check a language model before its weights are read.

    Args:
        name: of the model, for the message.
        config: its configuration, as transformers reads it.

    Raises:
        UserError: it cannot continue a soft prompt.
    """
    problem = _problem(config)
    if problem is not None:
        raise UserError(f"The language model {name!r} ({config.model_type}) {problem}; {_NEEDED}.")


def problem_of_visual_mask(config: PreTrainedConfig) -> str | None:
    """Say why a language model cannot let tokens see later ones, as far as its configuration tells.

    Args:
        config: its configuration; `attn_implementation` may be open.
    """
    config = config.get_text_config(decoder=True)
    attention = config._attn_implementation
    if attention not in (None, *MASKED_ATTENTION):
        return f"runs with {attention}, and only {' and '.join(MASKED_ATTENTION)} take such a mask"
    if any(layer.is_sliding for layer in _layers(config)):
        return "has layers that see a sliding window only"
    model: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if model is not None and "position_ids" not in inspect.signature(model.forward).parameters:
        return "takes positions from its mask alone"
    return None


def _problem(config: PreTrainedConfig) -> str | None:
    # Before the class is looked up: transformers has decoders of these, whose weights were trained with the encoder.
    if config.is_encoder_decoder:
        return "is an encoder-decoder, whose decoder was trained to read its encoder's output"
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        return "is an encoder, trained to fill in words from both sides and not to continue a text"
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "is no language model that transformers can continue a text with"
    return _problem_of_class(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], config)


def _problem_of_class(model: Any, config: PreTrainedConfig) -> str | None:
    parts = set(model.config_class.sub_configs)
    if parts & _OTHER_SENSES:
        return "reads pictures or sounds too; its text part may serve, saved as a model of its own"
    if model._is_stateful or any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in _layers(config)):
        return "keeps a running state instead of every token's keys and values, and the state cannot be shared by texts"
    taken = inspect.signature(model.forward).parameters
    if not {"inputs_embeds", "cache"} <= taken.keys():
        return "does not read embeddings in place of words, or keeps no keys and values"
    if "inputs_embeds" not in inspect.signature(model.prepare_inputs_for_generation).parameters:
        return "cannot generate from embeddings"
    return None


def _layers(config: PreTrainedConfig) -> list[Any]:
    layers: list[Any] = DynamicCache(config=config.get_text_config(decoder=True)).layers
    return layers
