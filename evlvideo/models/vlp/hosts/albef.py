"""ALBEF: contrast on the lower text layers, matching and masked words on the upper ones, which read the image.

Source: ALBEF (Li et al., 2021), built from transformers' BLIP layers, which have the same order of self-attention,
cross-attention and feed-forward layer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import BlipConfig
from transformers.models.blip.modeling_blip_text import BlipTextOnlyMLMHead

from evlvideo.models.vlp.hosts.matching import MatchingHost

FUSION_LAYER = 6
"""Published number of text layers before those that read the image."""


class Albef(MatchingHost):
    """An ALBEF.

    Modifications:
        - BERT's embedding of the first token type, which every token has, is part of the position table.

    Args:
        config: of the model; `config.fusion_layer` is the number of text layers before those that read the image.
    """

    negative_floor = 0.0
    fuses_states = True
    untaught: tuple[str, ...] = ("itm_head",)
    _tied_weights_keys = {  # noqa: RUF012  (transformers')
        "cls.predictions.decoder.bias": "cls.predictions.bias",
        "cls.predictions.decoder.weight": "text_encoder.embeddings.word_embeddings.weight",
    }

    def __init__(self, config: BlipConfig) -> None:
        super().__init__(config)
        self.fusion_layer = int(getattr(config, "fusion_layer", FUSION_LAYER))
        for layer in self.text_encoder.encoder.layer[: self.fusion_layer]:
            del layer.crossattention
        self.cls = BlipTextOnlyMLMHead(config.text_config)
        self.post_init()

    def text_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode texts by the lower layers."""
        states: Tensor = self.text_encoder.embeddings(input_ids)
        return self._run(slice(None, self.fusion_layer), states, attention_mask)

    def fused_states(self, input_ids: Tensor, attention_mask: Tensor, states: Tensor | None, tokens: Tensor) -> Tensor:
        """Let the states of texts read images in the upper layers; `input_ids` are not used."""
        assert states is not None
        return self.fused_over(attention_mask, states, (tokens,))

    def fused_over(self, attention_mask: Tensor, states: Tensor, images: Sequence[Tensor]) -> Tensor:
        """Let the states of texts read images in the upper layers, which take turns in the image that they read.

        Args:
            attention_mask: `(B, S)`.
            states: of :meth:`text_states`, `(B, S, H)`.
            images: tokens of each, `(B, N, D)`.

        Returns:
            `(B, S, H)`.
        """
        return self._run(slice(self.fusion_layer, None), states, attention_mask, images)

    def language(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> Tensor:
        """Predict masked words."""
        states = self.text_states(input_ids, attention_mask)
        logits: Tensor = self.cls(self.fused_states(input_ids, attention_mask, states, tokens))
        return logits

    def _run(self, layers: slice, states: Tensor, attention_mask: Tensor, images: Sequence[Tensor] = ()) -> Tensor:
        added = torch.zeros_like(attention_mask, dtype=states.dtype)
        added = added.masked_fill(attention_mask == 0, torch.finfo(states.dtype).min)[:, None, None]  # (B, 1, 1, S)
        chosen: nn.ModuleList = self.text_encoder.encoder.layer[layers]
        for number, layer in enumerate(chosen):
            tokens = images[number % len(images)] if images else None
            states = layer(states, encoder_hidden_states=tokens, attention_mask=added)
        return states
