"""The one place that decides which weights are trained, by their names in the captioner."""

_TOWERS = {"vision_tower": "vision_tower.", "language_model": "language_model."}
_LORA = (".lora_A.", ".lora_B.")
_CONTEXTUALIZERS = (".temporal_merge.", ".video_relations.")
"""In-tower contextualizers, and what reads the tower's blocks (VideoChat's relations)."""
_MERGED_CONTEXTUALIZER = "connector.contextualizer."
_PROJECTION = "connector.projection."
_OF_TRAINING = "contrastive."
_TEXT_BRANCH = ("embeddings.", "qformer.")
"""What BLIP-2's first stage trains beside the Q-Former of the captioner."""
_GUIDE = ".pruning_guide."
"""What a pruning tower is guided by; fitted, not trained."""
_WRAPPED_BY_LORA = ".base_layer."


def tower_of(parameter_name: str) -> str | None:
    """The frozen tower of a weight of the captioner, or None if checkpoints hold the weight."""
    return None if is_trained_inside(parameter_name) else part_of(parameter_name)


def part_of(parameter_name: str) -> str | None:
    """The tower that a weight of the captioner is in, trained or not, or None."""
    return next((tower for tower, prefix in _TOWERS.items() if parameter_name.startswith(prefix)), None)


def is_trained(parameter_name: str, frozen: tuple[str, ...] = ()) -> bool:
    """Whether a weight of the captioner takes gradients.

    Args:
        parameter_name: its name in the captioner.
        frozen: prefixes of the weights outside the towers that the connector leaves frozen; see
            :meth:`~evlvideo.models.connectors.base.Connector.frozen_weights`.
    """
    return tower_of(parameter_name) is None and not parameter_name.startswith(frozen)


def is_trained_inside(parameter_name: str) -> bool:
    """Whether a weight is a contextualizer's, a block reader's, LoRA's or a guide's: a run's own, though in a tower."""
    return any(part in parameter_name for part in (*_CONTEXTUALIZERS, *_LORA, _GUIDE))


def is_of_guide(name: str) -> bool:
    """Whether a value of the captioner belongs to the guide of its pruning tower."""
    return _GUIDE in name


def is_of_training(parameter_name: str) -> bool:
    """Whether a weight serves training alone, and models are saved without it, such as the contrastive term's."""
    return parameter_name.startswith(_OF_TRAINING)


def is_contextualizer(parameter_name: str) -> bool:
    """Whether a weight of the captioner is a contextualizer's, in the tower or over merged tokens, or a reader's."""
    inside = any(part in parameter_name for part in _CONTEXTUALIZERS)
    return inside or parameter_name.startswith(_MERGED_CONTEXTUALIZER)


def is_lora(parameter_name: str) -> bool:
    """Whether a weight, of the captioner or of its language model, is LoRA's."""
    return any(part in parameter_name for part in _LORA)


def trained_part(parameter_name: str) -> str:
    """The part of a trained weight of the captioner; each part has a learning rate of its own.

    Returns:
        `lora`; `contextualizers`, with their frame positions and block readers; `projections`, the linear layers and
        the norm around the connector; or `connector`.
    """
    if is_lora(parameter_name):
        return "lora"
    if is_contextualizer(parameter_name):
        return "contextualizers"
    inside = parameter_name.startswith(("connector.", *_TEXT_BRANCH)) and not parameter_name.startswith(_PROJECTION)
    return "connector" if inside else "projections"


def is_decayed(parameter_name: str, dimensions: int) -> bool:
    """Whether weight decay applies to a trained weight of the captioner.

    It applies to matrices, and with them to queries and embeddings, as in BERT's and BLIP-2's training. It does not
    apply to norms and biases, nor to gates, which it would close again: contextualizers' `alpha` and frame positions.

    Args:
        parameter_name: its name in the captioner.
        dimensions: how many it has.
    """
    return dimensions >= 2 and not (is_contextualizer(parameter_name) and ".frame_positions." in parameter_name)


def without_lora(parameter_name: str) -> str:
    """The name that a weight has without a LoRA beside it."""
    return parameter_name.replace(_WRAPPED_BY_LORA, ".")
