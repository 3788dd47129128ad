"""Compare the TomeFormer, as published and without merging, and BLIP-2's Q-Former on single images."""

from typing import Any

import torch
from torch import Tensor

from evlvideo.estimate.counting import count_multiply_adds
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors.tomeformer import TomeFormer
from evlvideo.models.tokens.merging import bipartite_soft_matching, merge_mean
from gpu_parts.generated import random_captioner
from gpu_parts.measure import Notes, free_memory, seconds_of
from gpu_parts.sizes import Size, device


def run(size: Size, notes: Notes) -> None:
    """Measure encoding with each connector, the connector alone, and merging alone."""
    r = size.architecture().merge_r
    blip2 = {"connector": "blip2", "merge_r": None, "merge_reduction": None, "connector_options": None}
    for name, form in {f"tomeformer, r = {r}": {}, "tomeformer, r = 0": {"merge_r": 0}, "blip2": blip2}.items():
        model = random_captioner(size.architecture(**form), language_model=False)
        notes.measure(name, _of_connector, size, model)
        if not form:
            notes.measure("merging alone", _merging, size, model)
        del model
        free_memory()


def _of_connector(size: Size, model: EvlVideoForCaptioning) -> dict[str, Any]:
    tower = model.vision_tower
    pixels = torch.randint(
        0, 256, (size.images, 1, 3, tower.image_size, tower.image_size), dtype=torch.uint8, device=device()
    )
    features = torch.randn(size.images, 1, tower.num_tokens, tower.dim, device=device())

    def encode(**shown: Tensor) -> Tensor:
        with torch.no_grad():
            return model.encode(**shown)

    def train() -> None:
        model.encode(features=features).sum().backward()
        model.zero_grad()

    count, prompt = count_multiply_adds(lambda: model.encode(features=features))
    times = {"warmup": size.warmup, "repeats": size.repeats}
    return {
        "images": size.images,
        "soft_tokens": prompt.shape[1],
        "multiply_adds": count,
        "with_tower": seconds_of(lambda: encode(pixel_values=pixels), **times),
        "forward": seconds_of(lambda: encode(features=features), **times),
        "forward_and_backward": seconds_of(train, **times),
    }


def _merging(size: Size, model: EvlVideoForCaptioning) -> dict[str, Any]:
    """Run only the matching and averaging of all layers, on tokens of their shapes."""
    connector = model.connector
    assert isinstance(connector, TomeFormer)
    width, heads = model.config.bert.hidden_size, model.config.bert.num_attention_heads
    dtype = next(model.vision_tower.vit.parameters()).dtype
    tokens, layers = model.vision_tower.num_tokens, []
    for r in connector.bert.schedule:
        shapes = ((size.images, tokens, width // heads), (size.images, tokens, width))
        layers.append((r, *(torch.randn(shape, device=device(), dtype=dtype) for shape in shapes)))
        tokens -= r

    def merge() -> None:
        with torch.no_grad():
            for r, metric, hidden in layers:
                merge_mean(bipartite_soft_matching(metric, r, class_token=connector.bert.class_token), hidden)

    return {"layers": len(layers), "forward": seconds_of(merge, warmup=size.warmup, repeats=size.repeats)}
