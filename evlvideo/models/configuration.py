"""The architecture of a captioner, and the only place where its defaults stand."""

from dataclasses import asdict
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import BertConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from evlvideo.errors import UserError, raise_problems
from evlvideo.models.choices import CONTEXTUALIZERS, FUSIONS
from evlvideo.models.connectors.options import (
    CONNECTORS,
    TOMEFORMER,
    is_frame_by_frame,
    make_options,
    problems_of_options,
)
from evlvideo.models.tokens.merging import REDUCTIONS, merge_schedule

_MERGE_R = 19
_CHANNELS = 3
_MULTIHEADED = ("blip2", "video_llama", "videochat")


@strict
class EvlVideoConfig(PreTrainedConfig):
    """Vision tower, connector and language model of one captioner.

    The defaults are EVLGen-image's with OPT-2.7b, but for `text_config`, which `from_towers` reads from the language
    model. Towers are named by where their weights come from; see :func:`evlvideo.models.towers.locate`.

    Raises:
        UserError: a choice that is not allowed, or two that contradict each other; all of them are listed.
    """

    model_type = "evlvideo"
    sub_configs = {"bert_config": BertConfig}  # noqa: RUF012  (transformers reads a plain class attribute)

    vision_tower: str = "eva_giant_patch14_clip_224"
    """timm's name of the vision tower."""
    vision_overrides: dict[str, Any] | None = None
    """Arguments for `timm.create_model`; EVLGen's tower is `{"depth": 39}`."""
    vision_weights: str = "timm"
    """Where the tower's weights come from: `timm`, or a file."""
    vision_final_norm: bool = False
    """Whether the tower's last norm is kept."""
    image_mean: list[float] | None = None
    """Mean of each channel of the pictures that the tower was trained on, with pixels from 0 to 1; `from_towers` takes
    what timm says of the tower where nothing is given."""
    image_std: list[float] | None = None
    """Standard deviation of each channel, likewise."""
    language_model: str = "facebook/opt-2.7b"
    """Hub name or folder of the language model."""
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    """The language model's own configuration."""
    bert_config: dict[str, Any] | PreTrainedConfig | None = None
    """Sizes of the connector; BERT-base where nothing is given."""
    connector: str = TOMEFORMER
    """What turns vision tokens into soft ones: `tomeformer` (EVLGen), `blip2`, `video_llama`, `videochat`,
    `video_coca`, `linear` or `average_pool`."""
    connector_options: dict[str, Any] | None = None
    """What the connector can be told beyond its sizes; see :mod:`evlvideo.models.connectors.options`."""
    merge_r: int | list[int] | list[int | float] | None = None
    """Tokens merged in each layer of the TomeFormer; see :func:`evlvideo.models.tokens.merging.merge_schedule`. 19
    where nothing is given; `None` of a connector that merges nothing."""
    merge_reduction: str | None = None
    """How merged tokens are averaged: `mean` (EVLGen; where nothing is given) or `size_weighted` (ToMe)."""
    fusion: str | None = None
    """Where frames become one: `mean` (before the connector, as published; where nothing is given), `mean_tokens` or
    `concat` (after it). `None` of a connector that takes all frames together."""
    contextualizer: str = "none"
    """Where frames see each other: `none`, `in_tower` (as published) or `merged`."""
    contextualizer_blocks: list[int] | None = None
    """Tower blocks with a contextualizer, from 0; all where nothing is named."""
    contextualizer_attention_dim: int = 256
    """Width of an in-tower contextualizer's queries and keys, over all heads."""
    contextualizer_heads: int = 8
    """Heads of a contextualizer."""
    frame_positions: bool = False
    """Whether contextualizers know the order of the frames."""
    max_frames: int = 32
    """Frames that have a position, where frames have positions: in contextualizers, and in `video_llama`."""
    lora_r: int = 0
    """Rank of the LoRA on the language model; 0 has none."""
    lora_alpha: int = 16
    """Scale of the LoRA, which is multiplied by `lora_alpha / lora_r`."""
    lora_dropout: float = 0.0
    """Dropout of what the LoRA reads, in training by cross-entropy."""
    lora_targets: list[str] | None = None
    """Layers of the language model that get LoRA, by the end of their names; peft's choice for its kind where nothing
    is named, queries and values for OPT and LLaMA."""
    bos_token_id: int = 2
    """Token that opens the text, after the soft prompt."""
    end_token_id: int = 50118
    """Token that ends a caption: the newline for OPT."""
    pad_token_id: int = 1
    """Token that fills a batch."""

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.text_config, dict):
            kind = str(self.text_config.get("model_type"))
            if kind not in CONFIG_MAPPING:
                raise UserError(f"text_config names the language model {kind!r}, which transformers does not know.")
            self.text_config = CONFIG_MAPPING[kind](**self.text_config)
        if not isinstance(self.bert_config, PreTrainedConfig):
            self.bert_config = BertConfig(**(self.bert_config or {}))
        super().__post_init__(**kwargs)
        if self.connector == TOMEFORMER:
            self.merge_r = _MERGE_R if self.merge_r is None else self.merge_r
            self.merge_reduction = self.merge_reduction or REDUCTIONS[0]
        if is_frame_by_frame(self.connector, self.connector_options or {}):
            self.fusion = self.fusion or FUSIONS[0]
        raise_problems("The model's configuration", self._problems())
        self.connector_options = asdict(self.options) or None

    @property
    def bert(self) -> BertConfig:
        """The connector's sizes."""
        assert isinstance(self.bert_config, BertConfig)
        return self.bert_config

    @property
    def options(self) -> Any:
        """The connector's options, in its own dataclass."""
        return make_options(self.connector, self.connector_options or {})

    @property
    def trains_whole_connector(self) -> bool:
        """Whether the parts of the connector are trained too that its published form leaves frozen."""
        return bool(getattr(self.options, "train_qformer", False))

    @property
    def needs_frames(self) -> bool:
        """Whether something is trained inside the vision tower, so that what it gave before cannot stand for frames."""
        return self.contextualizer == "in_tower" or self.connector == "videochat"

    @property
    def text(self) -> PreTrainedConfig:
        """The language model's own configuration; `from_towers` has read it where it was not given."""
        assert isinstance(self.text_config, PreTrainedConfig), "text_config was not given"
        return self.text_config

    def _problems(self) -> list[str]:
        choices = (
            ("connector", self.connector, CONNECTORS),
            ("fusion", self.fusion, (*FUSIONS, None)),
            ("contextualizer", self.contextualizer, CONTEXTUALIZERS),
            ("merge_reduction", self.merge_reduction, (*REDUCTIONS, None)),
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
        if self.lora_r < 0:
            problems.append(f"lora_r is {self.lora_r}; it must be 0, for none, or more")
        if self.lora_alpha < 1:
            problems.append(f"lora_alpha is {self.lora_alpha}; it must be 1 or more")
        if not 0 <= self.lora_dropout < 1:
            problems.append(f"lora_dropout is {self.lora_dropout}; it must be at least 0 and below 1")
        if self.max_frames < 1:
            problems.append(f"max_frames is {self.max_frames}; it must be at least 1")
        return problems

    def _problems_of_pixels(self) -> list[str]:
        mean, std = self.image_mean, self.image_std
        if mean is None and std is None:
            return []
        if mean is None or std is None or len(mean) != _CHANNELS or len(std) != _CHANNELS or min(std) <= 0:
            return [f"image_mean is {mean} and image_std {std}; give {_CHANNELS} numbers each, those of std above 0"]
        return []

    def _problems_of_connector(self) -> list[str]:
        connector, problems = self.connector, problems_of_options(self.connector, self.connector_options or {})
        if connector == TOMEFORMER:
            try:
                merge_schedule(_MERGE_R if self.merge_r is None else self.merge_r, self.bert.num_hidden_layers)
            except UserError as error:
                problems.append(str(error))
        else:
            problems += [
                f"{name} is {value!r}, but connector={connector} merges no tokens; leave it out (null)"
                for name, value in (("merge_r", self.merge_r), ("merge_reduction", self.merge_reduction))
                if value is not None
            ]
            if self.contextualizer == "merged":
                problems.append(
                    f"contextualizer=merged works on merged tokens, but connector={connector} merges none; set "
                    "contextualizer to none or in_tower"
                )
        if self.fusion is not None and not is_frame_by_frame(connector, self.connector_options or {}):
            problems.append(
                f"fusion is {self.fusion!r}, but connector={connector} takes all frames together; leave it out (null)"
            )
        return problems + self._problems_of_heads()

    def _problems_of_heads(self) -> list[str]:
        heads = self.bert.num_attention_heads
        if self.connector == "video_coca":
            heads = (self.connector_options or {}).get("num_heads", make_options("video_coca", {}).num_heads)
        elif self.connector not in _MULTIHEADED:
            return []
        width = self.bert.hidden_size
        if isinstance(heads, int) and heads > 0 and width % heads == 0:
            return []
        return [
            f"bert_config.hidden_size is {width}, not a multiple of the {heads} heads of connector={self.connector}"
        ]
