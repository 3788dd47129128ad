"""What pruning in the vision tower saves, with what its scores cost."""

from dataclasses import replace

import torch

from evlvideo.estimate.counting import count_generation, count_multiply_adds
from evlvideo.estimate.passes import make_frames
from evlvideo.estimate.records import ByPart, PruningCosts, Workload
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.text.draft import DRAFT_TOKENS
from evlvideo.models.tokens.pruning import LookAhead

_CHEAP: LookAhead = "one"


def pruning_costs(model: EvlVideoForCaptioning, workload: Workload, device: str) -> PruningCosts | None:
    """Count a pruning tower's multiply-adds for a clip, whole, pruned, and pruned with a cheap look-ahead.

    Args:
        model: the captioner, on a device without values.
        workload: says how many frames a clip has.
        device: the device.

    Returns:
        None for a tower that prunes nothing.
    """
    config, tower = model.config, model.vision_tower
    pruning = config.tower_pruning
    if pruning is None:
        return None
    frames = make_frames(model, replace(workload, batch_size=1), device)
    whole, _ = count_multiply_adds(lambda: tower.class_tokens(frames))
    pruned, _ = count_multiply_adds(lambda: tower(frames))
    guide = tower.pruning_guide
    tower.prune(replace(pruning, look_ahead=_CHEAP), guide)
    cheap, _ = count_multiply_adds(lambda: tower(frames))
    tower.prune(pruning, guide)
    return PruningCosts(config.pruning_guide, config.guide_in_training, pruning.look_ahead, whole, pruned, cheap)


def with_draft(model: EvlVideoForCaptioning, captioning: ByPart, encoding: ByPart, soft_tokens: int) -> ByPart:
    """Add what drafting a clip's caption costs.

    Args:
        model: the captioner, on a device without values.
        captioning: the second pass over a clip.
        encoding: its tower and connector alone.
        soft_tokens: of a clip.
    """
    drafted = count_generation(model, soft_tokens, captions=1, new_tokens=DRAFT_TOKENS)
    guide = model.vision_tower.pruning_guide
    assert guide is not None, "a captioner that drafts has a guide"
    mapped, _ = count_multiply_adds(lambda: guide.of_texts(torch.empty(1, guide.weight.shape[1], device=model.device)))
    return ByPart(
        vision_tower=captioning.vision_tower + encoding.vision_tower + mapped,
        connector=captioning.connector + encoding.connector,
        contextualizer=captioning.contextualizer + encoding.contextualizer,
        language_model=captioning.language_model + drafted.reading + drafted.captions,
    )
