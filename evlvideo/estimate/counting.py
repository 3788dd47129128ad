"""Count multiply-adds while the real model runs on tensors without values.

Torch has formulas for matrix products and convolutions, and for some fused kernels of attention. Here, attention runs
as plain matrix products: the choice of a fused kernel depends on the machine, some kernels have no formula and would
count as 0, and the formulas of others add what their backward pass recomputes to save memory. So the count is what the
method needs, the same on every machine. A causal mask saves nothing.

A part is counted by cutting the graph at its boundaries. Torch's attribution to modules is wrong in the backward pass:
it books the tower under the language model.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, shape_wrapper

from evlvideo.errors import UserError
from evlvideo.estimate.passes import loss_of_pairs, loss_of_texts, make_frames, make_texts
from evlvideo.estimate.records import ByPart, Workload
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors.qformer import look
from evlvideo.models.language import SoftPrompt
from evlvideo.models.representation.model import RepresentationModel
from evlvideo.models.tokens.contextualizers import MergedContextualizer

_MULTIPLIES = re.compile(r"(mm|mv|dot|conv\w*|attention\w*|bilinear\w*|cdist\w*|lstm\w*|gru\w*|_linear\w*)$")


def _convolution_backward(
    gradient: Sequence[int], x: Sequence[int], weight: Sequence[int], *arguments: Any, **more: Any
) -> int:
    """Return twice the multiply-adds of each requested gradient, which cost as much as the forward pass.

    Torch's formula ignores groups, and would count a depthwise convolution a thousandfold.
    """
    one = 2 * math.prod(gradient) * math.prod(weight[1:])
    input_asked, weight_asked, _ = arguments[-1]
    return one * (input_asked + weight_asked)


FORMULAS = {torch.ops.aten.convolution_backward: _convolution_backward}
"""Formulas that replace torch's, with the signature of its counter."""

_ALL_FORMULAS = {**flop_registry, **{packet: shape_wrapper(formula) for packet, formula in FORMULAS.items()}}


class _Counter(TorchDispatchMode):
    """Add up floating-point operations by torch's formulas; raise at operators that multiply and have none.

    Torch's own counter gives the same numbers at several times the cost: it also tracks modules, and tries to decompose
    every operator.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet, given = func._overloadpacket, kwargs or {}
        formula = _ALL_FORMULAS.get(packet)
        if formula is None:
            if _is_made_of_others(func):
                with self:
                    return func.decompose(*args, **given)
            if _MULTIPLIES.search(packet.__name__):
                raise UserError(
                    f"The model uses {packet}, whose multiply-adds cannot be counted; no estimate can be given for it."
                )
            return func(*args, **given)
        result = func(*args, **given)
        self.operations += formula(*args, **given, out_val=result)
        return result


@cache
def _is_made_of_others(func: Any) -> bool:
    """Return whether an operator decomposes into others, which are counted instead."""
    composite: bool = func.namespace == "aten" and func._can_decompose()
    return composite


def count_multiply_adds(run: Callable[[], Any]) -> tuple[int, Any]:
    """Count the multiply-adds of `run`, on any device, and return them with its result.

    Raises:
        UserError: an operator multiplies and cannot be counted.
    """
    with sdpa_kernel(SDPBackend.MATH), _Counter() as counter:
        result = run()
    return counter.operations // 2, result


class _Passes(NamedTuple):
    """Multiply-adds of the two passes of one part."""

    forward: int
    backward: int

    def __add__(self, other: "_Passes") -> "_Passes":  # type: ignore[override]
        return _Passes(self.forward + other.forward, self.backward + other.backward)

    def __sub__(self, other: "_Passes") -> "_Passes":
        return _Passes(self.forward - other.forward, self.backward - other.backward)


def count_passes(
    model: EvlVideoForCaptioning, pixels: Tensor, texts: dict[str, Tensor], workload: Workload
) -> tuple[ByPart, ByPart]:
    """Count the forward and backward pass of a batch, and the forward pass alone.

    Args:
        model: in training mode.
        pixels: frames, `(B, T, 3, height, width)`.
        texts: `input_ids`, `attention_mask` and `labels`, each `(k·B, L)`.
        workload: that the batch is of.
    """
    tower_forward, features = count_multiply_adds(lambda: model.vision_tower(pixels))
    features_in = features.detach().requires_grad_(features.requires_grad)
    connector_forward, prompt = count_multiply_adds(lambda: model.features_to_prompt(features_in))
    prompt_in = prompt.detach().requires_grad_(prompt.requires_grad)
    text_forward, loss = count_multiply_adds(lambda: loss_of_texts(model, prompt_in, texts, workload))

    text_backward, _ = count_multiply_adds(lambda: loss.backward())
    connector_backward = tower_backward = 0
    if prompt.requires_grad:
        connector_backward, _ = count_multiply_adds(lambda: prompt.backward(prompt_in.grad))
    if features.requires_grad:
        tower_backward, _ = count_multiply_adds(lambda: features.backward(features_in.grad))

    in_tower, merged = _count_contextualizers(model, pixels.shape[0], pixels.shape[1])
    parts = {
        "vision_tower": _Passes(tower_forward, tower_backward) - in_tower,
        "connector": _Passes(connector_forward, connector_backward) - merged,
        "contextualizer": in_tower + merged,
        "language_model": _Passes(text_forward, text_backward),
    }
    both = ByPart(**{part: passes.forward + passes.backward for part, passes in parts.items()})
    return both, ByPart(**{part: passes.forward for part, passes in parts.items()})


def count_start(model: EvlVideoForCaptioning, workload: Workload) -> ByPart:
    """Count the pass over the samples of the model that a self-critical run started from, with its own soft prompts."""
    samples = replace(workload, captions_per_clip=workload.samples, text_tokens=workload.sample_tokens)
    device = str(model.device)
    _, forward = count_passes(model, make_frames(model, samples, device), make_texts(samples, device), samples)
    # A frozen tower has encoded the clips for the other passes.
    return forward if model.needs_frames else replace(forward, vision_tower=0)


class Generation(NamedTuple):
    """Multiply-adds of the language model in generating captions of one clip, and what it keeps."""

    reading: int
    """The soft prompt, once, without its last token."""
    captions: int
    """All captions, token by token."""
    cached_values: int
    """Keys and values that it keeps of one token of one caption."""


@torch.no_grad()
def count_generation(
    model: EvlVideoForCaptioning, soft_tokens: int, *, captions: int, new_tokens: int, text_tokens: int = 1
) -> Generation:
    """Count the generation of captions, beams or samples, with a cache of keys and values.

    The loop of `generate` depends on values, so its passes are counted instead: the soft prompt once, without its last
    token; that token with BOS, or with a question, for every caption, which gives the first token; and a step for each
    further token. The cost of a step is linear in the length of the cache, so two steps determine all. All captions are
    assumed to run to the last token. A text prompt before the soft prompt is not counted.

    Args:
        model: the captioner.
        soft_tokens: soft tokens of the clip.
        captions: captions generated side by side.
        new_tokens: tokens of each.
        text_tokens: tokens that each continues, with BOS: those of a question, or BOS alone.
    """
    reading, prompt = count_multiply_adds(lambda: _read_prompt(model, soft_tokens))
    opened, cached = prompt.repeated(captions).cache, prompt.embeddings.shape[1] + text_tokens
    count, output = count_multiply_adds(
        lambda: _read(model, _empty_words(model, captions, cached - opened.get_seq_length()), opened)
    )
    values = sum(layer.keys.numel() + layer.values.numel() for layer in output.cache.layers) // (captions * cached)
    steps = new_tokens - 1
    if steps:
        first, second = (_count_step(model, captions, cached + step, output.cache) for step in (0, 1))
        count += steps * first + (second - first) * (steps * (steps - 1) // 2)
    return Generation(reading, count, values)


def _read_prompt(model: EvlVideoForCaptioning, soft_tokens: int) -> SoftPrompt:
    """Read soft tokens, also those that `generate` reads with the text that they see."""
    return model.read_prompt(_empty_words(model, 1, soft_tokens)).read_with(model.language_model)


def _empty_words(model: EvlVideoForCaptioning, rows: int, tokens: int) -> Tensor:
    words: Any = model.language_model.get_input_embeddings()
    return words.weight.new_empty(rows, tokens, words.embedding_dim)


def _read(model: EvlVideoForCaptioning, embeddings: Tensor, cache: Any) -> Any:
    known = 0 if cache is None else cache.get_seq_length()
    mask = torch.ones(len(embeddings), known + embeddings.shape[1], dtype=torch.long, device=embeddings.device)
    language_model: Any = model.language_model
    return language_model(inputs_embeds=embeddings, attention_mask=mask, cache=cache, use_cache=True, logits_to_keep=1)


def _count_step(model: EvlVideoForCaptioning, captions: int, cached: int, cache: Any) -> int:
    """Count one more token for every caption."""
    language_model: Any = model.language_model
    ids = torch.zeros(captions, 1, dtype=torch.long, device=model.device)
    mask = torch.ones(captions, cached + 1, dtype=torch.long, device=model.device)
    return count_multiply_adds(lambda: language_model(input_ids=ids, attention_mask=mask, cache=cache, use_cache=True))[
        0
    ]


def count_first_stage(model: RepresentationModel, pixels: Tensor, workload: Workload) -> tuple[ByPart, ByPart]:
    """Count a pass of BLIP-2's first stage, forward and backward, and the queries' look at the images alone.

    Args:
        model: in training mode.
        pixels: frames, `(B, T, 3, height, width)`.
        workload: that the batch is of.
    """
    tower, features = count_multiply_adds(lambda: model.vision_tower(pixels))
    forward, loss = count_multiply_adds(lambda: loss_of_pairs(model, features, workload))
    backward, _ = count_multiply_adds(lambda: loss.backward())
    looking, _ = count_multiply_adds(
        lambda: look(model.connector.qformer, model.connector.queries, model.image_tokens(features=features))
    )
    none = {"contextualizer": 0, "language_model": 0}
    return (
        ByPart(vision_tower=tower, connector=forward + backward, **none),
        ByPart(vision_tower=tower, connector=looking, **none),
    )


def _count_contextualizers(model: EvlVideoForCaptioning, batch: int, frames: int) -> tuple[_Passes, _Passes]:
    """Count what is trained in the tower and the contextualizer over merged tokens, each run alone."""
    tower = model.vision_tower
    shape = (batch, frames, tower.num_tokens, tower.dim)
    in_tower = merged = _Passes(0, 0)
    blocks = [index for index, block in enumerate(tower.vit.blocks) if hasattr(block, "temporal_merge")]
    gradients = [_trains_before(tower.vit, index) for index in blocks]
    for gradient in set(gradients):
        alone = _count_alone(tower.vit.blocks[blocks[-1]].temporal_merge, shape, input_gradient=gradient)  # all alike
        in_tower += _Passes(*(number * gradients.count(gradient) for number in alone))
    if tower.video_relations is not None:
        in_tower += _count_relations(model, shape)
    over_merged = [module for module in model.connector.modules() if isinstance(module, MergedContextualizer)]
    if over_merged:
        tokens = model.connector.num_output_tokens(tower.num_tokens)
        shape = (batch, frames, tokens, model.connector.output_dim)
        merged = _count_alone(over_merged[0], shape, input_gradient=True)
    return in_tower, merged


def _count_relations(model: EvlVideoForCaptioning, shape: tuple[int, ...]) -> _Passes:
    """Count VideoChat's relations. Their inputs need gradients only if something in the tower is trained."""
    relations = model.vision_tower.video_relations
    assert relations is not None
    trains = any(weight.requires_grad for weight in model.vision_tower.vit.parameters())
    device = next(relations.parameters()).device
    blocks = [
        torch.empty(shape, device=device, requires_grad=trains) for _ in range(model.config.options.relation_blocks)
    ]
    forward, token = count_multiply_adds(lambda: relations(blocks))
    return _Passes(forward, _count_backward(token))


def _count_alone(module: nn.Module, shape: tuple[int, ...], *, input_gradient: bool) -> _Passes:
    tokens = torch.empty(shape, device=next(module.parameters()).device, requires_grad=input_gradient)
    forward, output = count_multiply_adds(lambda: module(tokens))
    return _Passes(forward, _count_backward(output))


def _count_backward(output: Tensor) -> int:
    return count_multiply_adds(lambda: output.sum().backward())[0] if output.requires_grad else 0


def _trains_before(vit: nn.Module, index: int) -> bool:
    """Whether anything is trained before the contextualizer of a block, so that its input needs a gradient."""
    for name, weight in vit.named_parameters():
        of_block = int(name.split(".")[1]) if name.startswith("blocks.") else -1
        before = of_block < index or (of_block == index and ".temporal_merge." not in name)
        if before and weight.requires_grad and not name.startswith("norm."):
            return True
    return False
