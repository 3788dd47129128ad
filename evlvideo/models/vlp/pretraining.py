"""The losses of a batch: contrast with a queue and a momentum teacher, matching with hard negatives, and language.

Source: ALBEF (Li et al., 2021), BLIP (Li et al., 2022), and ELIP (Guo et al., 2023), whose momentum teacher sees whole
images. Notation: `B` pairs of this process, `T` frames, `S` tokens of a text, `K` places of the queue.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evlvideo.models.precision import in_float32
from evlvideo.models.vlp.hosts.albef import Albef
from evlvideo.models.vlp.hosts.matching import MatchingHost
from evlvideo.models.vlp.images import Guidance, read_by_texts
from evlvideo.models.vlp.losses import IGNORED, language_loss, masked_language_loss, matching_loss, soft_contrast
from evlvideo.models.vlp.masking import Masked, mask_words
from evlvideo.models.vlp.momentum import follow, teacher_of
from evlvideo.models.vlp.negatives import draw_negatives
from evlvideo.models.vlp.queue import FeatureQueue

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.001, 0.5
"""Bounds of the temperature before every step, as published."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is minimized, by the keys of a config's `losses`, where they are explained."""

    contrast: float
    matching: float
    language: float
    queue: int
    momentum: float
    temperature: float
    label_smoothing: float
    mask_share: float
    frames: str
    """What texts read of several frames; see :func:`evlvideo.models.vlp.images.read_by_texts`."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What is random in a batch."""

    negative_images: Tensor
    """Image that each text is paired with, `(B,)`."""
    negative_texts: Tensor
    """Text that each image is paired with, `(B,)`."""
    masked: Masked | None = None
    """Masked texts, for ALBEF."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the model, or its teacher, made of a batch."""

    images: Tensor
    """For texts to read, `(B, N, D)`."""
    states: Tensor
    """Of the texts, `(B, S, H)`."""
    image_features: Tensor
    """Unit vectors, `(B, C)`."""
    text_features: Tensor


class MatchingPretraining(nn.Module):
    """Trains BLIP or ALBEF.

    Call :meth:`before_step` before every optimizer step.

    Args:
        host: the model.
        recipe: what is minimized.
        guidance: how its images are pruned. If None, they are not.
        generator: draws the first features of the queue.
    """

    def __init__(
        self, host: MatchingHost, recipe: Recipe, guidance: Guidance | None, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.host = host
        self.recipe = recipe
        self.guidance = guidance
        self.teacher = teacher_of(host, host.untaught)
        self.temp = nn.Parameter(torch.tensor(recipe.temperature))
        self.queue = FeatureQueue(recipe.queue, host.text_proj.out_features, generator)

    @torch.no_grad()
    def before_step(self) -> None:
        """Put the temperature back into its bounds, and let the teacher follow."""
        self.temp.clamp_(LEAST_TEMPERATURE, MOST_TEMPERATURE)
        follow(self.teacher, self.host, self.recipe.momentum)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        alpha: float,
        generator: torch.Generator,
        draws: Draws | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses, and push the teacher's features into the queue in training mode.

        Args:
            pixel_values: `(B, T, 3, height, width)`.
            input_ids: `(B, S)`, with BOS and EOS.
            attention_mask: `(B, S)`.
            alpha: share of the teacher in the targets.
            generator: on the CPU; draws masks and negatives, and the scores of the control `random`.
            draws: what is drawn elsewhere. Defaults to draws by the generator.

        Returns:
            `loss`, and `contrast`, `matching` and `language` where their weights are above 0.
        """
        host, weights, text = self.host, self.recipe, (input_ids, attention_mask)
        states = host.text_states(*text)
        seen = self._seen(host, pixel_values, states, generator)
        with torch.no_grad():
            taught = self._seen(self.teacher, pixel_values, self.teacher.text_states(*text), generator)
        contrast, (to_texts, to_images) = self._contrast(seen, taught, alpha)
        if self.training:
            self.queue.push(taught.image_features, taught.text_features)
        draws = draws or self._draw(input_ids, to_texts, to_images, generator)
        losses = {"contrast": contrast}
        if weights.matching:
            losses["matching"] = self._matching(*text, seen, draws)
        if weights.language:
            losses["language"] = self._language(*text, seen, taught, draws, alpha)
        total = sum((getattr(weights, name) * loss for name, loss in losses.items()), contrast.new_zeros(()))
        return {"loss": total, **losses}

    def _seen(self, host: MatchingHost, clips: Tensor, states: Tensor, generator: torch.Generator) -> _Seen:
        guidance = self.guidance if host is self.host else None
        tokens = host.image_tokens(clips, guidance, states[:, 0], generator)  # (B, T, N, D)
        return _Seen(
            read_by_texts(tokens, self.recipe.frames), states, host.image_features(tokens), host.text_features(states)
        )

    def _contrast(self, seen: _Seen, taught: _Seen, alpha: float) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the loss, and the similarities of this batch's images to its texts and back, `(B, B)` each."""
        with in_float32(self.temp.device):
            own = torch.arange(len(seen.states), device=self.temp.device)
            texts = torch.cat([taught.text_features, self.queue.texts])  # (B + K, C)
            images = torch.cat([taught.image_features, self.queue.images])
            to_texts, to_images = seen.image_features @ texts.T / self.temp, seen.text_features @ images.T / self.temp
            teacher_to_texts = taught.image_features @ texts.T / self.temp
            teacher_to_images = taught.text_features @ images.T / self.temp
        loss = soft_contrast(to_texts, teacher_to_texts, own, alpha)
        loss = (loss + soft_contrast(to_images, teacher_to_images, own, alpha)) / 2
        return loss, (to_texts[:, : len(own)], to_images[:, : len(own)])

    def _draw(self, input_ids: Tensor, to_texts: Tensor, to_images: Tensor, generator: torch.Generator) -> Draws:
        own = torch.arange(len(input_ids), device=input_ids.device)
        images = draw_negatives(to_images, own, generator, self.host.negative_floor)
        texts = draw_negatives(to_texts, own, generator, self.host.negative_floor)
        if not isinstance(self.host, Albef):
            return Draws(images, texts)
        config: Any = self.host.config
        masked = mask_words(
            input_ids,
            share=self.recipe.mask_share,
            mask_id=config.mask_token_id,
            vocabulary=config.text_config.vocab_size,
            kept=(config.text_config.pad_token_id, config.text_config.bos_token_id),
            generator=generator,
        )
        return Draws(images, texts, masked)

    def _matching(self, input_ids: Tensor, attention_mask: Tensor, seen: _Seen, draws: Draws) -> Tensor:
        """Compare each pair, each text with another image, and each image with another text: `3·B` pairs."""
        texts = draws.negative_texts
        fused = self.host.fused_states(
            torch.cat([input_ids, input_ids, input_ids[texts]]),
            torch.cat([attention_mask, attention_mask, attention_mask[texts]]),
            torch.cat([seen.states, seen.states, seen.states[texts]]),
            torch.cat([seen.images, seen.images[draws.negative_images], seen.images]),
        )
        return matching_loss(self.host.matching_logits(fused), len(input_ids))

    def _language(
        self, input_ids: Tensor, attention_mask: Tensor, seen: _Seen, taught: _Seen, draws: Draws, alpha: float
    ) -> Tensor:
        if draws.masked is None:
            logits = self.host.language(input_ids, attention_mask, seen.images)
            labels = input_ids.masked_fill(attention_mask == 0, IGNORED)
            return language_loss(logits, labels, self.recipe.label_smoothing)
        masked = draws.masked
        logits = self.host.language(masked.input_ids, attention_mask, seen.images)
        with torch.no_grad():
            teacher = self.teacher.language(masked.input_ids, attention_mask, taught.images) if alpha else None
        return masked_language_loss(logits, masked.labels, teacher, alpha)
