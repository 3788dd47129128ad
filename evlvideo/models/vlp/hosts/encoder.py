"""Encodes images and texts by any host, as retrieval needs them: each side alone, and pairs for re-ranking."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPModel, PreTrainedModel

from evlvideo.models.vlp.hosts.clip import clip_text_features, clip_tokens
from evlvideo.models.vlp.hosts.matching import MatchingHost, clip_features
from evlvideo.models.vlp.hosts.words import tokenized
from evlvideo.models.vlp.images import Guidance, read_by_texts


class Encoder:
    """Encodes images and texts. The host should be in eval mode.

    Args:
        host: a BLIP, ALBEF or CLIP.
        tokenizer: its tokenizer.
        most_tokens: upper bound of a text's tokens.
        frames: what texts read of several frames; see :func:`evlvideo.models.vlp.images.read_by_texts`.
        guidance: how images are pruned, by themselves. If None, they are not.
        dtype: what to compute in; features are float32.
    """

    def __init__(
        self,
        host: PreTrainedModel,
        tokenizer: Any,
        *,
        most_tokens: int,
        frames: str,
        guidance: Guidance | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.host = host
        self._tokenizer = tokenizer
        self._most_tokens = most_tokens
        self._frames = frames
        self._guidance = None if guidance is None else guidance.without_text()
        self._dtype = dtype

    @property
    def matches(self) -> bool:
        """Whether the host can match pairs."""
        return isinstance(self.host, MatchingHost)

    def _autocast(self) -> Any:
        device = self.host.device.type
        return torch.autocast(device, self._dtype, enabled=self._dtype != torch.float32)

    def texts(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Tokenize `B` texts on the host's device: `input_ids` and `attention_mask`, `(B, S)`."""
        found = tokenized(self._tokenizer, captions, self._most_tokens)
        return {name: value.to(self.host.device) for name, value in found.items()}

    @torch.no_grad()
    def images(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Encode clips.

        Args:
            clips: `(B, T, 3, height, width)`.

        Returns:
            unit vectors `(B, C)`, and what texts read, `(B, N, D)`.
        """
        with self._autocast():
            host, clips = self.host, clips.to(self.host.device)
            if isinstance(host, MatchingHost):
                tokens = host.image_tokens(clips, self._guidance)
                return host.image_features(tokens), read_by_texts(tokens, self._frames)
            assert isinstance(host, CLIPModel)
            tokens = clip_tokens(host, clips, self._guidance)
            return clip_features(host.visual_projection, tokens), read_by_texts(tokens, self._frames)

    @torch.no_grad()
    def text_features(self, captions: Sequence[str]) -> Tensor:
        """Encode texts, `B` → unit vectors `(B, C)`."""
        with self._autocast():
            host, text = self.host, self.texts(captions)
            if isinstance(host, MatchingHost):
                return host.text_features(host.text_states(**text))
            assert isinstance(host, CLIPModel)
            return clip_text_features(host, **text)

    def match(self, tokens: Tensor, captions: Sequence[str]) -> Tensor:
        """Score pairs of an image and a text by matching.

        Args:
            tokens: what texts read of the images, `(B, N, D)`, or of one image that all are compared with.
            captions: `B`.

        Returns:
            `(B,)`, float32; higher is more alike.
        """
        return self._matching_logits(tokens, captions)[:, 1]

    def match_probabilities(self, tokens: Tensor, captions: Sequence[str]) -> Tensor:
        """Return how probable it is that pairs match, `(B,)`, float32, from 0 to 1; arguments as :meth:`match`."""
        return self._matching_logits(tokens, captions).softmax(dim=-1)[:, 1]

    @torch.no_grad()
    def _matching_logits(self, tokens: Tensor, captions: Sequence[str]) -> Tensor:
        host = self.host
        assert isinstance(host, MatchingHost), "the host has no matching"
        with self._autocast():
            text = self.texts(captions)
            tokens = tokens.to(host.device).expand(len(captions), -1, -1)
            states = host.text_states(**text) if host.fuses_states else None
            logits = host.matching_logits(host.fused_states(**text, states=states, tokens=tokens))
            return logits.float()
