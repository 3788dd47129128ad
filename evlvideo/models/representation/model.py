"""A Q-Former with its text branch and heads, as BLIP-2's first stage trains it.

Source: BLIP-2 (Li et al., ICML 2023), section 3.2. Notation: `B` clips, `T` frames, `N` tokens of a frame, `D` channels
of the tower, `Q` queries, `L` text tokens, `H` channels of the Q-Former, `C` channels in which images and texts are
compared, `V` vocabulary.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertPredictionHeadTransform
from transformers.models.blip_2.modeling_blip_2 import Blip2TextEmbeddings
from transformers.utils.generic import ModelOutput

from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors.bert import copy_bert_weights
from evlvideo.models.connectors.blip2 import Blip2
from evlvideo.models.connectors.qformer import make_qformer
from evlvideo.models.contrast.gather import gathered, own_rows, together
from evlvideo.models.contrast.term import LEAST_TEMPERATURE, MOST_TEMPERATURE, START_TEMPERATURE
from evlvideo.models.precision import in_float32, in_own_precision
from evlvideo.models.representation.losses import (
    Contrast,
    causal_attention,
    contrast,
    generation_loss,
    pair_attention,
    text_attention,
)
from evlvideo.models.vlp.losses import matching_loss
from evlvideo.models.vlp.negatives import draw_negatives

NEGATIVE_FLOOR = 1e-4
"""Added to the softmax that negatives are drawn from, as published."""
_OF_CAPTIONER = ("vision_tower.", "ln_vision.", "connector.")
_SHARED = ("attention", "crossattention", "intermediate_query", "output_query")
"""Parts of a layer that texts share with the queries, or that are the queries' own."""


@dataclass(frozen=True, slots=True)
class TextSizes:
    """Sizes of a text branch."""

    vocabulary: int
    """`V`."""
    max_tokens: int
    """Longest text."""
    width: int
    """`C`."""
    pad_token_id: int
    """Padding token."""
    decoding_token_id: int
    """First token of a text that is generated."""


@dataclass
class RepresentationOutput(ModelOutput):
    """What a pass over pairs of images and texts returns."""

    contrast_loss: Tensor | None = None
    matching_loss: Tensor | None = None
    generation_loss: Tensor | None = None
    images: Tensor | None = None
    """Unit vectors of the queries, `(B, Q, C)`, without gradient."""
    texts: Tensor | None = None
    """Unit vectors of the texts, `(B, C)`, without gradient."""


class RepresentationModel(nn.Module):
    """A captioner's tower, norm and Q-Former, with a text branch and three heads.

    The Q-Former is the captioner's own, so what is learned stays in it. Texts share its self-attention, and have
    feed-forward layers, embeddings and heads of their own, which the captioner does not have. There is no language
    model.

    Args:
        captioner: with `connector=blip2`.
        sizes: of the text branch, which starts from random weights.
    """

    accepts_loss_kwargs = False

    def __init__(self, captioner: EvlVideoForCaptioning, sizes: TextSizes) -> None:
        super().__init__()
        self.vision_tower, self.ln_vision = captioner.vision_tower, captioner.ln_vision
        self.connector = cast(Blip2, captioner.connector)
        assert isinstance(self.connector, Blip2)
        bert = BertConfig(
            **{
                **captioner.config.bert.to_dict(),
                "vocab_size": sizes.vocabulary,
                "pad_token_id": sizes.pad_token_id,
                "max_position_embeddings": max(captioner.config.bert.max_position_embeddings, sizes.max_tokens),
            }
        )
        self.fusion = captioner.config.fusion
        self.sizes = sizes
        self.embeddings = Blip2TextEmbeddings(bert)
        self.qformer = make_text_qformer(self.connector, bert)
        self.vision_projection = nn.Linear(bert.hidden_size, sizes.width)
        self.text_projection = nn.Linear(bert.hidden_size, sizes.width)
        self.matching_head = nn.Linear(bert.hidden_size, 2)
        self.word_transform = BertPredictionHeadTransform(bert)
        self.word_bias = nn.Parameter(torch.zeros(sizes.vocabulary))
        self.temperature = nn.Parameter(torch.tensor(START_TEMPERATURE))
        for part in (self.embeddings, self.word_transform):
            part.apply(partial(_start, std=bert.initializer_range))

    def autocast(self) -> AbstractContextManager[Any]:
        """The autocast that the model computes in, that of its frozen tower."""
        return self.vision_tower.autocast()

    def text_branch(self) -> dict[str, Tensor]:
        """The weights that the captioner does not have, by name."""
        return {name: weight for name, weight in self.named_parameters() if not name.startswith(_OF_CAPTIONER)}

    def load_bert(self, name: str, own_tokens: int) -> None:
        """Start the text branch from a BERT: words, positions and feed-forward layers. Heads stay random.

        Args:
            name: hub name or folder.
            own_tokens: words of the BERT; rows of further ones stay random.

        Raises:
            UserError: there is no such checkpoint, or its sizes differ.
        """
        words, places = self.embeddings.word_embeddings.weight, self.embeddings.position_embeddings.weight
        wanted = {
            "embeddings.word_embeddings.weight": words.data[:own_tokens],
            "embeddings.position_embeddings.weight": places.data,
        }
        for index, layer in enumerate(self.qformer.encoder.layer):
            for part in ("intermediate", "output"):
                for key, value in getattr(layer, part).state_dict().items():
                    wanted[f"encoder.layer.{index}.{part}.{key}"] = value
        copy_bert_weights(wanted, name)

    def image_tokens(self, pixel_values: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        """Frames `(B, T, 3, height, width)`, or the tower's output, `(B, T, N, D)` → `(B, N, D)`, normalised.

        `(B, T·N, D)` if the queries look at all frames together.
        """
        if features is None:
            features = self.vision_tower(pixel_values)
        features = features.to(self.vision_tower.dtype)
        if self.fusion == "mean":
            features = features.mean(dim=1, keepdim=True)
        return self.ln_vision(features).to(self.connector.queries.dtype).flatten(1, 2)

    def compare(self, image: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode images and texts apart, and let the texts be generated after the queries.

        The queries do not see the text, so that one pass serves contrast and generation.

        Args:
            image: tokens, `(B, N, D)`.
            ids: text tokens, `(B, L)`.
            mask: ones on text, zeros on padding, `(B, L)`.

        Returns:
            unit vectors of the queries, `(B, Q, C)`, those of the texts, `(B, C)`, and the logits at each text token
            but the last, `(B, L - 1, V)`.
        """
        count = self.connector.queries.shape[1]
        generated = torch.cat([torch.full_like(ids[:, :1], self.sizes.decoding_token_id), ids[:, 1:]], dim=1)
        hidden = self._read(generated, causal_attention(mask, count), image)  # (B, Q + L, H)
        alone = self._read(ids, text_attention(mask))  # (B, L, H)
        with in_float32(hidden.device):
            images = F.normalize(self.vision_projection(hidden[:, :count].float()), dim=-1)
            texts = F.normalize(self.text_projection(alone[:, 0].float()), dim=-1)
        words = self.embeddings.word_embeddings.weight
        logits = F.linear(self.word_transform(hidden[:, count:-1]), words, self.word_bias)
        return images, texts, logits

    def match(self, image: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Let queries and texts attend to each other: logits of each pair, `(B, 2)`; the second is that it matches."""
        count = self.connector.queries.shape[1]
        hidden = self._read(ids, pair_attention(mask, count), image)
        return self.matching_head(hidden[:, :count]).mean(dim=1)

    def _read(self, ids: Tensor, attention: Tensor, image: Tensor | None = None) -> Tensor:
        """Read texts `(B, L)`, after the queries if there is an image: `(B, L, H)`, or `(B, Q + L, H)`."""
        queries = None if image is None else self.connector.queries.expand(len(ids), -1, -1)
        output = self.qformer(
            query_embeds=self.embeddings(ids, query_embeds=queries),
            query_length=0 if queries is None else queries.shape[1],
            attention_mask=attention,
            encoder_hidden_states=image,
        )
        return cast(Tensor, output.last_hidden_state)

    @in_own_precision
    def forward(
        self,
        pixel_values: Tensor | None = None,
        features: Tensor | None = None,
        *,
        text_ids: Tensor,
        text_mask: Tensor,
        clips: Tensor,
        generator: torch.Generator | None = None,
        across: bool = True,
    ) -> RepresentationOutput:
        """Compute the three losses of a batch, without their weights.

        Args:
            pixel_values: frames, `(B, T, 3, height, width)`; or give `features`.
            features: the tower's output, `(B, T, N, D)`.
            text_ids: a text of each clip, `(B, L)`; see :class:`~evlvideo.models.representation.texts.PairTokenizer`.
            text_mask: ones on text, zeros on padding, `(B, L)`.
            clips: a number that tells clips apart, `(B,)`.
            generator: draws the negatives.
            across: whether to compare with the pairs of all processes. All must call this with as many pairs.

        Raises:
            ValueError: there is one pair in all, which has no negatives.
        """
        with torch.no_grad():
            self.temperature.clamp_(LEAST_TEMPERATURE, MOST_TEMPERATURE)
        across = across and together()
        if across:  # texts of all processes must be as long to be gathered
            missing = self.sizes.max_tokens - text_ids.shape[1]
            text_ids = F.pad(text_ids, (0, missing), value=self.sizes.pad_token_id)
            text_mask = F.pad(text_mask, (0, missing))
        image = self.image_tokens(pixel_values, features)
        images, texts, logits = self.compare(image, text_ids, text_mask)
        with in_float32(image.device):
            found = contrast(images, texts, self.temperature, clips, across=across)
        pairs = self._pairs(image, text_ids, text_mask, found, generator, across=across)
        return RepresentationOutput(
            contrast_loss=found.loss,
            matching_loss=matching_loss(self.match(*pairs), len(image)),
            generation_loss=generation_loss(logits, text_ids, text_mask),
            images=images.detach(),
            texts=texts.detach(),
        )

    def _pairs(
        self,
        image: Tensor,
        ids: Tensor,
        mask: Tensor,
        found: Contrast,
        generator: torch.Generator | None,
        *,
        across: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Make the pairs to match: those of the batch, each text with a wrong image, each image with a wrong text."""
        own = own_rows(len(image), image.device) if across else torch.arange(len(image), device=image.device)
        # Another caption of the same clip is no wrong text.
        to_images, to_texts = (
            logits.masked_fill(found.same, -1e4) for logits in (found.text_to_image, found.image_to_text)
        )
        wrong_image = draw_negatives(to_images, own, generator, NEGATIVE_FLOOR)
        wrong_text = draw_negatives(to_texts, own, generator, NEGATIVE_FLOOR)
        all_images, all_ids, all_masks = image, ids, mask
        if across:
            all_images = gathered(image, constant=False)
            all_ids, all_masks = gathered(ids, constant=True), gathered(mask, constant=True)
        return (
            torch.cat([image, all_images[wrong_image], image]),
            torch.cat([ids, ids, all_ids[wrong_text]]),
            torch.cat([mask, mask, all_masks[wrong_text]]),
        )


def make_text_qformer(connector: Blip2, bert: BertConfig) -> Any:
    """Make a Q-Former that reads texts too, of the connector's layers and new feed-forward layers for texts."""
    own = connector.qformer
    qformer = make_qformer(
        bert,
        vision_dim=own.config.encoder_hidden_size,
        cross_attention_every=own.config.cross_attention_frequency,
        texts=True,
    )
    qformer.layernorm = own.layernorm
    for layer, theirs in zip(qformer.encoder.layer, own.encoder.layer, strict=True):
        for part in _SHARED:
            if hasattr(theirs, part):
                setattr(layer, part, getattr(theirs, part))
    return qformer


@torch.no_grad()
def _start(module: nn.Module, std: float) -> None:
    """Initialise a layer as BERT does."""
    if isinstance(module, nn.Linear | nn.Embedding):
        module.weight.normal_(std=std)
    if isinstance(module, nn.Linear):
        module.bias.zero_()
