"""BLIP: contrast, matching and captioning with one set of text layers.

Source: BLIP (Li et al., 2022), built from transformers' layers. The text encoder and the decoder share all weights but
their self-attention.
"""

from typing import Any

from torch import Tensor
from transformers import BlipConfig
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

from evlvideo.models.vlp.hosts.matching import MatchingHost, first_replaced


class Blip(MatchingHost):
    """A BLIP with all of its parts: those of transformers' `BlipForImageTextRetrieval`, and its text decoder.

    Weights have the names of transformers' classes, so that a saved model opens as `BlipForImageTextRetrieval` and as
    `BlipForConditionalGeneration`. Call :meth:`share` once weights are loaded.

    Args:
        config: of the model. `config.enc_token_id` is BLIP's [ENC], by default the last word of the vocabulary;
            `config.text_config.bos_token_id` is its [DEC].
    """

    negative_floor = 1e-4
    fuses_states = False
    untaught = ("text_decoder", "itm_head")
    _tied_weights_keys = {  # noqa: RUF012  (transformers')
        "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
        "text_decoder.cls.predictions.decoder.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    }

    def __init__(self, config: BlipConfig) -> None:
        super().__init__(config)
        text: Any = config.text_config
        self.text_decoder = BlipTextLMHeadModel(text)
        self._dec = text.bos_token_id
        self._enc = getattr(config, "enc_token_id", None) or text.vocab_size - 1
        self.post_init()

    def share(self) -> None:
        """Let the decoder use the encoder's embeddings, cross-attention and feed-forward layers."""
        encoder, decoder = self.text_encoder, self.text_decoder.bert
        decoder.embeddings = encoder.embeddings
        for mine, theirs in zip(decoder.encoder.layer, encoder.encoder.layer, strict=True):
            for part in ("crossattention", "intermediate", "output"):
                setattr(mine, part, getattr(theirs, part))
        head = self.text_decoder.cls.predictions
        head.decoder.weight, head.decoder.bias = encoder.embeddings.word_embeddings.weight, head.bias

    def text_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode texts alone."""
        states: Tensor = self.text_encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        return states

    def fused_states(self, input_ids: Tensor, attention_mask: Tensor, states: Tensor | None, tokens: Tensor) -> Tensor:
        """Let texts that begin with [ENC] read images; `states` are not used."""
        fused: Tensor = self.text_encoder(
            first_replaced(input_ids, self._enc), attention_mask=attention_mask, encoder_hidden_states=tokens
        ).last_hidden_state
        return fused

    def language(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> Tensor:
        """Predict each token from those before it, the first of which is [DEC]."""
        logits: Tensor = self.text_decoder(
            first_replaced(input_ids, self._dec),
            attention_mask=attention_mask,
            encoder_hidden_states=tokens,
        ).logits
        return logits
