"""Estimate the costs of a run from its config."""

import json
from dataclasses import dataclass, replace
from functools import lru_cache

from evlvideo.assembly.architecture import run_architecture
from evlvideo.assembly.first_stage import text_sizes
from evlvideo.assembly.models import check_first_stage
from evlvideo.assembly.precision import resolve_precision
from evlvideo.assembly.trained import held_at_start, trained_by
from evlvideo.config.run import REPRESENTATION, RunConfig
from evlvideo.data.annotation.facts import facts_of
from evlvideo.estimate.costs import estimate, estimate_first_stage, first_stage_multiply_adds, multiply_adds
from evlvideo.estimate.records import Contrasted, Estimate, MultiplyAdds, Workload
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import MAX_TEXT_TOKENS
from evlvideo.models.representation.model import TextSizes
from evlvideo.models.representation.texts import PairTokenizer
from evlvideo.models.trainable import Trained

_OTHER_MEANING = {"fp32": "bf16", "bf16": "fp32"}
"""What `auto` can mean on other devices."""
_KNOWN_VOCABULARIES = {"bert-base-uncased": 30_523}
"""Words of the published tokenizer, with the token that opens what is generated, so that it need not be there."""
_CHECKPOINTING = ("gradient_checkpointing", "activation_checkpointing")
"""Names of the same argument of transformers' trainer, old and new."""


def estimate_run(config: RunConfig) -> Estimate:
    """Estimate the steps, captions and answers of a run on one process, with texts of the maximum length.

    Questions without a limit are assumed to have :data:`MAX_TEXT_TOKENS`, the published one.

    `auto` precision is what it means on this device; memory is estimated in the other that it can mean, too. For SCST,
    training is the teacher-forced pass over all samples of a clip; sampling them comes on top.

    Raises:
        UserError: the architecture cannot be read, or does not fit what the run asks.
    """
    trained = trained_by(config), held_at_start(config)
    return _estimate(_architecture(config).to_json_string(), workload_of(config), *trained, _text_sizes(config))


def estimate_stage(
    config: RunConfig, architecture: EvlVideoConfig, *, held: tuple[str, ...], before: tuple[Trained, ...]
) -> Estimate:
    """Estimate a stage of a recipe as :func:`estimate_run` does a run.

    Args:
        config: the stage's run.
        architecture: its model.
        held: prefixes of the towers' own weights that were trained before the first stage.
        before: what earlier stages train.
    """
    if (sizes := _text_sizes(config)) is not None:
        return estimate_first_stage(architecture, workload_of(config), sizes)
    return estimate(architecture, workload_of(config), trained_by(config), held=held, before=before)


@dataclass(frozen=True, slots=True)
class ClipCosts:
    """The costs of a run that tables show."""

    soft_tokens: int
    training: int
    """Multiply-adds of a clip in training."""
    captioning: int
    """Multiply-adds of captioning a clip."""
    answering: int | None
    """Multiply-adds of answering a question about a clip; None if it does not fit into the language model."""


def clip_costs(config: RunConfig) -> ClipCosts:
    """Return the soft tokens and multiply-adds of a clip, as in :func:`estimate_run`, without measuring memory.

    They are those of the method: the tower is counted even if the run reads its features from disk.

    Raises:
        UserError: as in :func:`estimate_run`.
    """
    # Without what makes no difference, so that more runs are alike.
    workload = replace(
        workload_of(config),
        precision="fp32",
        other_precision=None,
        clips_captioned=1,
        cached_features=False,
        gradient_checkpointing=False,
    )
    architecture = _architecture(config).to_json_string()
    counted = _multiply_adds(architecture, workload, trained_by(config), _text_sizes(config))
    training = (counted.training_batch // workload.batch_size).total
    answering = None if counted.answering_question is None else counted.answering_question.total
    return ClipCosts(counted.soft_tokens, training, counted.captioning_clip.total, answering)


def _architecture(config: RunConfig) -> EvlVideoConfig:
    architecture = run_architecture(config)
    if config.stage == REPRESENTATION:
        check_first_stage(config, architecture)
    return architecture


def splits_with_features(config: RunConfig) -> dict[str, int | None]:
    """Return the splits whose features a run reads, and the number of their clips where it is known."""
    data = config.data
    known = facts_of(data.dataset).clips() if data.check_counts else {}
    sizes = {split: known.get(split) for split in dict.fromkeys((data.train_split, data.validation_split))}
    return sizes | {data.train_split: data.train_clips or sizes[data.train_split]}


def workload_of(config: RunConfig) -> Workload:
    """Return what a run asks of its model in a forward pass, and in captioning."""
    data, training, generation, answering = config.data, config.training, config.generation, config.answering
    contrast = config.contrastive
    auto = training.precision == "auto"
    precision = resolve_precision("auto") if auto else training.precision
    return Workload(
        num_frames=data.num_frames,
        batch_size=training.batch_size,
        **_texts(config),
        divergence=config.stage == "scst" and config.scst.kl_weight > 0,
        num_beams=1 if generation.do_sample else generation.num_beams,
        new_tokens=generation.max_new_tokens,
        clips_captioned=generation.batch_size,
        question_tokens=_question_tokens(config),
        answer_beams=1 if answering.do_sample else answering.num_beams,
        answer_tokens=answering.max_new_tokens,
        contrast=Contrasted(contrast.text_encoder, contrast.width, contrast.beta) if contrast.beta else None,
        precision=precision,
        other_precision=_OTHER_MEANING[precision] if auto else None,
        cached_features=data.features is not None,
        gradient_checkpointing=any(training.arguments.get(name) for name in _CHECKPOINTING),
        first_stage=config.stage == REPRESENTATION,
    )


def _question_tokens(config: RunConfig) -> int:
    return config.answering.max_prompt_tokens or MAX_TEXT_TOKENS


def _texts(config: RunConfig) -> dict[str, int]:
    """Return how many captions of a clip train, how long their texts are, and how many of them are sampled."""
    scst, references = config.scst, config.data.captions_per_clip
    if config.stage == REPRESENTATION:
        return {"captions_per_clip": 1, "text_tokens": config.representation.text_tokens}
    most = config.text.max_tokens or MAX_TEXT_TOKENS
    if config.data.has_questions:
        most += _question_tokens(config)  # an answer behind its question has the room of a caption
    if config.stage != "scst":
        return {"captions_per_clip": references, "text_tokens": most}
    sampled = {"samples": scst.num_samples, "sample_tokens": scst.max_new_tokens}
    if not scst.cross_entropy_weight:
        return {"captions_per_clip": scst.num_samples, "text_tokens": scst.max_new_tokens, **sampled}
    # Both are padded to the longest.
    longest = max(scst.max_new_tokens, most)
    return {"captions_per_clip": scst.num_samples + references, "text_tokens": longest, **sampled}


def _text_sizes(config: RunConfig) -> TextSizes | None:
    """Return the sizes of the first stage's text branch; None for another stage."""
    if config.stage != REPRESENTATION:
        return None
    name, most = config.representation.tokenizer, config.representation.text_tokens
    if name in _KNOWN_VOCABULARIES:
        return TextSizes(_KNOWN_VOCABULARIES[name], most, config.representation.width, 0, 0)
    return text_sizes(config, PairTokenizer(name, most))


# Runs of a sweep, of several seeds or of one table are alike, and running a model takes seconds.
@lru_cache(maxsize=64)
def _estimate(
    architecture: str, workload: Workload, trained: Trained, held: tuple[str, ...], sizes: TextSizes | None
) -> Estimate:
    config = EvlVideoConfig.from_dict(json.loads(architecture))
    if sizes is not None:
        return estimate_first_stage(config, workload, sizes)
    return estimate(config, workload, trained, held=held)


@lru_cache(maxsize=64)
def _multiply_adds(architecture: str, workload: Workload, trained: Trained, sizes: TextSizes | None) -> MultiplyAdds:
    config = EvlVideoConfig.from_dict(json.loads(architecture))
    if sizes is not None:
        return first_stage_multiply_adds(config, workload, sizes)
    return multiply_adds(config, workload, trained)
