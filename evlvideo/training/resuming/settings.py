"""Says which settings may change when a run is resumed, and refuses all others by name."""

import filecmp
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import PartialState

from evlvideo.config.generation import AnsweringConfig
from evlvideo.config.run import RunConfig
from evlvideo.config.settings import flat_settings
from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import read_configuration, weights_files
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.towers import check_same_tower, read_manifest
from evlvideo.processes import is_main
from evlvideo.results.run_directory import CONFIG_NAME
from evlvideo.training.resuming.checkpoints import processes_of, state_of
from evlvideo.training.resuming.record import RunRecord, read_record

logger = logging.getLogger(__name__)

_CLIPS = "so its clips may be in another order"
_SCORES = "so its validation scores do not compare with those before, of which one may be called the best"
_MOVED = "which must hold the same files"

RATES = (
    "training.learning_rate",
    "training.learning_rates.connector",
    "training.learning_rates.projections",
    "training.learning_rates.contextualizers",
    "training.learning_rates.lora",
    "training.learning_rates.vision_tower",
    "training.learning_rates.language_model",
    "training.min_learning_rate",
    "training.schedule",
    "training.schedule_steps",
    "training.warmup_steps",
    "training.warmup_learning_rate",
)
"""The schedule of the learning rates, which goes on from the step that it has reached. A part that is frozen stays so,
and one that is trained goes on being trained."""
LIMITS = (
    "training.max_steps",
    "training.patience",
    "training.stop_on_collapse",
    "training.max_hours",
)
"""What ends a run."""
MAY_CHANGE: dict[str, str] = {
    **dict.fromkeys((*RATES, *LIMITS), ""),
    # What helps a run that diverged.
    "training.max_grad_norm": "",
    "training.precision": "",
    # How often it looks, and what it keeps and logs.
    "training.eval_steps": "",
    "training.keep_checkpoints": "",
    "training.log_steps": "",
    "scst.stop_on_collapse": "",
    "data.num_workers": "",
    "data.check_counts": "",
    "generation.batch_size": "",
    # Validation.
    "data.validation_split": _SCORES,
    "data.validation_clips": _SCORES,
    "data.eval_sampling": _SCORES,
    "generation.num_beams": _SCORES,
    "generation.do_sample": _SCORES,
    "generation.top_p": _SCORES,
    "generation.temperature": _SCORES,
    "generation.max_new_tokens": _SCORES,
    "generation.min_new_tokens": _SCORES,
    "generation.length_penalty": _SCORES,
    "generation.repetition_penalty": _SCORES,
    "generation.forbidden_words": _SCORES,
    # Questions, unless the run trains on them.
    **dict.fromkeys((f"answering.{entry.name}" for entry in fields(AnsweringConfig)), ""),
    # Places, of what is the same elsewhere.
    "output_dir": "",
    "data.root": _MOVED,
    "data.video_root": _MOVED,
    "data.sources[].root": _MOVED,
    "data.sources[].video_root": _MOVED,
    # Clips that cannot be read.
    "data.quarantine": _CLIPS,
    "data.features": _CLIPS,
}
"""Settings that may change, and what follows if it is more than the change itself. All others are refused."""
ARGUMENTS_THAT_MAY_CHANGE = frozenset(
    {
        *("activation_checkpointing", "activation_checkpointing_kwargs", "gradient_checkpointing"),
        *("gradient_checkpointing_kwargs", "torch_compile", "torch_compile_backend", "torch_compile_mode", "tf32"),
        *("use_cache", "torch_empty_cache_steps", "full_determinism", "dataloader_pin_memory"),
        *("dataloader_persistent_workers", "dataloader_prefetch_factor", "dataloader_multiprocessing_context"),
        *("ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "logging_first_step", "log_on_each_node"),
        *("log_level", "log_level_replica", "report_to", "project", "trackio_space_id", "trackio_bucket_id"),
        *("trackio_static_space_id", "save_on_each_node", "include_num_input_tokens_seen", "debug"),
        "skip_memory_metrics",
    }
)
"""Names under `training.arguments` that cost or save memory and time, or log, and leave what is trained as it is."""
_SAME_CONTENT = (
    *("init", "architecture", "connector_init", "scst.reward_file", "contrastive.text_encoder"),
    "representation.tokenizer",
)
"""Files and checkpoints that a run starts from; another name for the same content is no change."""
_OF_TRAINED_QUESTIONS = ("answering.prompt", "answering.clean", "answering.max_prompt_tokens")
"""May not change if a run trains on questions, whose texts they make."""
_SHARED_OUT = ("training.batch_size", "training.gradient_accumulation_steps")
"""May change if as many clips remain in a step."""
_ARGUMENTS = "training.arguments."
_RATE_OF_PART = "training.learning_rates."
_NOT_OF_THE_ARCHITECTURE = frozenset(
    {"model_type", "sub_configs", "text_config", "bert_config", "vision_weights", "language_model"}
)
"""Names of places, and configurations of whole models, which fingerprints and the shapes of weights compare."""


class Change(NamedTuple):
    """Values of a setting."""

    before: Any
    now: Any


def resumed_record(config: RunConfig, directory: Path, checkpoint: Path) -> RunRecord:
    """Hold a config against what a run's checkpoint was trained with.

    What its weights, its optimizer, its texts or the order of its clips depend on stays as it was: the run would record
    one value and train with another, or repeat some clips of an epoch and miss others. Call it before anything of the
    run is written.

    Args:
        config: the run as it shall go on.
        directory: of the run.
        checkpoint: to resume from.

    Returns:
        what the run is trained with from here on.

    Raises:
        UserError: a setting has changed that may not; the message has both values.
    """
    record = read_record(directory, checkpoint)
    if record is None:
        if is_main():
            logger.warning("%s has no %s, so what changes on resuming cannot be told.", directory, CONFIG_NAME)
        return RunRecord(config)
    changes = _changes(record.config, config)
    refused = {key: change for key, change in changes.items() if not _may_change(key, change)}
    if config.data.has_questions:
        refused |= {key: change for key, change in changes.items() if key in _OF_TRAINED_QUESTIONS}
    refused |= _changes_of_steps(record.config, config, checkpoint)
    if refused:
        raise UserError(
            f"The run in {directory} cannot resume with {_listed(refused)}. Leave it as it was, or train in another "
            "output_dir."
        )
    step = state_of(checkpoint).global_step
    if config.training.max_steps < step:
        raise UserError(
            f"The run in {directory} cannot resume with training.max_steps={config.training.max_steps}: it has trained "
            f"{step} steps."
        )
    return _with_changes(record, config, changes, step)


def _with_changes(record: RunRecord, config: RunConfig, changes: Mapping[str, Change], step: int) -> RunRecord:
    told = {key: list(change) for key, change in changes.items() if key != "output_dir"}
    entries = [{"step": step, "changed": told}] if told else []
    return RunRecord(config, (*record.changes, *entries))


def tell_changes(record: RunRecord, directory: Path, checkpoint: Path) -> None:
    """Log what a resumed run goes on with, and what follows from it; the main process speaks."""
    if not is_main():
        return
    for key, change in changes_at(record, checkpoint).items():
        consequence = MAY_CHANGE.get(_general(key), "")
        level = logging.WARNING if consequence else logging.INFO
        logger.log(
            level, "%s resumes with %s", directory, ", ".join(filter(None, (_listed({key: change}), consequence)))
        )
    before, now = processes_of(checkpoint), PartialState().num_processes
    if before != now:
        logger.warning(
            "%s was trained by %d processes and resumes with %d: dropout continues with other random numbers, so its "
            "weights differ a little from those of a run that was not interrupted.",
            directory,
            before,
            now,
        )


def changes_at(record: RunRecord, checkpoint: Path) -> dict[str, Change]:
    """Return what changes as a run resumes from a checkpoint."""
    step = state_of(checkpoint).global_step
    return {
        key: Change(*values)
        for entry in record.changes[-1:]
        if entry["step"] == step
        for key, values in entry["changed"].items()
    }


def record_of_finished(config: RunConfig, directory: Path, checkpoint: Path) -> RunRecord:
    """Return the record of a run that has nothing left to train: what it was trained with, and what ends it now."""
    record = read_record(directory, checkpoint)
    if record is None:
        return RunRecord(config)
    limits = {name: getattr(config.training, name) for name in (key.rpartition(".")[2] for key in LIMITS)}
    before = record.config
    kept = replace(before, output_dir=config.output_dir, training=replace(before.training, **limits))
    if (unused := _changes(kept, config)) and is_main():
        logger.warning(
            "%s has nothing left to train, so that it keeps its config; of no use: %s", directory, _listed(unused)
        )
    return _with_changes(record, kept, _changes(before, kept), state_of(checkpoint).global_step)


def check_same_model(model: EvlVideoForCaptioning, checkpoint: Path) -> None:
    """Check that a run's files still make the model that its checkpoint is of.

    A config names an architecture, a checkpoint to start from and towers, whose files may have been edited.

    Raises:
        UserError: the architecture or a frozen tower is another.
    """
    saved = read_configuration(checkpoint)
    changes = {
        key: Change(before, now)
        for key in sorted(EvlVideoConfig.__annotations__.keys() - _NOT_OF_THE_ARCHITECTURE)
        if (before := getattr(saved, key)) != (now := getattr(model.config, key))
    }
    if changes:
        raise UserError(
            f"The run cannot resume from {checkpoint}: the files that its config names make another model than they "
            f"did, with {_listed(changes)}. Restore them, or train in another output_dir."
        )
    manifest = read_manifest(checkpoint)
    for tower in manifest.keys() & model.tower_fingerprints.keys():
        check_same_tower(tower, manifest[tower], model.tower_fingerprints[tower])


def _changes(before: RunConfig, now: RunConfig) -> dict[str, Change]:
    old, new = _flat(before), _flat(now)
    keys = [*new, *(key for key in old if key not in new)]
    return {key: Change(old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _flat(config: RunConfig) -> dict[str, Any]:
    """Return all settings by their dotted keys, those of each source too."""
    values = flat_settings(asdict(config))
    sources = values.pop("data.sources")
    for index, source in enumerate(sources):
        values |= {f"data.sources[{index}].{name}": value for name, value in source.items()}
    return values


def _general(key: str) -> str:
    """Return the key of a setting of any source."""
    return f"data.sources[].{key.partition('].')[2]}" if key.startswith("data.sources[") else key


def _may_change(key: str, change: Change) -> bool:
    if key.startswith(_ARGUMENTS):
        return key.removeprefix(_ARGUMENTS).partition(".")[0] in ARGUMENTS_THAT_MAY_CHANGE
    if key.startswith(_RATE_OF_PART):
        return (change.before == 0) == (change.now == 0)
    if key in _SAME_CONTENT:
        return change.before is not None and change.now is not None and _same_content(change.before, change.now)
    return _general(key) in MAY_CHANGE or key in _SHARED_OUT


def _same_content(before: str, now: str) -> bool:
    """Whether two names are of one place or of equal files; of a checkpoint, its weights count."""
    old, new = Path(before), Path(now)
    if not old.exists():
        # It was moved, as far as can be told; a hub name does not look like that.
        return old.is_absolute() and new.exists()
    if not new.exists():
        return False
    if old.samefile(new):
        return True
    files = [weights_files(path) if path.is_dir() else [path] for path in (old, new)]
    return len(files[0]) == len(files[1]) and all(
        first.is_file() and second.is_file() and filecmp.cmp(first, second, shallow=False)
        for first, second in zip(*files, strict=True)
    )


def _changes_of_steps(before: RunConfig, now: RunConfig, checkpoint: Path) -> dict[str, Change]:
    """Compare the clips of a step, which may be shared out in another way."""
    old, new = processes_of(checkpoint), PartialState().num_processes
    batches = Change(*(c.training.batch_size * c.training.gradient_accumulation_steps for c in (before, now)))
    factors = " × ".join(_SHARED_OUT)
    if batches.before * old != batches.now * new:
        return {f"{factors} × processes": Change(batches.before * old, batches.now * new)}
    if now.stage == "scst" and now.scst.reward_frequencies == "batch" and old != new:
        # Document frequencies are of the clips of a process.
        return {"processes": Change(old, new)}
    return {}


def _listed(changes: Mapping[str, Change]) -> str:
    return ", ".join(
        f"{key}={_shown(key, change.now)} (it was {_shown(key, change.before)})" for key, change in changes.items()
    )


def _shown(key: str, value: Any) -> str:
    quoted = value is None or isinstance(value, bool) or key.startswith("text.")
    return json.dumps(value, ensure_ascii=False) if quoted else str(value)
