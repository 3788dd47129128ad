"""EVLGen's connector, the TomeFormer: BERT's encoder with token merging between attention and feed-forward.

Source: EVLGen (Jian et al., ACL 2024), section 3. The encoder is built of transformers' own BERT layers, under BERT's
names, without word embeddings and pooler. Notation: see :mod:`evlvideo.models.connectors.base`; inside the encoder, `B`
is a batch of frames.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertAttention, BertLayer, BertSelfAttention

from evlvideo.errors import UserError
from evlvideo.models.connectors.base import Connector, TowerShape
from evlvideo.models.connectors.bert import copy_bert_weights
from evlvideo.models.tokens.contextualizers import MergedContextualizer
from evlvideo.models.tokens.merging import (
    Merge,
    Reduction,
    bipartite_soft_matching,
    identity_source,
    merge_mean,
    merge_schedule,
    merge_schedule_to,
    merge_size_weighted,
    merge_source,
    tokens_after,
)


class MergeState(NamedTuple):
    """What is known of the tokens, from layer to layer."""

    size: Tensor | None
    """Original tokens behind each token, `(B, N, 1)`; only for the size-weighted reduction."""
    source: Tensor | None
    """Which original tokens are in each token, `(B, N, N_original)`; only for images of them."""


class MergingSelfAttention(BertSelfAttention):
    """BERT's self-attention.

    Modifications: returns the mean of the keys over the heads, which merging compares, instead of the attention
    weights. It takes no mask and no cache, which an encoder of image tokens does not need.
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

    Modifications: merges `r` tokens after attention, its residual and its norm, so that the feed-forward and all later
    layers see fewer of them.
    """

    def __init__(self, config: BertConfig, r: int, reduction: Reduction, class_token: bool) -> None:
        super().__init__(config)
        self.attention.self = MergingSelfAttention(config)
        self.r, self.reduction, self.class_token = r, reduction, class_token

    def forward(self, hidden_states: Tensor, state: MergeState) -> tuple[Tensor, MergeState]:
        """`(B, N, H)` → `(B, N − r, H)`, and the state of the tokens that are left."""
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
                "positions; use smaller images, or a connector with a larger max_position_embeddings."
            )
        x = x + self.token_type_embeddings.weight[0] + self.position_embeddings.weight[:tokens]
        return self.dropout(self.LayerNorm(x))


class TomeFormerEncoder(nn.Module):
    """A BERT encoder that merges tokens on the way: `(B, N, H)` → `(B, M, H)`.

    With `merge_r=0` it is transformers' BERT encoder, value for value.

    Args:
        config: sizes and dropout of the BERT.
        merge_r: tokens merged in each layer; see :func:`~evlvideo.models.tokens.merging.merge_schedule`.
        reduction: `mean` (EVLGen) or `size_weighted` (ToMe).
        class_token: whether the first token is a class token, which is never merged.
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


def make_schedule(
    bert: BertConfig, tower: TowerShape, *, merge_r: int | Sequence[float] | None, merge_to: int | None
) -> list[int]:
    """Make the schedule of a TomeFormer: the tokens that each layer merges, by `merge_r` or by what is to be left.

    Raises:
        UserError: the schedule does not fit the layers, or merging cannot leave `merge_to` tokens.
    """
    if merge_to is not None:
        return merge_schedule_to(merge_to, tower.num_tokens, bert.num_hidden_layers, class_token=tower.class_token)
    assert merge_r is not None, "give merge_r or merge_to"
    return merge_schedule(merge_r, bert.num_hidden_layers)


class TomeFormer(Connector):
    """Project tokens, merge them within each frame, and let frames see each other: `(B, T, N, D)` → `(B, T, M, H)`.

    Args:
        bert: sizes and dropout.
        tower: shape of the vision tower.
        options: none.
        merge_r: see :class:`TomeFormerEncoder`; None with `merge_to`.
        merge_to: tokens of a frame that are left; see
            :func:`~evlvideo.models.tokens.merging.merge_schedule_to`. Defaults to what `merge_r` leaves.
        merge_reduction: see :class:`TomeFormerEncoder`.
        contextualizer: `merged` adds a contextualizer over the merged tokens of all frames.
        contextualizer_heads: its heads.
        frame_positions: whether it knows the order of the frames.
        max_frames: frames that have a position.

    Raises:
        UserError: merging cannot leave `merge_to` of the tower's tokens.
    """

    settings = (
        "merge_r",
        "merge_to",
        "merge_reduction",
        "contextualizer",
        "contextualizer_heads",
        "frame_positions",
        "max_frames",
    )
    merges_tokens = True
    has_dropout = True

    def __init__(
        self,
        bert: BertConfig,
        tower: TowerShape,
        options: Any,
        *,
        merge_r: int | Sequence[float] | None,
        merge_to: int | None = None,
        merge_reduction: Reduction = "mean",
        contextualizer: str = "none",
        contextualizer_heads: int = 8,
        frame_positions: bool = False,
        max_frames: int = 32,
    ) -> None:
        super().__init__()
        self.output_dim = bert.hidden_size
        self.projection = nn.Linear(tower.dim, bert.hidden_size)
        schedule = make_schedule(bert, tower, merge_r=merge_r, merge_to=merge_to)
        self.bert = TomeFormerEncoder(bert, merge_r=schedule, reduction=merge_reduction, class_token=tower.class_token)
        self.contextualizer = (
            MergedContextualizer(
                bert.hidden_size, num_heads=contextualizer_heads, max_frames=max_frames if frame_positions else None
            )
            if contextualizer == "merged"
            else None
        )

    @classmethod
    def problems(cls, bert: BertConfig, options: Any, settings: Mapping[str, Any]) -> list[str]:
        """List a schedule of merging that does not fit the layers."""
        r, target = settings["merge_r"], settings["merge_to"]
        if target is not None:
            both = [f"merge_r is {r} and merge_to is {target}; give one of them, and leave the other out (null)"]
            low = [f"merge_to is {target}; it must be at least 1"]
            return (both if r is not None else []) + (low if target < 1 else [])
        try:
            merge_schedule(r, bert.num_hidden_layers)
        except UserError as error:
            return [str(error)]
        return []

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → `(B, T, M, H)`."""
        tokens = self.projection(x)  # (B, T, N, H)
        merged = self.bert(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])  # (B, T, M, H)
        return merged if self.contextualizer is None else self.contextualizer(merged)

    def num_output_tokens(self, num_tokens: int) -> int:
        """`M`, for each frame."""
        return self.bert.num_output_tokens(num_tokens)

    def load_bert(self, name: str) -> None:
        """Start the encoder from a BERT; one with fewer layers takes the first ones."""
        copy_bert_weights(self.bert.state_dict(), name)
