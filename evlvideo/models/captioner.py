"""The captioner: frozen vision tower, trained connector, frozen language model.

Source: EVLGen (Jian et al., ACL 2024). Notation: `B` clips, `T` frames, `N` tokens of a frame, `D` channels of the
tower, `H` hidden size of the connector, `M` tokens that it gives (of a frame or of a clip), `P` soft tokens of a clip
(`M`, or `T·M` when concatenated), `E` width of the language model, `L` text tokens, `V` vocabulary.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutput

from evlvideo.errors import UserError
from evlvideo.models.changed_weights import changed_weights
from evlvideo.models.checkpoint import (
    checkpoint_directory,
    finish_saving,
    load_frozen_towers,
    load_trained_weights,
    read_manifest,
    read_text_config,
)
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors.bert import load_bert_into
from evlvideo.models.connectors.build import make_connector
from evlvideo.models.connectors.options import TOMEFORMER
from evlvideo.models.connectors.tomeformer import TomeFormer
from evlvideo.models.connectors.videochat import VideoRelations
from evlvideo.models.contextualizers import InTowerContextualizer, MergedContextualizer
from evlvideo.models.gradient_checkpointing import Checkpoint, checkpoint_layers
from evlvideo.models.language import SoftPrompt, add_lora
from evlvideo.models.loss import caption_loss
from evlvideo.models.precision import Float32LayerNorm, in_own_precision
from evlvideo.models.trainable import is_trained, tower_of
from evlvideo.models.vision import VisionTower

_ADDED_BY_AUTO_MODEL = ("trust_remote_code", "adapter_kwargs")


class EvlVideoForCaptioning(PreTrainedModel):
    """EVLGen, for images and video: one class, whose variants are values of its configuration.

    `from_pretrained` opens a checkpoint and the frozen towers it names; `from_towers` starts a new one. It computes in
    the type of its frozen towers, whoever calls it; see :mod:`evlvideo.models.precision`.
    """

    config: EvlVideoConfig
    config_class = EvlVideoConfig
    base_model_prefix = "captioner"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: EvlVideoConfig, *, empty_language_model: bool = False) -> None:
        """Build a captioner at random.

        With `empty_language_model`, the language model is left without memory, for one that is put in its place;
        billions of weights would be drawn for nothing.
        """
        super().__init__(config)
        self.vision_tower = VisionTower(
            config.vision_tower,
            overrides=config.vision_overrides,
            final_norm=config.vision_final_norm,
            image_mean=config.image_mean,
            image_std=config.image_std,
        )
        bert = config.bert
        max_frames = config.max_frames if config.frame_positions else None
        if config.contextualizer == "in_tower":
            self.vision_tower.insert_contextualizers(
                config.contextualizer_blocks,
                lambda: InTowerContextualizer(
                    self.vision_tower.dim,
                    attention_dim=config.contextualizer_attention_dim,
                    num_heads=config.contextualizer_heads,
                    max_frames=max_frames,
                ),
            )
        self.ln_vision = Float32LayerNorm(self.vision_tower.dim)
        merging = config.connector == TOMEFORMER
        self.vision_projection = nn.Linear(self.vision_tower.dim, bert.hidden_size) if merging else None
        self.connector = make_connector(config, self.vision_tower)
        self.contextualizer = (
            MergedContextualizer(bert.hidden_size, num_heads=config.contextualizer_heads, max_frames=max_frames)
            if config.contextualizer == "merged"
            else None
        )
        with torch.device("meta") if empty_language_model else nullcontext():
            self.language_model = AutoModelForCausalLM.from_config(config.text)
        width = self.language_model.get_input_embeddings().embedding_dim
        self.language_projection = nn.Linear(getattr(self.connector, "output_dim", bert.hidden_size), width)
        self.tower_fingerprints: dict[str, str] = {}
        self.post_init()
        # After the initialisation above, which would make something of a LoRA that starts as nothing.
        add_lora(self.language_model, config)
        self.freeze_towers()

    def freeze_towers(self) -> None:
        """Let exactly the weights that :func:`~evlvideo.models.trainable.is_trained` calls trained take gradients."""
        config = self.config
        for name, parameter in self.named_parameters():
            trained = is_trained(name, config.connector, whole_connector=config.trains_whole_connector)
            parameter.requires_grad_(trained)
        self.train(self.training)

    def train(self, mode: bool = True) -> "EvlVideoForCaptioning":
        """Set the mode of the trained parts; frozen towers stay in eval mode, but for LoRA's dropout."""
        super().train(mode)
        if hasattr(self, "language_model"):
            self.language_model.train(False)
            for name, module in self.language_model.named_modules():
                if ".lora_dropout." in name:
                    module.train(mode)
        return self

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Checkpoint = checkpoint, every_n_layers: int = 1
    ) -> None:
        """What transformers' `gradient_checkpointing_enable` does: of towers that are frozen too.

        Where nothing in a tower is trained, it runs without gradient and keeps nothing anyway.
        """
        func = gradient_checkpointing_func if enable else None
        self.vision_tower.checkpoint_blocks(func, every=every_n_layers)
        for part in (self.connector, self.language_model):
            checkpoint_layers(part, func, every=every_n_layers)

    def _init_weights(self, module: nn.Module) -> None:
        """BERT's initialisation for what is trained; towers bring their own weights."""
        std = self.config.bert.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, VideoRelations):
            module.init_weights()

    def autocast(self) -> AbstractContextManager[Any]:
        """What the model computes in; its own methods enter it, and who runs a part of it alone has to."""
        return self.vision_tower.autocast()

    @in_own_precision
    def features_to_prompt(self, features: Tensor) -> Tensor:
        """Turn the tower's output into the soft prompt.

        Args:
            features: vision tokens, `(B, T, N, D)`; with VideoChat's connector `(B, T, N + 1, D)`. Those that were
                stored in another type than the tower's are brought to it.

        Returns:
            soft prompt, `(B, P, E)`.
        """
        features = features.to(self.vision_tower.dtype)
        if self.config.fusion == "mean":
            features = features.mean(dim=1, keepdim=True)  # (B, 1, N, D)
        tokens = self.ln_vision(features).to(self.language_projection.weight.dtype)
        hidden = self._merge(tokens) if isinstance(self.connector, TomeFormer) else self.connector(tokens)
        if self.config.fusion == "mean_tokens":
            hidden = hidden.mean(dim=1, keepdim=True)  # (B, 1, M, H)
        return self.language_projection(hidden.flatten(1, 2))  # (B, P, E)

    def _merge(self, tokens: Tensor) -> Tensor:
        """EVLGen's connector, frame by frame: `(B, T, N, D)` → `(B, T, M, H)`."""
        assert self.vision_projection is not None
        tokens = self.vision_projection(tokens)  # (B, T, N, H)
        merged = self.connector(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])  # (B, T, M, H)
        return merged if self.contextualizer is None else self.contextualizer(merged)

    @in_own_precision
    def encode(self, pixel_values: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        """Frames `(B, T, 3, height, width)`, or what the tower made of them, `(B, T, N, D)` → soft prompt `(B, P, E)`.

        Frames are uint8, or float and normalised.

        Raises:
            UserError: features are given to a model that has trained parts inside the tower.
        """
        if features is None:
            assert pixel_values is not None, "give pixel_values, features or soft_prompt"
            features = self.vision_tower(pixel_values)
        elif self.config.needs_frames:
            raise UserError(
                "The model has contextualizers or relations inside the vision tower, so that features made without "
                "them are not its own; give it frames (data.features=null)."
            )
        return self.features_to_prompt(features)

    @in_own_precision
    def read_prompt(self, soft_prompt: Tensor) -> SoftPrompt:
        """Let the language model read a soft prompt, `(B, P, E)`, once for all texts that are to follow it."""
        return SoftPrompt.read(self.language_model, soft_prompt)

    @in_own_precision
    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        features: Tensor | None = None,
        soft_prompt: Tensor | None = None,
        prompt: SoftPrompt | None = None,
        num_items_in_batch: Tensor | int | None = None,
        logits_to_keep: int = 0,
    ) -> CausalLMOutput:
        """Teacher-forced pass.

        Where the logits of the text are all that is asked for, the language model reads the soft prompt once a clip and
        its texts after it; else the prompt once more with every text.

        Args:
            pixel_values: frames as :meth:`encode` takes them; or give `features`, `soft_prompt` or `prompt`.
            input_ids: text tokens, `(B, L)`, or `(k·B, L)` for `k` texts of each clip in turn, which is encoded once;
                padded on the right; the soft prompt is not in them.
            attention_mask: ones on text, zeros on padding, as `input_ids`.
            labels: targets, as `input_ids`, −100 where there is none; the first token is a target like any other.
            features: the tower's output, `(B, T, N, D)`.
            soft_prompt: output of :meth:`encode`, `(B, P, E)`.
            prompt: output of :meth:`read_prompt`; then `logits_to_keep` is from 1 to `L + 1`.
            num_items_in_batch: targets over which the loss is averaged, where that is not this batch alone.
            logits_to_keep: return logits of this many last places only; 0 returns all.

        Returns:
            loss (where there are labels) and logits `(k·B, P + L, V)`, or the last of them.
        """
        assert input_ids is not None and attention_mask is not None
        if prompt is None:
            if soft_prompt is None:
                soft_prompt = self.encode(pixel_values, features=features)
            # One text a clip is read in one pass with its prompt.
            if len(input_ids) > len(soft_prompt) and 0 < logits_to_keep <= input_ids.shape[1] + 1:
                prompt = self.read_prompt(soft_prompt)
            else:
                prompt = SoftPrompt.unread(self.language_model, soft_prompt)
        logits = self._read_texts(prompt, input_ids, attention_mask, logits_to_keep)
        loss = None if labels is None else caption_loss(logits, labels, num_items_in_batch)
        return CausalLMOutput(loss=loss, logits=logits)

    def _read_texts(self, prompt: SoftPrompt, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int) -> Tensor:
        """Logits of what the prompt's cache does not hold, and of texts, `(k·B, ≤ P + L, V)`."""
        prompt = prompt.repeated(len(input_ids) // len(prompt.embeddings))
        known = prompt.cache.get_seq_length()
        text = self.language_model.get_input_embeddings()(input_ids)  # (k·B, L, E)
        prefix_mask = attention_mask.new_ones(prompt.embeddings.shape[:2])
        logits: Tensor = self.language_model(
            inputs_embeds=torch.cat([prompt.embeddings[:, known:], text], dim=1),
            attention_mask=torch.cat([prefix_mask, attention_mask], dim=1),
            logits_to_keep=logits_to_keep,
            cache=prompt.cache if known else None,
            use_cache=known > 0,
        ).logits
        return logits

    @torch.no_grad()
    @in_own_precision
    def generate(
        self,
        pixel_values: Tensor | None = None,
        *,
        features: Tensor | None = None,
        soft_prompt: Tensor | None = None,
        prompt: SoftPrompt | None = None,
        prompt_ids: Tensor | None = None,
        max_new_tokens: int = 30,
        **generation: Any,
    ) -> Tensor:
        """Caption clips. The language model reads the soft prompt once a clip, however many beams or captions it has.

        Args:
            pixel_values: frames as :meth:`encode` takes them; or give `features`, `soft_prompt` or `prompt`.
            features: the tower's output, `(B, T, N, D)`.
            soft_prompt: output of :meth:`encode`, `(B, P, E)`.
            prompt: output of :meth:`read_prompt`.
            prompt_ids: tokens that every caption continues, `(L)` or `(B, L)`, without the opening one.
            max_new_tokens: most tokens to generate.
            generation: further arguments of transformers' `generate`, such as `num_beams` or `min_new_tokens`.

        Raises:
            UserError: a length that would count the prompt too.

        Returns:
            new tokens only, `(B · num_return_sequences, ≤ max_new_tokens)`, filled with the padding token.
        """
        if generation.keys() & {"max_length", "min_length"}:
            raise UserError("Lengths count new tokens only: give max_new_tokens and min_new_tokens.")
        if prompt is None:
            prompt = self.read_prompt(
                self.encode(pixel_values, features=features) if soft_prompt is None else soft_prompt
            )
        batch = len(prompt.embeddings)
        opening = torch.full((batch, 1), self.config.bos_token_id, device=prompt.embeddings.device)
        if prompt_ids is not None:
            opening = torch.cat([opening, prompt_ids.to(opening, non_blocking=True).expand(batch, -1)], dim=1)
        text = self.language_model.get_input_embeddings()(opening)
        prefix = torch.cat([prompt.embeddings, text], dim=1)  # (B, P + 1, E)
        # transformers repeats the prefix for beams and captions, and not what is known of it.
        cache = prompt.repeated(max(generation.get("num_beams", 1), generation.get("num_return_sequences", 1))).cache
        return self.language_model.generate(
            inputs_embeds=prefix,
            attention_mask=torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device),
            cache=cache if cache.get_seq_length() else None,
            max_new_tokens=max_new_tokens,
            eos_token_id=self.config.end_token_id,
            pad_token_id=self.config.pad_token_id,
            **{"do_sample": False, "top_k": 0 if generation.get("do_sample") else None, **generation},
        )

    def save_pretrained(self, save_directory: str | Path, *, full: bool = False, **kwargs: Any) -> None:  # type: ignore[override]
        """Write configuration, trained weights, and the manifest of the frozen towers.

        Args:
            save_directory: where to; made if missing.
            full: also write the towers, so that the checkpoint stands alone.
            kwargs: passed on to transformers.
        """
        state = kwargs.pop("state_dict", None) or self.state_dict()
        if not full:
            state = {name: value for name, value in state.items() if tower_of(name) is None}
        super().save_pretrained(save_directory, state_dict=state, **kwargs)
        if kwargs.get("is_main_process", True):
            finish_saving(self, Path(save_directory), full=full)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: EvlVideoConfig | None = None,
        tower_dtype: torch.dtype | None = None,
        **hub: Any,
    ) -> "EvlVideoForCaptioning":
        """Open a checkpoint, in eval mode.

        Args:
            pretrained_model_name_or_path: a directory, a hub name, or `mini`.
            config: a changed configuration, for example with a contextualizer that the checkpoint does not have yet;
                weights that are new by it start as they are initialised.
            tower_dtype: type of the frozen towers; float32 where nothing is given.
            hub: `revision` and `token` for a hub name. What `AutoModel` adds of its own has no effect here.

        Raises:
            UserError: no checkpoint there, one that does not say how pixels are normalised, weights that are missing
                or too many, or towers that are not those it was trained with.
            TypeError: an argument that is not among these.
        """
        unknown = hub.keys() - {"revision", "token", *_ADDED_BY_AUTO_MODEL}
        if unknown:
            raise TypeError(f"from_pretrained takes no {', '.join(sorted(unknown))}; the towers' type is tower_dtype.")
        directory = checkpoint_directory(
            str(pretrained_model_name_or_path), revision=hub.get("revision"), token=hub.get("token")
        )
        saved = EvlVideoConfig.from_pretrained(directory)
        config = config or saved
        if config.image_mean is None:
            config.image_mean, config.image_std = saved.image_mean, saved.image_std
        model = cls(config, empty_language_model="language_model" in read_manifest(directory))
        new, left_out = changed_weights(cls, saved, config) if config is not saved else (set(), set())
        load_frozen_towers(model, directory, dtype=tower_dtype or torch.float32)
        load_trained_weights(model, directory, may_be_missing=new, left_out=left_out)
        model.freeze_towers()
        return model.eval()

    @classmethod
    def from_towers(
        cls, config: EvlVideoConfig, *, bert: str | None = None, tower_dtype: torch.dtype | None = None
    ) -> "EvlVideoForCaptioning":
        """Start a new captioner from frozen towers.

        Args:
            config: the architecture; `text_config` is read from the language model where it is not given, and
                `image_mean` and `image_std` are what timm says of the vision tower.
            bert: BERT checkpoint for the connector, by hub name or folder; `None` initialises it at random.
            tower_dtype: type of the frozen towers; float32 where nothing is given.
        """
        if config.text_config is None:
            config.text_config = read_text_config(config.language_model)
        model = cls(config, empty_language_model=True)
        config.image_mean, config.image_std = list(model.vision_tower.image_mean), list(model.vision_tower.image_std)
        load_frozen_towers(model, None, dtype=tower_dtype or torch.float32)
        if bert is not None:
            load_bert_into(model.connector, bert)
        model.freeze_towers()
        return model.eval()


AutoConfig.register("evlvideo", EvlVideoConfig)
AutoModel.register(EvlVideoConfig, EvlVideoForCaptioning)
