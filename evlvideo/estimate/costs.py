"""Estimate the costs of an architecture under a workload."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)

from evlvideo.assembly.precision import DTYPES
from evlvideo.errors import UserError
from evlvideo.estimate import activations
from evlvideo.estimate.contrast import count_contrast, give_contrast, kept_by_contrast
from evlvideo.estimate.counting import count_first_stage, count_generation, count_passes, count_start
from evlvideo.estimate.passes import (
    HasTower,
    loss_of_pairs,
    loss_of_texts,
    make_features,
    make_frames,
    make_texts,
)
from evlvideo.estimate.pruning_costs import pruning_costs, with_draft
from evlvideo.estimate.records import ByPart, Estimate, Memory, MultiplyAdds, Workload
from evlvideo.models.blocks.pruning_options import NEEDS_FRAMES
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.representation.model import RepresentationModel, TextSizes
from evlvideo.models.text.draft import DRAFT_TOKENS
from evlvideo.models.towers import convert_towers, read_text_config
from evlvideo.models.trainable import Trained, is_contextualizer, is_of_training, part_of, tower_of, trained_part

_ADAMW_MOMENTS = 2
_META = "meta"
_DEFAULT_PARTS = Trained()


def estimate(
    config: EvlVideoConfig,
    workload: Workload,
    trained: Trained = _DEFAULT_PARTS,
    *,
    held: tuple[str, ...] = (),
    before: tuple[Trained, ...] = (),
) -> Estimate:
    """Estimate what training and captioning cost.

    The real model is built without values and run on inputs without values, so that no formula can differ from the
    code. Billions of weights take some seconds and no memory.

    Args:
        config: the architecture. Without `text_config`, the sizes of its language model are read from the model.
        workload: what is asked of it.
        trained: what is trained.
        held: prefixes of the towers' own weights that were trained before, and so are in float32.
        before: what earlier stages train, after that.

    Raises:
        UserError: the workload has too many frames or tokens for the architecture, or features that training changes;
            or the cost of an operation is unknown.
    """
    model = _build(config, workload, (*before, trained), held)
    weights = dict(model.named_parameters())
    of_training = {name: weight for name, weight in weights.items() if weight.requires_grad}
    tied = set(model.all_tied_weights_keys)
    saved = {
        name: value
        for name, value in model.state_dict().items()
        if tower_of(name, model.held_weights) is None and name not in tied and not is_of_training(name)
    }
    counted = _count(model, workload)
    with _without_values():
        pruning = pruning_costs(model, workload, _META)
    # Last, since moving the model separates weights that are shared.
    kept = _kept_by_precision(model, workload)
    memory = {
        precision: _memory(weights, model.held_weights, precision, size, start=workload.divergence)
        for precision, size in kept.items()
    }
    return Estimate(
        workload=workload,
        soft_tokens=counted.soft_tokens,
        parameters=_numbers(weights),
        trained=_numbers(of_training),
        trained_parts=tuple(sorted({trained_part(name) for name in of_training})),
        saved=_numbers(saved),
        training_batch=counted.training_batch,
        captioning_clip=counted.captioning_clip,
        sampling_clip=counted.sampling_clip,
        answering_question=counted.answering_question,
        memory=memory[workload.precision],
        other_memory=memory.get(workload.other_precision or ""),
        cached_token_bytes=counted.cached_values * DTYPES[workload.precision].itemsize,
        feature_bytes=None if model.needs_frames else _feature_bytes(model, model.config, workload),
        pruning=pruning,
    )


def multiply_adds(config: EvlVideoConfig, workload: Workload, trained: Trained = _DEFAULT_PARTS) -> MultiplyAdds:
    """Count the multiply-adds of :func:`estimate`, without its memory, which takes as long.

    Raises:
        UserError: as in :func:`estimate`.
    """
    return _count(_build(config, workload, (trained,)), workload)


def estimate_first_stage(config: EvlVideoConfig, workload: Workload, sizes: TextSizes) -> Estimate:
    """Estimate what BLIP-2's first stage costs: a pass over a batch of images with a text each.

    Args:
        config: the architecture, with `connector=blip2`.
        workload: what is asked of it. Texts are those of the stage, of `text_tokens`.
        sizes: of the text branch.

    Raises:
        UserError: as in :func:`estimate`.
    """
    model = _build_first_stage(config, sizes)
    weights = dict(model.named_parameters())
    trained = {name: weight for name, weight in weights.items() if weight.requires_grad}
    with _without_values():
        training, encoding = count_first_stage(model, make_frames(model, workload, _META), workload)
    if workload.cached_features:
        training = replace(training, vision_tower=0)
    memory = {
        precision: _memory(weights, (), precision, size)
        for precision, size in _kept_in_first_stage(model, workload).items()
    }
    return Estimate(
        workload=workload,
        soft_tokens=model.connector.queries.shape[1],
        parameters=_numbers(weights),
        trained=_numbers(trained),
        saved=_numbers({name: value for name, value in weights.items() if tower_of(name) is None}),
        training_batch=training,
        captioning_clip=encoding // workload.batch_size,
        memory=memory[workload.precision],
        other_memory=memory.get(workload.other_precision or ""),
        cached_token_bytes=0,
        feature_bytes=_feature_bytes(model, config, workload),
    )


def first_stage_multiply_adds(config: EvlVideoConfig, workload: Workload, sizes: TextSizes) -> MultiplyAdds:
    """Count the multiply-adds of :func:`estimate_first_stage`, without its memory, which takes as long."""
    model = _build_first_stage(config, sizes)
    with _without_values():
        training, encoding = count_first_stage(model, make_frames(model, workload, _META), workload)
    return MultiplyAdds(
        soft_tokens=model.connector.queries.shape[1],
        training_batch=training,
        captioning_clip=encoding // workload.batch_size,
        sampling_clip=None,
        answering_question=None,
        cached_values=0,
    )


def _build_first_stage(config: EvlVideoConfig, sizes: TextSizes) -> RepresentationModel:
    with torch.device("meta"):
        return RepresentationModel(EvlVideoForCaptioning(_with_text(config), empty_language_model=True), sizes).train()


def _kept_in_first_stage(model: RepresentationModel, workload: Workload) -> dict[str, int]:
    """Measure the bytes that a pass keeps for the backward pass, in the workload's precisions."""
    precisions = [name for name in (workload.precision, workload.other_precision) if name is not None]
    kept = {}
    with _without_values(), FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():  # one by one, since some stand in two places
            module.to_empty(device=activations.DEVICE, recurse=False)
        for name in precisions:
            dtype = DTYPES[name]
            convert_towers(model, dtype)
            features = make_features(model, workload, activations.DEVICE)
            kept[name] = activations.saved_bytes(
                model,
                partial(loss_of_pairs, model, features, workload),
                None if dtype == torch.float32 else dtype,
            )
    return kept


def _with_text(config: EvlVideoConfig) -> EvlVideoConfig:
    """Give an architecture the sizes of its language model, if it does not have them."""
    if config.text_config is not None:
        return config
    text = read_text_config(config.language_model)
    return EvlVideoConfig.from_dict({**config.to_dict(), "text_config": text.to_dict()})


def _build(
    config: EvlVideoConfig, workload: Workload, stages: tuple[Trained, ...], held: tuple[str, ...] = ()
) -> EvlVideoForCaptioning:
    """Build the model on the meta device, and check that the workload fits it."""
    config = _with_text(config)
    if workload.cached_features and config.needs_frames:
        raise UserError(
            "The run reads stored features of the vision tower (data.features), but trains contextualizers or "
            "relations inside it, which change its outputs; set data.features to null."
        )
    if workload.cached_features and config.drafts:
        raise UserError(f"{NEEDS_FRAMES}.")
    with torch.device("meta"):
        model = EvlVideoForCaptioning(config)
    model.held_weights = held
    for trained in stages:
        model.choose_trained(trained)
    _check_positions(model, workload)
    if workload.contrast is not None:
        give_contrast(model, workload.contrast)
    if workload.samples:
        # As in the self-critical stage: the model that is trained is the one that is sampled.
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return model.train()


def _soft_tokens(model: EvlVideoForCaptioning, workload: Workload) -> int:
    """Return the soft tokens of a clip."""
    tokens = model.connector.num_output_tokens(model.vision_tower.num_tokens)
    return tokens * workload.num_frames if model.config.fusion == "concat" else tokens


def _check_positions(model: EvlVideoForCaptioning, workload: Workload) -> None:
    """Raise if soft tokens and text do not fit into the language model."""
    soft_tokens = _soft_tokens(model, workload)
    # A generated caption has BOS before it, and its last token is not read again.
    drafted = DRAFT_TOKENS if model.config.drafts else 0
    asked = soft_tokens + max(workload.text_tokens, workload.new_tokens, drafted)
    positions = getattr(model.language_model.config, "max_position_embeddings", None)
    if positions is not None and asked > positions:
        raise UserError(
            f"A clip has {soft_tokens} soft tokens and its text up to {asked - soft_tokens}, together {asked}; the "
            f"language model has {positions} positions. Use fewer frames, a larger merge_r, "
            "fusion=mean_tokens, or less text."
        )


def _numbers(tensors: Mapping[str, Tensor]) -> ByPart:
    """Count the values of tensors by the part that their name belongs to."""
    numbers = dict.fromkeys((field.name for field in fields(ByPart)), 0)
    for name, tensor in tensors.items():
        of_training = "contrast" if is_of_training(name) else None
        part = "contextualizer" if is_contextualizer(name) else part_of(name) or of_training or "connector"
        numbers[part] += tensor.numel()
    return ByPart(**numbers)


def _count(model: EvlVideoForCaptioning, workload: Workload) -> MultiplyAdds:
    """Count the multiply-adds of a training batch, of captioning a clip, and of sampling, if any.

    They are the same in all precisions and on all devices, so that the model stays on the meta device, which is fast.
    """
    soft_tokens = _soft_tokens(model, workload)
    with _without_values(), _plain_attention(model):
        training, encoding = count_passes(
            model, make_frames(model, workload, _META), make_texts(workload, _META), workload
        )
        captioning = count_generation(model, soft_tokens, captions=workload.num_beams, new_tokens=workload.new_tokens)
        sampling = _count_sampling(model, soft_tokens, workload) if workload.samples else None
        once = encoding // workload.batch_size
        of_clip = replace(once, language_model=captioning.reading + captioning.captions)
        of_question = _of_question(model, once, soft_tokens, workload)
        if model.config.drafts:
            of_clip = with_draft(model, of_clip, once, soft_tokens)
            of_question = of_question and with_draft(model, of_question, once, soft_tokens)
        if workload.divergence:
            training += count_start(model, workload)
        if model.contrastive is not None:
            training = replace(training, contrast=count_contrast(model.contrastive, soft_tokens, workload))
    if workload.cached_features:
        training = replace(training, vision_tower=0)
    return MultiplyAdds(
        soft_tokens=soft_tokens,
        training_batch=training,
        captioning_clip=of_clip,
        sampling_clip=sampling,
        answering_question=of_question,
        cached_values=captioning.cached_values,
    )


def _count_sampling(model: EvlVideoForCaptioning, soft_tokens: int, workload: Workload) -> ByPart:
    captions = workload.samples + 1
    drawn = count_generation(model, soft_tokens, captions=captions, new_tokens=workload.sample_tokens)
    # The soft prompt has been read for training.
    return ByPart(vision_tower=0, connector=0, contextualizer=0, language_model=drawn.captions)


def _of_question(model: EvlVideoForCaptioning, encoding: ByPart, soft_tokens: int, workload: Workload) -> ByPart | None:
    """Count the answering of one question about a clip, if one is asked and fits into the language model."""
    asked = workload.question_tokens
    positions = getattr(model.language_model.config, "max_position_embeddings", None)
    # The last token of an answer is not read again.
    if not asked or (positions is not None and soft_tokens + asked + workload.answer_tokens - 1 > positions):
        return None
    answer = count_generation(
        model, soft_tokens, captions=workload.answer_beams, new_tokens=workload.answer_tokens, text_tokens=asked
    )
    return replace(encoding, language_model=answer.reading + answer.captions)


@contextmanager
def _plain_attention(model: EvlVideoForCaptioning) -> Iterator[None]:
    """Let the language model compute attention as plain products, whose number is the same.

    Before it calls a fused kernel, it looks at the values of the mask.
    """
    before = model.language_model.config._attn_implementation
    model.language_model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.language_model.set_attn_implementation(before)


def _kept_by_precision(model: EvlVideoForCaptioning, workload: Workload) -> dict[str, int]:
    """Measure the bytes that a training pass keeps for the backward pass, in the workload's precisions."""
    precisions = [name for name in (workload.precision, workload.other_precision) if name is not None]
    with _without_values(), FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device=activations.DEVICE)
        if workload.gradient_checkpointing:
            model.activation_checkpointing_enable()
        return {name: _kept(model, workload, DTYPES[name]) for name in precisions}


def _kept(model: EvlVideoForCaptioning, workload: Workload, dtype: torch.dtype) -> int:
    convert_towers(model, dtype, model.held_weights)
    device = activations.DEVICE
    texts = make_texts(workload, device)
    # A tower in which nothing is trained keeps nothing.
    given = (
        {"pixel_values": make_frames(model, workload, device)}
        if model.needs_frames
        else {"features": make_features(model, workload, device)}
    )
    kept = activations.saved_bytes(
        model,
        lambda: loss_of_texts(model, model.encode(**given), texts, workload),
        None if dtype == torch.float32 else dtype,
    )
    if model.contrastive is None:
        return kept
    return kept + kept_by_contrast(model.contrastive, _soft_tokens(model, workload), workload)


def _memory(
    weights: Mapping[str, Tensor], held: tuple[str, ...], precision: str, kept: int, *, start: bool = False
) -> Memory:
    dtype = DTYPES[precision]
    trained_bytes = torch.float32.itemsize * sum(weight.numel() for weight in weights.values() if weight.requires_grad)
    return Memory(
        weights=sum(
            weight.numel() * (torch.float32 if tower_of(name, held) is None else dtype).itemsize
            for name, weight in weights.items()
        ),
        gradients=trained_bytes,
        optimizer=_ADAMW_MOMENTS * trained_bytes,
        activations=kept,
        start=trained_bytes if start else 0,
    )


def _feature_bytes(model: HasTower, config: EvlVideoConfig, workload: Workload) -> int | None:
    """Return the bytes of a clip's features on disk, in the dtype that the tower computes in."""
    if config.needs_frames or config.drafts:
        return None
    frames = 1 if config.fusion == "mean" else workload.num_frames
    tower = model.vision_tower
    return frames * tower.num_tokens * tower.dim * DTYPES[workload.precision].itemsize


@contextmanager
def _without_values() -> Iterator[None]:
    """Run on tensors with a shape, a dtype and a device, but no values."""
    try:
        with torch.enable_grad():
            yield
    except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException) as error:
        raise _of_values(error) from error
    except RuntimeError as error:
        if "meta tensors" not in str(error).lower():
            raise
        raise _of_values(error) from error


def _of_values(error: Exception) -> UserError:
    return UserError(
        f"The model depends on the values of its tensors ({error}), and an estimate has none; no estimate can be given "
        "for it."
    )
