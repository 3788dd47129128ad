"""Q-Formers: transformers' `Blip2QFormerModel` with queries, the building block of several connectors.

Source: BLIP-2 (Li et al., ICML 2023). Notation: see :mod:`evlvideo.models.connectors.base`.
"""

from typing import cast

import torch
from torch import Tensor, nn
from transformers import BertConfig, Blip2QFormerConfig, Blip2QFormerModel

from evlvideo.models.connectors.bert import copy_bert_weights

_BERT_NAMES = (
    ("layernorm.", "embeddings.LayerNorm."),
    (".attention.attention.", ".attention.self."),
    (".intermediate_query.", ".intermediate."),
    (".output_query.", ".output."),
)
"""Beginnings and parts of a Q-Former's names, with those of a BERT."""


def make_qformer(
    bert: BertConfig,
    *,
    vision_dim: int,
    cross_attention_every: int,
    num_layers: int | None = None,
    texts: bool = False,
) -> Blip2QFormerModel:
    """Make a Q-Former of a BERT's sizes and dropout, with random weights.

    Args:
        bert: the sizes.
        vision_dim: channels of the tokens that it looks at.
        cross_attention_every: layers from one that looks at them to the next.
        num_layers: defaults to the layers of the BERT.
        texts: whether layers have a second feed-forward part, for texts.
    """
    config = Blip2QFormerConfig(
        hidden_size=bert.hidden_size,
        num_hidden_layers=num_layers or bert.num_hidden_layers,
        num_attention_heads=bert.num_attention_heads,
        intermediate_size=bert.intermediate_size,
        hidden_act=bert.hidden_act,
        hidden_dropout_prob=bert.hidden_dropout_prob,
        attention_probs_dropout_prob=bert.attention_probs_dropout_prob,
        initializer_range=bert.initializer_range,
        layer_norm_eps=bert.layer_norm_eps,
        cross_attention_frequency=cross_attention_every,
        encoder_hidden_size=vision_dim,
        use_qformer_text_input=texts,
    )
    return Blip2QFormerModel(config)


def make_queries(count: int, bert: BertConfig) -> nn.Parameter:
    """Make random queries, `(1, Q, H)`."""
    return nn.Parameter(torch.empty(1, count, bert.hidden_size).normal_(std=bert.initializer_range))


def look(qformer: Blip2QFormerModel, queries: Tensor, x: Tensor) -> Tensor:
    """Queries `(1, Q, H)` look at tokens `(B, N, D)` → `(B, Q, H)`."""
    output = qformer(query_embeds=queries.expand(len(x), -1, -1), encoder_hidden_states=x)
    return cast("Tensor", output.last_hidden_state)


def load_bert_into_qformer(qformer: Blip2QFormerModel, name: str) -> None:
    """Initialise a Q-Former in place from a BERT checkpoint, by hub name or folder.

    Its cross-attention, which no BERT has, stays random, as in BLIP-2.

    Raises:
        UserError: there is no such checkpoint, or its sizes differ.
    """
    own = {key: value for key, value in qformer.state_dict().items() if ".crossattention." not in key}
    copy_bert_weights({_bert_name(key): value for key, value in own.items()}, name)


def _bert_name(key: str) -> str:
    for ours, theirs in _BERT_NAMES:
        key = key.replace(ours, theirs) if ours.startswith(".") or key.startswith(ours) else key
    return key
