"""ALBEF: contrast on the lower text layers, matching and masked words on the upper ones, which read the image.

Source: ALBEF (Li et al., 2021), built from transformers' BLIP layers, which have the same order of self-attention,
cross-attention and feed-forward layer.
"""

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
    untaught = ("itm_head",)
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
        return self._run(slice(None, self.fusion_layer), states, attention_mask, None)

    def fused_states(self, input_ids: Tensor, attention_mask: Tensor, states: Tensor | None, tokens: Tensor) -> Tensor:
        """Let the states of texts read images in the upper layers; `input_ids` are not used."""
        assert states is not None
        return self._run(slice(self.fusion_layer, None), states, attention_mask, tokens)

    def language(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> Tensor:
        """Predict masked words."""
        states = self.text_states(input_ids, attention_mask)
        logits: Tensor = self.cls(self.fused_states(input_ids, attention_mask, states, tokens))
        return logits

    def _run(self, layers: slice, states: Tensor, attention_mask: Tensor, tokens: Tensor | None) -> Tensor:
        added = torch.zeros_like(attention_mask, dtype=states.dtype)
        added = added.masked_fill(attention_mask == 0, torch.finfo(states.dtype).min)[:, None, None]  # (B, 1, 1, S)
        chosen: nn.ModuleList = self.text_encoder.encoder.layer[layers]
        for layer in chosen:
            states = layer(states, encoder_hidden_states=tokens, attention_mask=added)
        return states
