"""What the captioner adds to the frozen language model: the soft prompt that it reads, LoRA, and the loss of its texts.

The soft prompt is read once a clip, however many texts follow. Notation: `B` clips, `P` soft tokens, those of a text
before them included, `E` width of the language model, `L` text tokens, `k` texts of a clip, `V` vocabulary.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

from evlvideo.errors import UserError
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.text.visual_mask import CAUSAL, FULL, FULL_WITH_QUESTION, block_inputs, check_takes_blocks
from evlvideo.models.trainable import is_lora

# A soft prompt has no tokens, so a penalty on repetition is on new tokens alone, which is what we want.
warnings.filterwarnings("ignore", message="Passing `repetition_penalty` with `inputs_embeds`")


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
    visual_mask: str = CAUSAL
    """Who sees whom; see :mod:`evlvideo.models.text.visual_mask`."""
    text_before: int = 0
    """How many of the first tokens are those of a text before the soft ones."""

    @classmethod
    def read(cls, language_model: PreTrainedModel, embeddings: Tensor, **mask: Any) -> "SoftPrompt":
        """Let the language model read soft tokens, `(B, P, E)`; not yet those that see the text behind them."""
        prompt = cls.unread(language_model, embeddings, **mask)
        if prompt.visual_mask == FULL:
            return prompt.read_with(language_model)
        if prompt.visual_mask == CAUSAL and embeddings.shape[1] > 1:
            # Without the head: nothing is predicted from these tokens.
            language_model.base_model(inputs_embeds=prompt.embeddings[:, :-1], cache=prompt.cache, use_cache=True)
        return prompt

    @classmethod
    def unread(cls, language_model: PreTrainedModel, embeddings: Tensor, **mask: Any) -> "SoftPrompt":
        """Keep soft tokens, `(B, P, E)`, for the language model to read together with the text."""
        words: Any = language_model.get_input_embeddings()
        embeddings = embeddings.to(words.weight.dtype)
        return cls(embeddings, DynamicCache(config=language_model.config), **mask)

    @classmethod
    def after(
        cls, language_model: PreTrainedModel, config: EvlVideoConfig, soft_prompt: Tensor, *, read: bool
    ) -> "SoftPrompt":
        """Put a text before soft tokens, `(B, P, E)`, and let the language model read both, or not yet.

        Args:
            language_model: reads them.
            config: has the text and the mask.
            soft_prompt: the soft tokens.
            read: whether to read them now, if they do not see the text behind them.

        Raises:
            UserError: they are longer than the language model's positions.
        """
        embeddings = after_prefix(language_model, soft_prompt, config.prefix_token_ids)
        check_positions(language_model, embeddings.shape[1])
        mask = {"visual_mask": config.visual_mask, "text_before": embeddings.shape[1] - soft_prompt.shape[1]}
        return (cls.read if read else cls.unread)(language_model, embeddings, **mask)

    def read_with(
        self, language_model: PreTrainedModel, context: Tensor | None = None, mask: Tensor | None = None
    ) -> "SoftPrompt":
        """Let the language model read the prompt at once with the text that it sees, if that is still to be done.

        Args:
            language_model: reads them.
            context: the prompt and the text before a caption, `(B, P + L, E)`. Defaults to the prompt alone.
            mask: ones on tokens, zeros on padding between the two, `(B, P + L)`. Defaults to no padding.

        Returns:
            a prompt whose cache holds all of the context but the last token. That one sees no later token, so that it
            can be read again, with what follows, for its logits.
        """
        context = self.embeddings if context is None else context
        if self.visual_mask == CAUSAL or self.cache.get_seq_length() or context.shape[1] == 1:
            return self
        mask = context.new_ones(context.shape[:2]).long() if mask is None else mask
        cache = DynamicCache(config=language_model.config)
        block = self.block(context.shape[1], context.shape[1] - self.embeddings.shape[1])
        seen = block_inputs(language_model, context, mask, block)
        language_model.base_model(inputs_embeds=context, cache=cache, use_cache=True, **seen)
        cache.crop(-1)
        return replace(self, cache=cache)

    def block(self, tokens: int, opening: Tensor | int | None) -> Tensor:
        """Mark the tokens that see each other.

        Args:
            tokens: those of the prompt and the text behind it, `N`.
            opening: how many tokens of the text stand before the caption, `(B, 1)`, or one number for all rows; None
                where the mask does not depend on it.

        Returns:
            booleans, `(B, N)` or `(1, N)`.
        """
        places = torch.arange(tokens, device=self.embeddings.device)[None]
        last = self.embeddings.shape[1]
        if self.visual_mask == FULL:
            return (places >= self.text_before) & (places < last)
        assert opening is not None, "give labels or opening_tokens"
        return places < last + opening

    def repeated(self, times: int) -> "SoftPrompt":
        """Repeat each clip `times` times in turn, with a cache of its own: `(times·B, P, E)`."""
        cache = _copied(self.cache)
        if times == 1:
            return replace(self, cache=cache)
        cache.batch_repeat_interleave(times)
        return replace(self, embeddings=self.embeddings.repeat_interleave(times, dim=0), cache=cache)

    def of_clips(self, places: Tensor) -> "SoftPrompt":
        """Take clips by their indices, `(N)`, with a cache of their own: `(N, P, E)`. A clip may come several times."""
        cache = _copied(self.cache)
        cache.batch_select_indices(places)
        return replace(self, embeddings=self.embeddings[places], cache=cache)

    def detached(self) -> "SoftPrompt":
        """Copy without gradient."""
        cache = _copied(self.cache)
        layers: list[Any] = cache.layers
        for layer in layers:
            if layer.is_initialized:
                layer.keys, layer.values = layer.keys.detach(), layer.values.detach()
        return replace(self, embeddings=self.embeddings.detach(), cache=cache)


def _copied(cache: DynamicCache) -> DynamicCache:
    """Copy a cache but not its tensors: a layer that is written to gets new ones, and the other cache keeps the old."""
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    return copied


def after_prefix(language_model: PreTrainedModel, soft_prompt: Tensor, prefix: Sequence[int] | None) -> Tensor:
    """Put a text before every clip's soft tokens: `(B, P, E)` → `(B, length of the prefix + P, E)`."""
    if not prefix:
        return soft_prompt
    ids = torch.tensor(prefix).to(soft_prompt.device, non_blocking=True)
    words: Tensor = language_model.get_input_embeddings()(ids)
    return torch.cat([words.expand(len(soft_prompt), -1, -1), soft_prompt.to(words.dtype)], dim=1)


def before_caption(
    language_model: PreTrainedModel,
    prompt: SoftPrompt,
    bos_token_id: int | None,
    prompt_ids: Tensor | None,
    prompt_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Join a soft prompt, the BOS token and the text that every caption continues.

    Args:
        language_model: has the words' embeddings.
        prompt: soft prompt of `B` clips.
        bos_token_id: None for none.
        prompt_ids: `(L)` or `(B, L)`. None for none.
        prompt_mask: ones on text, zeros on padding, which is on the left, `(B, L)`. If None, there is no padding.

    Returns:
        embeddings `(B, P + L, E)`, and their mask `(B, P + L)`. `L` counts the BOS token. Padding stands between soft
        prompt and BOS token.
    """
    batch, device = len(prompt.embeddings), prompt.embeddings.device
    ids = torch.zeros(batch, 0, dtype=torch.long, device=device)
    if prompt_ids is not None:
        ids = prompt_ids.to(ids, non_blocking=True).expand(batch, -1)
    mask = torch.ones_like(ids) if prompt_mask is None else prompt_mask.to(ids, non_blocking=True)
    if bos_token_id is not None:
        ids, mask = _with_bos(ids, mask, bos_token_id)
    embeddings = torch.cat([prompt.embeddings, language_model.get_input_embeddings()(ids)], dim=1)
    return embeddings, torch.cat([mask.new_ones(prompt.embeddings.shape[:2]), mask], dim=1)


def _with_bos(ids: Tensor, mask: Tensor, bos_token_id: int) -> tuple[Tensor, Tensor]:
    """Put the BOS token before texts, `(B, L)`, and behind the padding on their left: `(B, L + 1)`."""
    padding = (mask == 0).sum(dim=1, keepdim=True)
    ids = F.pad(ids, (1, 0)).scatter(1, padding, bos_token_id)
    return ids, (torch.arange(ids.shape[1], device=ids.device) >= padding).to(mask)


def read_texts(
    language_model: PreTrainedModel,
    prompt: SoftPrompt,
    input_ids: Tensor,
    attention_mask: Tensor,
    logits_to_keep: int,
    opening: Tensor | int | None = None,
) -> Tensor:
    """Compute the logits of the soft tokens outside the prompt's cache and of the texts, `(k·B, ≤ P + L, V)`.

    Under `full_with_question`, texts of a clip share its prompt if they have one opening and no logits before its last
    token are asked for.

    Args:
        language_model: reads them.
        prompt: soft prompt of `B` clips.
        input_ids: `(k·B, L)`, for `k` texts of each clip in turn.
        attention_mask: ones on text, zeros on padding, as `input_ids`.
        logits_to_keep: number of last positions; 0 is all.
        opening: how many tokens of a text stand before its caption: one number for all, which are the same of all texts
            of a clip, or `(k·B, 1)`. Only `full_with_question` needs it.

    Raises:
        UserError: soft prompt and text are longer than the language model's positions.
    """
    check_positions(language_model, prompt.embeddings.shape[1] + input_ids.shape[1])
    times, length = len(input_ids) // len(prompt.embeddings), input_ids.shape[1]
    text = language_model.get_input_embeddings()(input_ids)  # (k·B, L, E)
    shares = times > 1 and isinstance(opening, int) and 0 < logits_to_keep <= length - opening + 1
    if shares and prompt.visual_mask == FULL_WITH_QUESTION:
        context = torch.cat([prompt.embeddings, text[::times, :opening]], dim=1)
        prompt = prompt.read_with(language_model, context)
    prompt = prompt.repeated(times)
    known = prompt.cache.get_seq_length()
    before = prompt.embeddings.shape[1]
    embeddings = torch.cat([prompt.embeddings[:, known:], text[:, max(known - before, 0) :]], dim=1)
    mask = torch.cat([attention_mask.new_ones(prompt.embeddings.shape[:2]), attention_mask], dim=1)
    seen = {"attention_mask": mask}
    if prompt.visual_mask != CAUSAL and not known:
        seen = block_inputs(language_model, embeddings, mask, prompt.block(before + length, opening))
    logits: Tensor = language_model(
        inputs_embeds=embeddings,
        **seen,
        logits_to_keep=logits_to_keep,
        cache=prompt.cache if known else None,
        use_cache=known > 0,
    ).logits
    return logits


def opening_of(labels: Tensor | None, opening_tokens: int | None) -> Tensor | int | None:
    """Tell how many tokens of each text stand before its caption: those before its first target, unless it is given.

    Args:
        labels: `(B, L)`, −100 for tokens that are not targets; a text without any has no opening.
        opening_tokens: the number, if it is given.

    Returns:
        that number, or `(B, 1)`; None if nothing tells it.
    """
    if opening_tokens is not None or labels is None:
        return opening_tokens
    return (labels != -100).long().argmax(dim=1, keepdim=True)


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


def prepare_language_model(language_model: PreTrainedModel, config: EvlVideoConfig) -> None:
    """Add LoRA in place, and drop the model's own settings of generation: what decodes captions is given with them.

    Raises:
        UserError: the language model has no layers for the LoRA, or cannot take the visual mask.
    """
    if config.visual_mask != CAUSAL:
        check_takes_blocks(language_model)
    # transformers fills whatever a call to `generate` leaves open with them.
    language_model.generation_config = GenerationConfig()
    add_lora(language_model, config)


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
