"""The TomeFormer: BERT's encoder with token merging between attention and feed-forward.

Source: EVLGen (Jian et al., ACL 2024), section 3. Built of transformers' own BERT layers, under BERT's names, without
word embeddings and pooler. Notation: `B` batch, `N` tokens in, `M` tokens out, `H` hidden size.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertAttention, BertLayer, BertSelfAttention

from evlvideo.errors import UserError
from evlvideo.models.tokens.merging import (
    Merge,
    Reduction,
    bipartite_soft_matching,
    identity_source,
    merge_mean,
    merge_schedule,
    merge_size_weighted,
    merge_source,
    tokens_after,
)


class MergeState(NamedTuple):
    """What travels through the layers beside the tokens."""

    size: Tensor | None
    """Original tokens behind each token, `(B, N, 1)`; only for the size-weighted reduction."""
    source: Tensor | None
    """Which original tokens are in each token, `(B, N, N_original)`; only where pictures are asked for."""


class MergingSelfAttention(BertSelfAttention):
    """BERT's self-attention.

    Modifications: returns the mean of the keys over the heads, which merging compares, in the place of the attention
    weights. It takes no mask and no cache, which an encoder of image tokens does not have.
    """

    def forward(self, hidden_states: Tensor, **unused: object) -> tuple[Tensor, Tensor]:
        """`(B, N, H)` → context `(B, N, H)` and metric `(B, N, H / heads)`."""
        heads = (*hidden_states.shape[:-1], self.num_attention_heads, self.attention_head_size)
        query = self.query(hidden_states).view(heads).transpose(1, 2)
        key = self.key(hidden_states).view(heads).transpose(1, 2)
        value = self.value(hidden_states).view(heads).transpose(1, 2)
        dropout = self.dropout.p if self.training else 0.0
        context = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=self.scaling)
        return context.transpose(1, 2).flatten(2), key.mean(dim=1)


class TomeFormerLayer(BertLayer):
    """BERT's layer.

    Modifications: merges `r` tokens after attention, its residual and its norm, so that the feed-forward and all that
    follows sees fewer of them.
    """

    def __init__(self, config: BertConfig, r: int, reduction: Reduction, class_token: bool) -> None:
        super().__init__(config)
        self.attention.self = MergingSelfAttention(config)
        self.r, self.reduction, self.class_token = r, reduction, class_token

    def forward(self, hidden_states: Tensor, state: MergeState) -> tuple[Tensor, MergeState]:
        """`(B, N, H)` → `(B, N − r, H)`, with what is known of the tokens."""
        attention: BertAttention = self.attention
        context, metric = attention.self(hidden_states)
        hidden_states = attention.output(context, hidden_states)
        merge = bipartite_soft_matching(metric, self.r, class_token=self.class_token)
        hidden_states, state = self._reduce(merge, hidden_states, state)
        return self.feed_forward_chunk(hidden_states), state

    def _reduce(self, merge: Merge, hidden_states: Tensor, state: MergeState) -> tuple[Tensor, MergeState]:
        source = None if state.source is None else merge_source(merge, state.source)
        if state.size is None:
            return merge_mean(merge, hidden_states), MergeState(None, source)
        hidden_states, size = merge_size_weighted(merge, hidden_states, state.size)
        return hidden_states, MergeState(size, source)


class TomeFormerEmbeddings(nn.Module):
    """BERT's embeddings without words: token type 0 and learned positions, added, normalised, dropped out."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, H)` → `(B, N, H)`.

        Raises:
            UserError: more tokens than there are positions.
        """
        tokens = x.shape[1]
        if tokens > self.position_embeddings.num_embeddings:
            raise UserError(
                f"The tower gives {tokens} tokens and the connector has {self.position_embeddings.num_embeddings} "
                "positions; use smaller pictures, or a connector with a larger max_position_embeddings."
            )
        x = x + self.token_type_embeddings.weight[0] + self.position_embeddings.weight[:tokens]
        return self.dropout(self.LayerNorm(x))


class TomeFormer(nn.Module):
    """A BERT encoder that merges tokens on the way: `(B, N, H)` → `(B, M, H)`.

    With `merge_r=0` it is transformers' BERT encoder, value for value.

    Args:
        config: sizes and dropout of the BERT.
        merge_r: tokens merged in each layer, in a form that :func:`~evlvideo.models.tokens.merging.merge_schedule`
        takes. reduction: `mean` (EVLGen) or `size_weighted` (ToMe). class_token: whether the token at place 0 is a
        class token, which is never merged.
    """

    def __init__(
        self,
        config: BertConfig,
        *,
        merge_r: int | Sequence[float],
        reduction: Reduction = "mean",
        class_token: bool = True,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.class_token = class_token
        self.schedule = merge_schedule(merge_r, config.num_hidden_layers)
        self.embeddings = TomeFormerEmbeddings(config)
        layers = [TomeFormerLayer(config, r, reduction, class_token) for r in self.schedule]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `(B, N, H)` → merged tokens `(B, M, H)`."""
        return self._run(x, None)[0]

    def forward_with_source(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Also tell which tokens went where: `(B, M, H)` and zeros and ones `(B, M, N)`."""
        merged, state = self._run(x, identity_source(x.shape[0], x.shape[1], x.device))
        assert state.source is not None
        return merged, state.source

    def num_output_tokens(self, num_tokens: int) -> int:
        """`M` for `N = num_tokens`."""
        return tokens_after(num_tokens, self.schedule, self.class_token)

    def _run(self, x: Tensor, source: Tensor | None) -> tuple[Tensor, MergeState]:
        size = x.new_ones(*x.shape[:2], 1) if self.reduction == "size_weighted" else None
        state = MergeState(size, source)
        x = self.embeddings(x)
        for layer in self.encoder["layer"]:  # type: ignore[attr-defined]
            x, state = layer(x, state)
        return x, state


def load_bert_weights(tomeformer: TomeFormer, name: str) -> None:
    """Initialise a TomeFormer, in place, from a BERT checkpoint, by hub name or folder.

    Word embeddings and pooler of the BERT are left out; a TomeFormer with fewer layers takes the first ones.

    Raises:
        UserError: there is no such checkpoint, or its sizes differ (all differences are listed).
    """
    copy_bert_weights(tomeformer.state_dict(), name)


def copy_bert_weights(wanted: Mapping[str, Tensor], name: str) -> None:
    """Copy weights of a BERT checkpoint, by hub name or folder.

    Args:
        wanted: a model's tensors by BERT's names; they are written to.
        name: of the checkpoint.

    Raises:
        UserError: there is no such checkpoint, or its sizes differ (all differences are listed).
    """
    try:
        bert, loading = cast("Any", BertModel.from_pretrained(name, add_pooling_layer=False, output_loading_info=True))
    except (OSError, ValueError) as error:
        where = "folder" if Path(name).exists() else "hub name or folder"
        raise UserError(f"No BERT checkpoint could be read from the {where} {name!r}: {error}") from error
    # What the files lack is at random in `bert`.
    theirs = {key: value for key, value in bert.state_dict().items() if key not in loading["missing_keys"]}
    problems = [
        f"{key}: {tuple(value.shape)} here, {tuple(theirs[key].shape) if key in theirs else 'missing'} there"
        for key, value in wanted.items()
        if key not in theirs or theirs[key].shape != value.shape
    ]
    if problems:
        raise UserError(f"The BERT checkpoint {name!r} does not fit the connector:\n  " + "\n  ".join(problems))
    with torch.no_grad():
        for key, value in wanted.items():
            value.copy_(theirs[key])
