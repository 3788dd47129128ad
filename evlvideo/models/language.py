"""What the captioner adds to the frozen language model: the soft prompt that it reads, LoRA, and the loss of its texts.

The soft prompt is read once a clip, however many texts follow. Notation: `B` clips, `P` soft tokens, `E` width of the
language model, `L` text tokens, `V` vocabulary.
"""

import copy
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel

from evlvideo.errors import UserError
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.trainable import is_lora


@dataclass(frozen=True, slots=True)
class SoftPrompt:
    """Soft tokens, and the language model's keys and values of all but the last.

    The last one is left for the pass that reads the text, since its logits predict the text's first token.
    """

    embeddings: Tensor
    """`(B, P, E)`, in the language model's dtype."""
    cache: DynamicCache
    """Keys and values of `P − 1` tokens, with gradient; empty if `P` is 1 or nothing was read. Reading on writes into
    it: give each reader a copy by :meth:`repeated`."""

    @classmethod
    def read(cls, language_model: PreTrainedModel, embeddings: Tensor) -> "SoftPrompt":
        """Let the language model read soft tokens, `(B, P, E)`."""
        prompt = cls.unread(language_model, embeddings)
        if embeddings.shape[1] > 1:
            # Without the head: nothing is predicted from these tokens.
            language_model.base_model(inputs_embeds=prompt.embeddings[:, :-1], cache=prompt.cache, use_cache=True)
        return prompt

    @classmethod
    def unread(cls, language_model: PreTrainedModel, embeddings: Tensor) -> "SoftPrompt":
        """Keep soft tokens, `(B, P, E)`, for the language model to read together with the text."""
        words: Any = language_model.get_input_embeddings()
        embeddings = embeddings.to(words.weight.dtype)
        return cls(embeddings, DynamicCache(config=language_model.config))

    def repeated(self, times: int) -> "SoftPrompt":
        """Repeat each clip `times` times in turn, with a cache of its own: `(times·B, P, E)`."""
        cache = _copied(self.cache)
        if times == 1:
            return SoftPrompt(self.embeddings, cache)
        cache.batch_repeat_interleave(times)
        return SoftPrompt(self.embeddings.repeat_interleave(times, dim=0), cache)

    def detached(self) -> "SoftPrompt":
        """Copy without gradient."""
        cache = _copied(self.cache)
        layers: list[Any] = cache.layers
        for layer in layers:
            if layer.is_initialized:
                layer.keys, layer.values = layer.keys.detach(), layer.values.detach()
        return SoftPrompt(self.embeddings.detach(), cache)


def _copied(cache: DynamicCache) -> DynamicCache:
    """Copy a cache but not its tensors: a layer that is written to gets new ones, and the other cache keeps the old."""
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    return copied


def check_positions(language_model: PreTrainedModel, tokens: int) -> None:
    """Check that a language model with learned positions has one for every token of a prompt and its text.

    Raises:
        UserError: it has fewer.
    """
    config: Any = language_model.config
    positions = getattr(config, "max_position_embeddings", None)
    # Rotary positions go on beyond the length of training.
    if getattr(config, "rope_parameters", None) is None and positions is not None and tokens > positions:
        raise UserError(
            f"A clip's soft tokens and its text are together up to {tokens} tokens; the language model has {positions} "
            "positions. Use fewer frames, a larger merge_r, fusion=mean_tokens, or less text."
        )


def add_lora(language_model: PreTrainedModel, config: EvlVideoConfig) -> None:
    """Add LoRA to a language model in place, if the architecture has it.

    Args:
        language_model: of any dtype; LoRA's weights are in float32 beside it.
        config: rank, scale, dropout and layers of the LoRA.

    Raises:
        UserError: the language model has no such layers.
    """
    if config.lora_r == 0:
        return
    from peft import LoraConfig, inject_adapter_in_model

    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_targets,
    )
    try:
        inject_adapter_in_model(lora, language_model)
    except ValueError as error:
        linear = sorted(
            {
                name.rpartition(".")[2]
                for name, module in language_model.named_modules()
                if hasattr(module, "in_features")
            }
        )
        raise UserError(
            f"LoRA finds no layers for lora_targets={config.lora_targets} in the language model: {error} Its linear "
            f"layers are {', '.join(linear)}."
        ) from error
    for name, weight in language_model.named_parameters():
        if is_lora(name):
            weight.data = weight.data.float()


def caption_loss(logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Compute the cross-entropy over the targets of a batch, in float32.

    Args:
        logits: `(B, ≥ L + 1, V)`; the last `L + 1` positions are the last soft token and the text.
        labels: `(B, L)`, −100 for tokens that are not targets.
        num_items_in_batch: targets to average over. Defaults to those of `labels`.

    Returns:
        a scalar.
    """
    length = labels.shape[1]
    predicting = logits[:, -(length + 1) : -1].float()  # (B, L, V)
    total = F.cross_entropy(predicting.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    return total / ((labels != -100).sum() if num_items_in_batch is None else num_items_in_batch)
