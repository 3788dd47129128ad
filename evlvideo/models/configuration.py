"""The architecture of a captioner, and the only place where its defaults stand."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import BertConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from evlvideo.errors import UserError
from evlvideo.models.merging import REDUCTIONS, merge_schedule

FUSIONS = ("mean", "mean_tokens", "concat")
CONTEXTUALIZERS = ("none", "in_tower", "merged")


@strict
class EvlVideoConfig(PreTrainedConfig):
    """Vision tower, connector and language model of one captioner.

    The defaults are EVLGen-image's with OPT-2.7b, but for `text_config`, which `from_towers` reads from the language
    model. Towers are named by where their weights come from; see :func:`evlvideo.models.frozen.locate`.

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
    language_model: str = "facebook/opt-2.7b"
    """Hub name or folder of the language model."""
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    """The language model's own configuration."""
    bert_config: dict[str, Any] | PreTrainedConfig | None = None
    """Sizes of the connector; BERT-base where nothing is given."""
    merge_r: int | list[int] | list[int | float] = 19
    """Tokens merged in each connector layer; see :func:`evlvideo.models.merging.merge_schedule`."""
    merge_reduction: str = "mean"
    """How merged tokens are averaged: `mean` (EVLGen) or `size_weighted` (ToMe)."""
    fusion: str = "mean"
    """Where frames become one: `mean` (before the connector, as published), `mean_tokens` or `concat` (after it)."""
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
    """Frames that have a position, where frames have positions."""
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
        problems = self._problems()
        if problems:
            raise UserError("The model's configuration has a problem:\n" + "\n".join(f"  - {p}" for p in problems))

    @property
    def bert(self) -> BertConfig:
        """The connector's sizes."""
        assert isinstance(self.bert_config, BertConfig)
        return self.bert_config

    @property
    def text(self) -> PreTrainedConfig:
        """The language model's own configuration; `from_towers` has read it where it was not given."""
        assert isinstance(self.text_config, PreTrainedConfig), "text_config was not given"
        return self.text_config

    def _problems(self) -> list[str]:
        choices = (
            ("fusion", self.fusion, FUSIONS),
            ("contextualizer", self.contextualizer, CONTEXTUALIZERS),
            ("merge_reduction", self.merge_reduction, REDUCTIONS),
        )
        problems = [
            f"{name} is {value!r}; allowed: {', '.join(allowed)}"
            for name, value, allowed in choices
            if value not in allowed
        ]
        if self.contextualizer == "merged" and self.fusion == "mean":
            problems.append(
                "contextualizer=merged works on every frame's merged tokens, but fusion=mean averages the frames "
                "before; set fusion to mean_tokens or concat"
            )
        if self.frame_positions and self.contextualizer == "none":
            problems.append("frame_positions is on, but they live in a contextualizer; set one, or turn them off")
        if self.contextualizer_blocks is not None and self.contextualizer != "in_tower":
            problems.append("contextualizer_blocks names tower blocks, but contextualizer is not in_tower")
        if self.lora_r < 0:
            problems.append(f"lora_r is {self.lora_r}; it must be 0, for none, or more")
        if self.lora_alpha < 1:
            problems.append(f"lora_alpha is {self.lora_alpha}; it must be 1 or more")
        if not 0 <= self.lora_dropout < 1:
            problems.append(f"lora_dropout is {self.lora_dropout}; it must be at least 0 and below 1")
        if self.max_frames < 1:
            problems.append(f"max_frames is {self.max_frames}; it must be at least 1")
        try:
            merge_schedule(self.merge_r, self.bert.num_hidden_layers)
        except UserError as error:
            problems.append(str(error))
        return problems
