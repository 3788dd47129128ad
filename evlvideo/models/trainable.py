"""The one place that decides which weights are trained, by their names in the captioner.

Towers are frozen unless a run says otherwise. Where a run trains weights of theirs, checkpoints hold these from then
on, in float32, whether or not a later run trains them again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from evlvideo.errors import UserError

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
_VIT = "vision_tower.vit."
_OWN = {"vision_tower": _VIT, "language_model": _TOWERS["language_model"]}
"""Prefixes of the towers' own weights; with these of the vision tower are contextualizers."""
_NEVER_RUN = tuple(f"{_VIT}{name}." for name in ("attn_pool", "fc_norm", "head"))
"""Weights that a vision tower may bring, after its last block, and that nothing reads."""
_NOT_DECAYED = ("pos_embed", "cls_token", "reg_token", "dist_token", "relative_position_bias_table")
"""Ends of names of the vision tower's weights that are not decayed, as in timm."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run trains, by part. Defaults to all that is no tower."""

    frozen: frozenset[str] = frozenset(_TOWERS)
    """Parts that are not trained; :func:`trained_part` has their names."""
    vision_blocks: int | None = None
    """Last blocks of a trained vision tower that are trained, with its final norm. Defaults to the whole tower."""
    dropout: bool = True
    """Whether trained towers are in training mode, with the dropout that their own configurations have."""

    def in_towers(self, depth: int) -> tuple[str, ...]:
        """Return the prefixes of the towers' own weights that are trained.

        Args:
            depth: blocks of the vision tower.

        Raises:
            UserError: it has fewer blocks than are to be trained.
        """
        whole = tuple(prefix for tower, prefix in _OWN.items() if tower not in self.frozen)
        if self.vision_blocks is None or "vision_tower" in self.frozen:
            return whole
        if self.vision_blocks > depth:
            raise UserError(f"training.vision_blocks is {self.vision_blocks}; the vision tower has {depth} blocks.")
        blocks = (f"{_VIT}blocks.{index}." for index in range(depth - self.vision_blocks, depth))
        return (*blocks, f"{_VIT}norm.", *(prefix for prefix in whole if prefix != _VIT))


def joined(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Sort prefixes of names, and leave out those that another one covers."""
    distinct = sorted(set(prefixes))
    return tuple(
        prefix for prefix in distinct if not any(prefix != other and prefix.startswith(other) for other in distinct)
    )


def holds_all_of(tower: str, held: tuple[str, ...]) -> bool:
    """Whether checkpoints hold all of a tower's own weights."""
    return _OWN[tower] in held


def holds_some_of(tower: str, held: tuple[str, ...]) -> bool:
    """Whether checkpoints hold any of a tower's own weights."""
    return any(prefix.startswith(_TOWERS[tower]) for prefix in held)


def held_weights_of(listed: Iterable[str], named: Iterable[str]) -> tuple[str, ...]:
    """Return the prefixes of the tower weights that a checkpoint holds because they were trained.

    Args:
        listed: prefixes in its manifest.
        named: the towers in its manifest, whose other weights it does not hold. One that was saved with all of a tower
            cannot take the rest from elsewhere later.
    """
    listed, named = tuple(listed), tuple(named)
    whole = (prefix for tower, prefix in _OWN.items() if tower not in named and holds_some_of(tower, listed))
    return joined((*listed, *whole))


def tower_of(parameter_name: str, held: tuple[str, ...] = ()) -> str | None:
    """The tower that a weight of the captioner comes from, or None if checkpoints hold the weight.

    Args:
        parameter_name: its name in the captioner.
        held: prefixes of the towers' own weights that were trained, and that checkpoints hold.
    """
    if is_trained_inside(parameter_name) or parameter_name.startswith(held):
        return None
    return part_of(parameter_name)


def part_of(parameter_name: str) -> str | None:
    """The tower that a weight of the captioner is in, trained or not, or None."""
    return next((tower for tower, prefix in _TOWERS.items() if parameter_name.startswith(prefix)), None)


def is_trained(
    parameter_name: str,
    frozen: tuple[str, ...] = (),
    trained: Trained = Trained(),
    in_towers: tuple[str, ...] = (),
) -> bool:
    """Whether a weight of the captioner takes gradients.

    Args:
        parameter_name: its name in the captioner.
        frozen: prefixes of the weights outside the towers that the connector leaves frozen; see
            :meth:`~evlvideo.models.connectors.base.Connector.frozen_weights`.
        trained: what the run trains.
        in_towers: its :meth:`~Trained.in_towers`.
    """
    part = trained_part(parameter_name)
    if part in _TOWERS:
        return parameter_name.startswith(in_towers) and not parameter_name.startswith(_NEVER_RUN)
    return part not in trained.frozen and not parameter_name.startswith(frozen)


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
    """The part of a weight of the captioner; each part has a learning rate of its own.

    Returns:
        `lora`; `contextualizers`, with their frame positions and block readers; `vision_tower` or `language_model`, a
        tower's own weights; `projections`, the linear layers and the norm around the connector; or `connector`.
    """
    if is_lora(parameter_name):
        return "lora"
    if is_contextualizer(parameter_name):
        return "contextualizers"
    if (tower := part_of(parameter_name)) is not None:
        return tower
    inside = parameter_name.startswith(("connector.", *_TEXT_BRANCH)) and not parameter_name.startswith(_PROJECTION)
    return "connector" if inside else "projections"


def is_decayed(parameter_name: str, dimensions: int) -> bool:
    """Whether weight decay applies to a trained weight of the captioner.

    It applies to matrices, and with them to queries and embeddings, as in BERT's and BLIP-2's training. It does not
    apply to norms and biases, nor to gates, which it would close again: contextualizers' `alpha` and frame positions.
    Nor does it apply to the vision tower's own positions and class token, as in timm.

    Args:
        parameter_name: its name in the captioner.
        dimensions: how many it has.
    """
    if trained_part(parameter_name) == "vision_tower" and parameter_name.endswith(_NOT_DECAYED):
        return False
    return dimensions >= 2 and not (is_contextualizer(parameter_name) and ".frame_positions." in parameter_name)


def without_lora(parameter_name: str) -> str:
    """The name that a weight has without a LoRA beside it."""
    return parameter_name.replace(_WRAPPED_BY_LORA, ".")
