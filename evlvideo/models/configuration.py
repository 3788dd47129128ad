"""The architecture of a captioner, and the only place where its defaults stand."""

from dataclasses import asdict
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import BertConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from evlvideo.errors import UserError, raise_problems
from evlvideo.models.blocks.pruned_encoding import Pruning
from evlvideo.models.blocks.pruning_guide import PruningGuide
from evlvideo.models.blocks.pruning_options import DRAFT, FITTED_GUIDES, PruningOptions, read_options, read_pruning
from evlvideo.models.choices import CONTEXTUALIZERS, FUSIONS, VISUAL_MASKS
from evlvideo.models.connectors import CONNECTORS, TOMEFORMER, connector_class
from evlvideo.models.connectors.base import Connector, make_options, problems_of_options
from evlvideo.models.sources.language import problem_of_visual_mask
from evlvideo.models.tokens.merging import REDUCTIONS

_MERGE_R = 19
_CHANNELS = 3
_MERGING = ("merge_r", "merge_to")
"""Keys that say how many tokens are merged; a model has one of them."""
_OF_CONNECTOR = ("connector_options", *_MERGING, "merge_reduction")
"""Keys whose values mean nothing to another connector."""
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
"""Dropouts of a connector, in `bert_config`."""


@strict
class EvlVideoConfig(PreTrainedConfig):
    """Vision tower, connector and language model of one captioner.

    The defaults are those of EVLGen-image with OPT-2.7b, except `text_config`, which `from_towers` reads from the
    language model. Towers are named by the source of their weights; see
    :func:`evlvideo.models.towers.resolve_source`.

    Raises:
        UserError: values that are not allowed or contradict each other; all of them are listed.
    """

    model_type = "evlvideo"
    sub_configs = {"bert_config": BertConfig}  # noqa: RUF012  (transformers reads a plain class attribute)

    vision_tower: str = "eva_giant_patch14_clip_224"
    """timm's name of the vision tower."""
    vision_overrides: dict[str, Any] | None = None
    """Arguments for `timm.create_model`; EVLGen's tower is `{"depth": 39}`."""
    vision_weights: str = "timm"
    """Source of the tower's weights: `timm`, a file, or `local-dir:` and a folder as timm saves models. If it says for
    which architecture and activation they are, `from_towers` checks that."""
    vision_final_norm: bool = False
    """Whether the tower's last norm is kept."""
    pruning: dict[str, Any] | None = None
    """Prunes every frame's tokens inside the tower: `{preset: blip}`, or `{begin: […], keep: […]}`, with `look_ahead`
    and `guide`; see :class:`evlvideo.models.blocks.pruning_options.PruningOptions`. None, or no keys, for none."""
    image_mean: list[float] | None = None
    """Mean of each channel of the tower's training images, with pixels from 0 to 1. If None, `from_towers` takes the
    value that is stored beside the weights, or else timm's."""
    image_std: list[float] | None = None
    """Standard deviation of each channel, likewise."""
    language_model: str = "facebook/opt-2.7b"
    """Hub name or folder of the language model."""
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    """The language model's own configuration."""
    bert_config: dict[str, Any] | PreTrainedConfig | None = None
    """Sizes and dropout of the connector. Defaults to BERT-base, with a dropout of 0.1."""
    connector: str = TOMEFORMER
    """What turns vision tokens into soft tokens; see :data:`evlvideo.models.connectors.CONNECTORS`."""
    connector_options: dict[str, Any] | None = None
    """Options of the connector, by name; its file in `evlvideo/models/connectors` has them in a dataclass."""
    merge_r: int | list[int] | list[int | float] | None = None
    """Tokens merged in each layer of the TomeFormer; see :func:`evlvideo.models.tokens.merging.merge_schedule`.
    Defaults to 19; None with `merge_to`, and for a connector that merges nothing."""
    merge_to: int | None = None
    """Tokens of a frame that merging leaves, instead of `merge_r`; see
    :func:`evlvideo.models.tokens.merging.merge_schedule_to`."""
    merge_reduction: str | None = None
    """How merged tokens are averaged: `mean` (EVLGen; the default) or `size_weighted` (ToMe)."""
    fusion: str | None = None
    """Where frames become one: `mean` (before the connector, as published; the default), `mean_tokens` or `concat`
    (after it). None for a connector that takes all frames together."""
    contextualizer: str = "none"
    """Where frames see each other: `none`, `in_tower` (as published) or `merged`."""
    contextualizer_blocks: list[int] | None = None
    """Indices of the tower blocks with a contextualizer, from 0. Defaults to all."""
    contextualizer_attention_dim: int = 256
    """Width of an in-tower contextualizer's queries and keys, over all heads."""
    contextualizer_heads: int = 8
    """Heads of a contextualizer."""
    frame_positions: bool = False
    """Whether contextualizers know the order of the frames."""
    max_frames: int = 32
    """Most frames of a clip, if frames have positions: in contextualizers, and in `video_llama`."""
    visual_mask: str = VISUAL_MASKS[0]
    """Who sees whom in the language model: `causal` (EVLGen), `full` (soft tokens see each other), or
    `full_with_question` (also all text before a caption; its BOS token is no target then)."""
    lora_r: int = 0
    """Rank of the LoRA on the language model; 0 for none."""
    lora_alpha: int = 16
    """Scale of the LoRA: its output is multiplied by `lora_alpha / lora_r`."""
    lora_dropout: float = 0.0
    """Dropout of the LoRA's input, in training by cross-entropy."""
    lora_targets: list[str] | None = None
    """Layers of the language model that get LoRA, by the end of their names. Defaults to peft's choice: queries and
    values for OPT and LLaMA."""
    prefix_token_ids: list[int] | None = None
    """Tokens of the text before the soft prompt, such as those that open a chat. The processor sets these and the
    special tokens below."""
    bos_token_id: int | None = 2
    """BOS token: the first of the text, after the soft prompt. None for none."""
    end_token_id: int = 50118
    """EOS token of a caption: the newline for OPT."""
    pad_token_id: int = 1
    """Padding token."""

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.text_config, dict):
            kind = str(self.text_config.get("model_type"))
            if kind not in CONFIG_MAPPING:
                raise UserError(f"text_config names the language model {kind!r}, which transformers does not know.")
            self.text_config = CONFIG_MAPPING[kind](**self.text_config)
        if not isinstance(self.bert_config, PreTrainedConfig):
            self.bert_config = BertConfig(**(self.bert_config or {}))
        super().__post_init__(**kwargs)
        if self.connector in CONNECTORS:
            if self.connector_class.merges_tokens:
                self.merge_r = _MERGE_R if self.merge_r is None and self.merge_to is None else self.merge_r
                self.merge_reduction = self.merge_reduction or REDUCTIONS[0]
            if self.connector_class.takes_single_frames(self.options):
                self.fusion = self.fusion or FUSIONS[0]
        raise_problems("The model's configuration", self._problems())
        self.connector_options = asdict(self.options) or None

    @property
    def bert(self) -> BertConfig:
        """Sizes of the connector."""
        assert isinstance(self.bert_config, BertConfig)
        return self.bert_config

    @property
    def connector_class(self) -> type[Connector]:
        """The connector's class."""
        return connector_class(self.connector)

    @property
    def options(self) -> Any:
        """The connector's options, in its own dataclass."""
        return make_options(self.connector_class, self.connector_options or {})

    @property
    def connector_settings(self) -> dict[str, Any]:
        """The keys of this configuration that the connector's constructor takes."""
        return {name: getattr(self, name) for name in self.connector_class.settings}

    @property
    def frozen_weights(self) -> tuple[str, ...]:
        """Prefixes of the weights outside the towers that stay frozen."""
        return self.connector_class.frozen_weights(self.options)

    @property
    def pruning_options(self) -> PruningOptions | None:
        """Keys of `pruning`, if the tower prunes."""
        options = read_options(self.pruning) if self.pruning else None
        return None if options is None or options.guide == "none" else options

    @property
    def tower_pruning(self) -> Pruning | None:
        """How the tower prunes tokens, if it does."""
        options = self.pruning_options
        return None if options is None else read_pruning(options)

    @property
    def pruning_guide(self) -> str:
        """What guides pruning in captioning; one of :data:`evlvideo.models.blocks.pruning_options.GUIDES`."""
        options = self.pruning_options
        return "none" if options is None else options.guide

    @property
    def guide_in_training(self) -> str:
        """What guides pruning in training, which has no drafts."""
        return "class" if self.drafts else self.pruning_guide

    @property
    def drafts(self) -> bool:
        """Whether clips are captioned twice, and pruned by the first caption, so that features depend on a text."""
        return self.pruning_guide == DRAFT

    @property
    def fitted_guide(self) -> tuple[Any, ...] | None:
        """What the fitted values of a guide are of; with another, they mean nothing. None without a fitted guide."""
        options, pruning = self.pruning_options, self.tower_pruning
        if options is None or pruning is None or options.guide not in FITTED_GUIDES:
            return None
        of_kind = {"prompt": options.prompt, "predicted": pruning.schedule.begin}
        return options.guide, of_kind.get(options.guide)

    def make_pruning_guide(self, width: int) -> PruningGuide | None:
        """Make the guide of a tower of some width, if it has values that are fitted."""
        pruning = self.tower_pruning
        if pruning is None or self.fitted_guide is None:
            return None
        # A tower on its own, without a language model, drafts nothing.
        text_width, prunes = self.language_width or 0, len(pruning.schedule.begin)
        return PruningGuide(self.pruning_guide, width=width, prunes=prunes, text_width=text_width)

    @property
    def needs_frames(self) -> bool:
        """Whether something inside the vision tower is trained, so that stored features cannot replace frames."""
        return self.contextualizer == "in_tower" or self.connector_class.reads_blocks

    @property
    def connector_dropout(self) -> float:
        """Dropout of the connector's layers, if it is one of those that take it from `bert_config`."""
        return float(self.bert.hidden_dropout_prob)

    @property
    def language_width(self) -> int | None:
        """Width of the language model's word embeddings, or None if its configuration was not given."""
        if self.text_config is None:
            return None
        text: Any = self.text.get_text_config()
        # OPT-350m's words are narrower than its layers.
        return int(getattr(text, "word_embed_proj_dim", None) or text.hidden_size)

    @property
    def text(self) -> PreTrainedConfig:
        """The language model's own configuration; `from_towers` reads it if it is not given."""
        assert isinstance(self.text_config, PreTrainedConfig), "text_config was not given"
        return self.text_config

    def changed(self, **changes: Any) -> "EvlVideoConfig":
        """Copy with other values. With another connector, values that belong to the old one are dropped.

        A new `merge_r` replaces `merge_to`, and the other way round. `connector_dropout` sets that of `bert_config`.

        Raises:
            UserError: the values are not allowed, or a connector without dropout is to have one.
        """
        kept = self.to_dict()
        name = changes.get("connector", self.connector)
        if name != self.connector:
            kept |= dict.fromkeys(_OF_CONNECTOR)
        if changes.keys() & set(_MERGING):
            kept |= dict.fromkeys(_MERGING)
        if (dropout := changes.pop("connector_dropout", None)) is not None:
            if dropout > 0 and not connector_class(name).has_dropout:
                raise UserError(f"connector_dropout is {dropout}, but connector={name} has none; leave it out (null).")
            kept["bert_config"] |= dict.fromkeys(_DROPOUTS, dropout)
        given = {**(kept["connector_options"] or {}), **changes.pop("connector_options", {})}
        connector = connector_class(name)
        if not connector.takes_single_frames(make_options(connector, given)):
            kept["fusion"] = None
        return EvlVideoConfig.from_dict({**kept, **changes, "connector_options": given or None})

    def _problems(self) -> list[str]:
        choices = (
            ("connector", self.connector, CONNECTORS),
            ("fusion", self.fusion, (*FUSIONS, None)),
            ("contextualizer", self.contextualizer, CONTEXTUALIZERS),
            ("merge_reduction", self.merge_reduction, (*REDUCTIONS, None)),
            ("visual_mask", self.visual_mask, VISUAL_MASKS),
        )
        problems = [
            f"{name} is {value!r}; allowed: {', '.join(filter(None, allowed))}"
            for name, value, allowed in choices
            if value not in allowed
        ]
        problems += self._problems_of_connector() if self.connector in CONNECTORS else []
        if self.contextualizer == "merged" and self.fusion == "mean":
            problems.append(
                "contextualizer=merged works on every frame's merged tokens, but fusion=mean averages the frames "
                "before; set fusion to mean_tokens or concat"
            )
        if self.frame_positions and self.contextualizer == "none":
            problems.append("frame_positions is on, but they live in a contextualizer; set one, or turn them off")
        if self.contextualizer_blocks is not None and self.contextualizer != "in_tower":
            problems.append("contextualizer_blocks names tower blocks, but contextualizer is not in_tower")
        problems += self._problems_of_pixels()
        problems += self._problems_of_pruning() if self.pruning and self.connector in CONNECTORS else []
        if self.visual_mask in VISUAL_MASKS[1:] and self.text_config is not None:
            problem = problem_of_visual_mask(self.text)
            what = f"visual_mask is {self.visual_mask!r}, but the language model ({self.text.model_type}) {problem}"
            problems += [] if problem is None else [f"{what}; set it to {VISUAL_MASKS[0]}"]
        if self.lora_r < 0:
            problems.append(f"lora_r is {self.lora_r}; it must be 0, for none, or more")
        if self.lora_alpha < 1:
            problems.append(f"lora_alpha is {self.lora_alpha}; it must be 1 or more")
        if not 0 <= self.lora_dropout < 1:
            problems.append(f"lora_dropout is {self.lora_dropout}; it must be at least 0 and below 1")
        if self.max_frames < 1:
            problems.append(f"max_frames is {self.max_frames}; it must be at least 1")
        return problems

    def _problems_of_pruning(self) -> list[str]:
        try:
            if self.tower_pruning is None:
                return []
        except UserError as error:
            return [str(error).removesuffix(".")]
        problems = []
        if self.fusion == "mean":
            problems.append(
                "pruning keeps other patches in each frame, but fusion=mean averages the frames patch by patch; set "
                "fusion to mean_tokens or concat"
            )
        if self.contextualizer == "in_tower" or self.connector_class.reads_blocks:
            what = "contextualizer=in_tower" if self.contextualizer == "in_tower" else f"connector={self.connector}"
            problems.append(f"pruning keeps other patches in each frame, but {what} relates them inside the tower")
        if self.connector_class.needs_grid:
            problems.append(f"pruning leaves no grid of patches, which connector={self.connector} needs")
        return problems

    def _problems_of_pixels(self) -> list[str]:
        mean, std = self.image_mean, self.image_std
        if mean is None and std is None:
            return []
        if mean is None or std is None or len(mean) != _CHANNELS or len(std) != _CHANNELS or min(std) <= 0:
            return [f"image_mean is {mean} and image_std {std}; give {_CHANNELS} numbers each, those of std above 0"]
        return []

    def _problems_of_connector(self) -> list[str]:
        connector, given = self.connector_class, self.connector_options or {}
        problems = problems_of_options(connector, self.connector, given)
        problems = problems or connector.problems(self.bert, self.options, self.connector_settings)
        if not connector.merges_tokens:
            problems += [
                f"{name} is {value!r}, but connector={self.connector} merges no tokens; leave it out (null)"
                for name in (*_MERGING, "merge_reduction")
                if (value := getattr(self, name)) is not None
            ]
            if self.contextualizer == "merged":
                problems.append(
                    f"contextualizer=merged works on merged tokens, but connector={self.connector} merges none; set "
                    "contextualizer to none or in_tower"
                )
        if self.fusion is not None and not connector.takes_single_frames(self.options):
            problems.append(
                f"fusion is {self.fusion!r}, but connector={self.connector} takes all frames together; leave it out "
                "(null)"
            )
        return problems
