"""Estimate the costs of an architecture under a workload."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)

from evlvideo.assembly.precision import DTYPES
from evlvideo.errors import UserError
from evlvideo.estimate import activations
from evlvideo.estimate.counting import count_generation, count_passes
from evlvideo.estimate.records import ByPart, Estimate, Memory, MultiplyAdds, Workload
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.towers import read_text_config
from evlvideo.models.trainable import is_contextualizer, part_of, tower_of

_ADAMW_MOMENTS = 2


def estimate(config: EvlVideoConfig, workload: Workload) -> Estimate:
    """Estimate what training and captioning cost.

    The real model is built without values and run on inputs without values, so that no formula can differ from the
    code. Billions of weights take some seconds and no memory.

    Args:
        config: the architecture. Without `text_config`, the sizes of its language model are read from the model.
        workload: what is asked of it.

    Raises:
        UserError: the workload has too many frames or tokens for the architecture, or the cost of an operation is
            unknown.
    """
    config = _with_language_model_sizes(config)
    model = _build(config)
    weights = dict(model.named_parameters())
    trained = {name: weight for name, weight in weights.items() if weight.requires_grad}
    saved = {name: value for name, value in model.state_dict().items() if tower_of(name) is None}
    soft_tokens = _soft_tokens(model, workload)
    with _without_values():
        training_batch, captioning_clip = _count(model, workload, soft_tokens)
    # A new one, as the first has been moved.
    kept = _saved_bytes(_build(config), workload)
    return Estimate(
        workload=workload,
        soft_tokens=soft_tokens,
        parameters=_numbers(weights),
        trained=_numbers(trained),
        saved=_numbers(saved),
        training_batch=training_batch,
        captioning_clip=captioning_clip,
        memory=_memory(weights, workload, kept),
    )


def multiply_adds(config: EvlVideoConfig, workload: Workload) -> MultiplyAdds:
    """Count the multiply-adds of :func:`estimate`, without its memory, which takes as long.

    Raises:
        UserError: as in :func:`estimate`.
    """
    model = _build(_with_language_model_sizes(config))
    soft_tokens = _soft_tokens(model, workload)
    with _without_values():
        return MultiplyAdds(soft_tokens, *_count(model, workload, soft_tokens))


def _with_language_model_sizes(config: EvlVideoConfig) -> EvlVideoConfig:
    """Return the architecture with the sizes of its language model, reading them if they are missing."""
    if config.text_config is not None:
        return config
    text = read_text_config(config.language_model)
    return EvlVideoConfig.from_dict({**config.to_dict(), "text_config": text.to_dict()})


def _build(config: EvlVideoConfig) -> EvlVideoForCaptioning:
    with torch.device("meta"):
        return EvlVideoForCaptioning(config)


def _soft_tokens(model: EvlVideoForCaptioning, workload: Workload) -> int:
    """Return the soft tokens of a clip; raise if they and the text do not fit into the language model."""
    tokens = model.connector.num_output_tokens(model.vision_tower.num_tokens)
    soft_tokens = tokens * workload.num_frames if model.config.fusion == "concat" else tokens
    # A generated caption has BOS before it, and its last token is not read again.
    asked = soft_tokens + max(workload.text_tokens, workload.new_tokens)
    positions = getattr(model.language_model.config, "max_position_embeddings", None)
    if positions is not None and asked > positions:
        raise UserError(
            f"A clip has {soft_tokens} soft tokens and its text up to {asked - soft_tokens}, together {asked}; the "
            f"language model has {positions} positions. Use fewer frames, a larger merge_r, "
            "fusion=mean_tokens, or less text."
        )
    return soft_tokens


def _numbers(tensors: Mapping[str, Tensor]) -> ByPart:
    """Count the values of tensors by the part that their name belongs to."""
    numbers = dict.fromkeys(("vision_tower", "connector", "contextualizer", "language_model"), 0)
    for name, tensor in tensors.items():
        part = "contextualizer" if is_contextualizer(name) else part_of(name) or "connector"
        numbers[part] += tensor.numel()
    return ByPart(**numbers)


def _count(model: EvlVideoForCaptioning, workload: Workload, soft_tokens: int) -> tuple[ByPart, ByPart]:
    """Count the multiply-adds of a training batch and of captioning one clip."""
    model.to_empty(device="cpu")
    training, encoding = count_passes(model.train(), *_inputs(model, workload, "cpu"))
    generation = count_generation(model, soft_tokens, workload)
    return training, replace(encoding // workload.batch_size, language_model=generation)


def _saved_bytes(model: EvlVideoForCaptioning, workload: Workload) -> int:
    """Measure the bytes that a training pass keeps, with towers in the dtype of the workload."""
    dtype = DTYPES[workload.precision]
    for name, weight in model.named_parameters():
        if tower_of(name) is not None:
            weight.data = weight.data.to(dtype)
    with _without_values():
        model.to_empty(device=activations.DEVICE)
        pixels, text = _inputs(model, workload, activations.DEVICE)
        inputs = {"pixel_values": pixels, "logits_to_keep": workload.text_tokens + 1, **text}
        return activations.saved_bytes(model.train(), inputs, None if dtype == torch.float32 else dtype)


def _memory(weights: Mapping[str, Tensor], workload: Workload, activations: int) -> Memory:
    dtype = DTYPES[workload.precision]
    trained_bytes = torch.float32.itemsize * sum(weight.numel() for weight in weights.values() if weight.requires_grad)
    return Memory(
        weights=sum(
            weight.numel() * (torch.float32 if tower_of(name) is None else dtype).itemsize
            for name, weight in weights.items()
        ),
        gradients=trained_bytes,
        optimizer=_ADAMW_MOMENTS * trained_bytes,
        activations=activations,
    )


@contextmanager
def _without_values() -> Iterator[None]:
    """Make tensors with a shape, a dtype and a device, but no values."""
    try:
        with torch.enable_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            yield
    except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException) as error:
        raise UserError(
            f"The model depends on the values of its tensors ({error}), and an estimate has none; no estimate can be "
            "given for it."
        ) from error


def _inputs(model: EvlVideoForCaptioning, workload: Workload, device: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a batch of frames and of texts, without values."""
    size = model.vision_tower.image_size
    pixels = torch.empty(workload.batch_size, workload.num_frames, 3, size, size, device=device)
    texts = workload.batch_size * workload.captions_per_clip
    ids = torch.zeros(texts, workload.text_tokens, dtype=torch.long, device=device)
    return pixels, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
