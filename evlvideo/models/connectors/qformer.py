"""Q-Formers: transformers' `Blip2QFormerModel` with queries, for the connectors that are made of them.

Source: BLIP-2 (Li et al., ICML 2023). Notation: see :class:`~evlvideo.models.connectors.base.Connector`.
"""

from typing import cast

import torch
from torch import Tensor, nn
from transformers import BertConfig, Blip2QFormerConfig, Blip2QFormerModel


def make_qformer(
    bert: BertConfig, *, vision_dim: int, cross_attention_every: int, num_layers: int | None = None
) -> Blip2QFormerModel:
    """A Q-Former of a BERT's sizes and dropout, at random.

    Args:
        bert: the sizes.
        vision_dim: channels of what it looks at.
        cross_attention_every: layers from one that looks to the next.
        num_layers: how many, where not as many as the BERT has.
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
    )
    return Blip2QFormerModel(config)


def make_queries(count: int, bert: BertConfig) -> nn.Parameter:
    """Queries at random, `(1, Q, H)`."""
    return nn.Parameter(torch.empty(1, count, bert.hidden_size).normal_(std=bert.initializer_range))


def look(qformer: Blip2QFormerModel, queries: Tensor, x: Tensor) -> Tensor:
    """Queries `(1, Q, H)` look at tokens `(B, N, D)` → `(B, Q, H)`."""
    output = qformer(query_embeds=queries.expand(len(x), -1, -1), encoder_hidden_states=x)
    return cast("Tensor", output.last_hidden_state)
