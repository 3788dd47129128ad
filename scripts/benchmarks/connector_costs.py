"""Count the multiply-adds of the trained parts of EVLGen, BLIP-2 and video systems, beside the published numbers.

    python scripts/benchmarks/connector_costs.py

Writes `docs/benchmarks/connector_costs.json`, the source of `docs/benchmarks.md`. Nothing is computed and no weights
are needed: modules run on tensors without values while torch counts their products.

Published numbers do not say what "multiply-adds" include, so each system is counted in four ways: the linear layers of
the transformer in a forward pass; all of its products, including attention and matching; those and its projections and
heads; and all of that forward and backward.

In BLIP-2's second stage, queries attend to the image. Its first stage trains on an image and a text in four passes (Li
et al., ICML 2023, section 3.2): the queries attend to the image, and the text is read alone, both for the contrastive
loss; three pairs of image and text (the right one, one with a wrong text, one with a wrong image) are read together for
the matching loss; and the text is read after the queries for the captioning loss. For the last, transformers does not
cache the queries, so the text is read alone here: its linear layers are the same, but its attention to the queries,
0.02 G, is missing.

Video systems are counted on a clip of four frames, before Vicuna-7b, as they were fine-tuned on MSR-VTT. Parameters are
the trained ones; weights that a system keeps frozen from BLIP-2 count in the forward pass only.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, Blip2QFormerConfig, Blip2QFormerModel

from evlvideo.estimate.counting import FORMULAS
from evlvideo.files import write_json
from evlvideo.models.connectors import CONNECTORS, TOMEFORMER, connector_class
from evlvideo.models.connectors.base import TowerShape
from evlvideo.models.connectors.tomeformer import TomeFormerEncoder
from evlvideo.models.trainable import is_trained
from evlvideo.results.provenance import versions

OUT = Path(__file__).parents[2] / "docs" / "benchmarks" / "connector_costs.json"
IMAGE_TOKENS, IMAGE_WIDTH = 257, 1408
QUERIES, WIDTH, CONTRAST_WIDTH = 32, 768, 256
PAIRS = 3
"""Pairs of image and text to match, per image."""
VOCABULARY, TEXT_POSITIONS = 30522, 512
LANGUAGE_MODEL_WIDTH, VICUNA_WIDTH = 2560, 4096
"""Widths of OPT-2.7b and Vicuna-7b."""
CLIP_FRAMES, VIDEO_LLAMA_FRAMES = 4, 32
GRID = (16, 16)
"""Rows and columns of an image's patches."""
PUBLISHED = {"evlgen_r19": 11.9, "blip2_second": 6.28, "blip2_first": 36.7}
"""In billions (G)."""
PUBLISHED_PARAMETERS = {"evlgen_r19": 110}
"""In millions (M)."""


@dataclass(frozen=True)
class System:
    """The trained part of one system."""

    trained: nn.Module
    transformer: Callable[[], list[Tensor]]
    """Runs a forward pass of the transformer alone."""
    whole: Callable[[], list[Tensor]]
    """Runs a forward pass from the vision tower's tokens to the inputs of the losses or the language model."""


def main() -> None:
    """Count, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text-tokens", type=int, default=32, help="tokens of a text in the first stage (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="file to write (%(default)s)")
    options = parser.parse_args()
    report = count_systems(options.text_tokens)
    write_json(options.out, report)
    for name, costs in report["systems"].items():
        print(name, costs)


def count_systems(text_tokens: int) -> dict[str, Any]:
    """Count parameters, and multiply-adds in each way, of every system."""
    with torch.device("meta"):
        systems = {
            **{f"evlgen_r{r}": evlgen(r) for r in (19, 9, 0)},
            "blip2_second": blip2_second_stage(),
            "blip2_first": blip2_first_stage(text_tokens),
            **video_systems(),
        }
        counted = {name: count(system) for name, system in systems.items()}
    return {
        "image_tokens": IMAGE_TOKENS,
        "clip_frames": CLIP_FRAMES,
        "text_tokens": text_tokens,
        "versions": versions(),
        "systems": {
            name: {
                **costs,
                "published_multiply_adds_g": PUBLISHED.get(name),
                "published_parameters_m": PUBLISHED_PARAMETERS.get(name),
            }
            for name, costs in counted.items()
        },
    }


def count(system: System) -> dict[str, Any]:
    """Count the costs of one system."""
    linear, products = _products(system.transformer)
    return {
        "parameters": sum(weight.numel() for weight in system.trained.parameters() if weight.requires_grad),
        "multiply_adds": {
            "linear_forward": linear,
            "transformer_forward": linear + products,
            "whole_forward": sum(_products(system.whole)),
            "whole_forward_and_backward": sum(_products(system.whole, backward=True)),
        },
    }


def _products(run: Callable[[], list[Tensor]], *, backward: bool = False) -> tuple[int, int]:
    """Count multiply-adds of products with weights (in a forward pass), and of products of two activations."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        outputs = run()
        if backward:
            torch.stack([output.sum() for output in outputs]).sum().backward()
    counts = counter.get_flop_counts().get("Global", {})
    linear = sum(counts.get(operator, 0) for operator in (torch.ops.aten.mm, torch.ops.aten.addmm))
    return linear // 2, (counter.get_total_flops() - linear) // 2


def evlgen(r: int) -> System:
    """EVLGen's connector, merging `r` tokens in each layer."""
    norm, projection = nn.LayerNorm(IMAGE_WIDTH), nn.Linear(IMAGE_WIDTH, WIDTH)
    transformer = TomeFormerEncoder(BertConfig(), merge_r=r)
    language_projection = nn.Linear(WIDTH, LANGUAGE_MODEL_WIDTH)
    image = torch.empty(1, IMAGE_TOKENS, IMAGE_WIDTH)
    tokens = torch.empty(1, IMAGE_TOKENS, WIDTH)
    return System(
        trained=nn.ModuleList([norm, projection, transformer, language_projection]),
        transformer=lambda: [transformer(tokens)],
        whole=lambda: [language_projection(transformer(projection(norm(image))))],
    )


class QFormer(nn.Module):
    """BLIP-2's Q-Former, with or without a text."""

    def __init__(self, *, text: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(IMAGE_WIDTH)
        self.queries = nn.Parameter(torch.empty(1, QUERIES, WIDTH))
        self.layers = Blip2QFormerModel(
            Blip2QFormerConfig(encoder_hidden_size=IMAGE_WIDTH, use_qformer_text_input=text)
        )

    def look(self, image: Tensor, text: Tensor | None = None) -> Tensor:
        """Let queries, and optionally a text, attend to images: `(B, 257, 1408)` → `(B, 32 (+ L), 768)`."""
        tokens = self.queries.expand(len(image), -1, -1)
        if text is not None:
            tokens = torch.cat([tokens, text], dim=1)
        return self.layers(tokens, query_length=QUERIES, encoder_hidden_states=self.norm(image)).last_hidden_state

    def read(self, text: Tensor) -> Tensor:
        """Read a text alone: `(B, L, 768)` → the same."""
        return self.layers(text, query_length=0).last_hidden_state


def blip2_second_stage() -> System:
    """Run the queries up to the language model."""
    qformer, projection = QFormer(text=False), nn.Linear(WIDTH, LANGUAGE_MODEL_WIDTH)
    image = torch.empty(1, IMAGE_TOKENS, IMAGE_WIDTH)
    return System(
        trained=nn.ModuleList([qformer, projection]),
        transformer=lambda: [qformer.look(image)],
        whole=lambda: [projection(qformer.look(image))],
    )


def blip2_first_stage(text_tokens: int) -> System:
    """Run the four passes over an image and its text."""
    qformer = QFormer(text=True)
    words, places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(TEXT_POSITIONS, WIDTH)
    contrast = nn.ModuleList([nn.Linear(WIDTH, CONTRAST_WIDTH), nn.Linear(WIDTH, CONTRAST_WIDTH)])
    matching = nn.Linear(WIDTH, 2)
    # BERT's head; its last layer shares the word embeddings' matrix.
    dense, head_norm, bias = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.Parameter(torch.empty(VOCABULARY))
    image = torch.empty(1, IMAGE_TOKENS, IMAGE_WIDTH)
    ids = torch.zeros(1, text_tokens, dtype=torch.long)

    def transformer() -> list[Tensor]:
        text = words(ids) + places.weight[:text_tokens]
        pairs = qformer.look(image.expand(PAIRS, -1, -1), text.expand(PAIRS, -1, -1))
        return [qformer.look(image), qformer.read(text), pairs, qformer.read(text)]

    def whole() -> list[Tensor]:
        seen, text, pairs, caption = transformer()
        logits = nn.functional.linear(head_norm(dense(caption)), words.weight, bias)
        return [contrast[0](seen), contrast[1](text[:, 0]), matching(pairs[:, :QUERIES]), logits]

    trained = nn.ModuleList([qformer, words, places, contrast, matching, dense, head_norm, nn.ParameterList([bias])])
    return System(trained=trained, transformer=transformer, whole=whole)


def video_systems() -> dict[str, System]:
    """The connectors that EVLGen is compared with, and the simple baselines."""
    names = {"blip2_clip": "blip2"} | {name: name for name in CONNECTORS if name not in (TOMEFORMER, "blip2")}
    return {system: video_system(name) for system, name in names.items()}


def video_system(name: str) -> System:
    """A connector between norm and projection under the captioner's names, which determine the trained weights."""
    tower = TowerShape(IMAGE_WIDTH, IMAGE_TOKENS, GRID, class_token=True)
    found, known = connector_class(name), {"max_frames": VIDEO_LLAMA_FRAMES, "language_width": VICUNA_WIDTH}
    options, settings = found.options_class(), {setting: known[setting] for setting in found.settings}
    connector, relations = found(BertConfig(), tower, options, **settings), found.make_block_reader(tower, options)
    norm, projection = nn.LayerNorm(IMAGE_WIDTH), nn.Linear(connector.output_dim, VICUNA_WIDTH)
    parts = nn.ModuleDict({"ln_vision": norm, "connector": connector, "language_projection": projection})
    if relations is not None:
        parts["vision_tower"] = nn.ModuleDict({"video_relations": relations})
    for weight_name, weight in parts.named_parameters():
        weight.requires_grad_(is_trained(weight_name, found.frozen_weights(options)))
    clip = torch.empty(1, CLIP_FRAMES, IMAGE_TOKENS, IMAGE_WIDTH)

    def tokens() -> Tensor:
        if relations is None:
            return clip
        token = relations([clip] * relations.num_blocks).unsqueeze(1)
        return torch.cat([clip, token.expand(-1, CLIP_FRAMES, -1, -1)], dim=2)

    return System(
        trained=parts,
        transformer=lambda: [connector(tokens())],
        whole=lambda: [projection(connector(norm(tokens())).flatten(1, 2))],
    )


if __name__ == "__main__":
    main()
