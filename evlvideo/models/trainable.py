"""The one place that decides which weights are trained, by their names in the captioner."""

_FROZEN_PREFIXES = {"vision_tower": "vision_tower.", "language_model": "language_model."}


_TRAINED_INSIDE = (".temporal_merge.", ".video_relations.", ".lora_A.", ".lora_B.")
"""What of a tower's weights is trained: contextualizers between its layers, VideoChat's relations, and LoRA."""


_FROZEN_IN_CONNECTOR = {
    "video_llama": ("ln_vision.", "connector.image_queries", "connector.image_qformer."),
    "videochat": ("connector.queries", "connector.qformer."),
}
"""What a connector takes over from BLIP-2 and leaves as it is. It is no tower: checkpoints hold it."""


_WRAPPED_BY_LORA = ".base_layer."


def tower_of(parameter_name: str) -> str | None:
    """The frozen tower that a weight of the captioner belongs to, or `None` where a checkpoint holds it."""
    if _is_trained_inside(parameter_name):
        return None
    return part_of(parameter_name)


def part_of(parameter_name: str) -> str | None:
    """The tower that a weight of the captioner is in, trained or not, or `None` where it is in none."""
    return next((tower for tower, prefix in _FROZEN_PREFIXES.items() if parameter_name.startswith(prefix)), None)


def is_trained(parameter_name: str, connector: str, *, whole_connector: bool) -> bool:
    """Whether a weight of the captioner takes gradients.

    This is the one place that decides what is trained.

    Args:
        parameter_name: its name in the captioner.
        connector: name of the connector.
        whole_connector: whether the parts of it are trained too that its published form leaves frozen.
    """
    frozen = () if whole_connector else _FROZEN_IN_CONNECTOR.get(connector, ())
    return tower_of(parameter_name) is None and not parameter_name.startswith(frozen)


def _is_trained_inside(parameter_name: str) -> bool:
    return any(part in parameter_name for part in _TRAINED_INSIDE)


def is_contextualizer(parameter_name: str) -> bool:
    """Whether a weight of the captioner is a contextualizer's, in the tower or over merged tokens, or relations'."""
    return any(
        part in parameter_name for part in (".temporal_merge.", ".video_relations.")
    ) or parameter_name.startswith("contextualizer.")


def is_lora(parameter_name: str) -> bool:
    """Whether a weight, of the captioner or of its language model, is LoRA's."""
    return ".lora_A." in parameter_name or ".lora_B." in parameter_name


def trained_part(parameter_name: str) -> str:
    """The part that a trained weight of the captioner is of: what learns at a rate of its own.

    Returns:
        `lora`; `contextualizers`, with their frame positions and VideoChat's relations; `connector`; or `projections`,
        the linear layers and the norm around the connector.
    """
    if is_lora(parameter_name):
        return "lora"
    if is_contextualizer(parameter_name):
        return "contextualizers"
    return "connector" if parameter_name.startswith("connector.") else "projections"


def is_decayed(parameter_name: str, dimensions: int) -> bool:
    """Whether weight decay pulls a trained weight of the captioner towards zero.

    Matrices are, and with them queries and embeddings, as in BERT's and BLIP-2's training. Norms and biases are not, as
    there, nor are gates, which decay would close again: contextualizers' `alpha` and frame positions.

    Args:
        parameter_name: its name in the captioner.
        dimensions: how many it has.
    """
    return dimensions >= 2 and not (is_contextualizer(parameter_name) and ".frame_positions." in parameter_name)


def without_lora(parameter_name: str) -> str:
    """The name of a weight as it is where no LoRA stands beside it."""
    return parameter_name.replace(_WRAPPED_BY_LORA, ".")
