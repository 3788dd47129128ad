"""The captioner: vision tower, connector, language model; the towers are frozen unless a run trains them.

Source: EVLGen (Jian et al., ACL 2024). Notation: `B` clips, `T` frames, `N` tokens of a frame, `D` channels of the
tower, `H` channels and `M` output tokens of the connector (of a frame or of a clip), `P` soft tokens of a clip (`M`, or
`T·M` if concatenated), `E` width of the language model, `L` text tokens, `k` texts of a clip, `V` vocabulary.
"""

from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers import initialization as init

from evlvideo.errors import UserError
from evlvideo.models.checkpoint import (
    changed_weights,
    check_pixels_are_known,
    checkpoint_directory,
    load_trained_weights,
    make_weights_readable,
    read_configuration,
)
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors.base import BlockReader
from evlvideo.models.contrast.term import CaptionOutput, ContrastiveTerm
from evlvideo.models.gradient_checkpointing import Checkpoint, checkpoint_layers
from evlvideo.models.language import (
    SoftPrompt,
    before_caption,
    caption_loss,
    check_positions,
    opening_of,
    prepare_language_model,
    read_texts,
)
from evlvideo.models.precision import Float32LayerNorm, in_own_precision
from evlvideo.models.text.draft import draft_guide
from evlvideo.models.towers import (
    check_towers,
    give_towers,
    read_held_weights,
    read_manifest,
    read_text_config,
    take_pixels,
    write_manifest,
)
from evlvideo.models.trainable import Trained, holds_some_of, is_of_training, is_trained, joined, tower_of
from evlvideo.models.vision import VisionTower, check_takes_features

_ADDED_BY_AUTO_MODEL = ("trust_remote_code", "adapter_kwargs")
_SHARD_SIZE = "5GB"
_DEFAULT_PARTS = Trained()


class EvlVideoForCaptioning(PreTrainedModel):
    """Captioner of images and video; its variants are values of its configuration.

    `from_pretrained` opens a checkpoint and the frozen towers it names; `from_towers` starts a new one. It computes in
    the dtype of its frozen towers, whoever calls it; see :mod:`evlvideo.models.precision`.
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
        """Build a captioner with random weights.

        With `empty_language_model`, the language model takes no memory: it is replaced later, or never used.
        """
        super().__init__(config)
        self.vision_tower = VisionTower.from_config(config)
        self.ln_vision = Float32LayerNorm(self.vision_tower.dim)
        shape, connector = self.vision_tower.shape, config.connector_class
        reader = connector.make_block_reader(shape, config.options)
        if reader is not None:
            self.vision_tower.insert_relations(reader, reader.num_blocks)
        self.connector = connector(config.bert, shape, config.options, **config.connector_settings)
        with torch.device("meta") if empty_language_model else nullcontext():
            self.language_model = AutoModelForCausalLM.from_config(config.text)
        width = self.language_model.get_input_embeddings().embedding_dim
        self.language_projection = nn.Linear(self.connector.output_dim, width)
        self.contrastive: ContrastiveTerm | None = None  # given by a training that has the term
        self.tower_fingerprints: dict[str, str | None] = {}
        self.trained = _DEFAULT_PARTS
        self.trained_in_towers: tuple[str, ...] = ()
        """Prefixes of the towers' own weights that are trained."""
        self.held_weights: tuple[str, ...] = ()
        """Prefixes of those that are, or were, so that checkpoints hold them."""
        self.post_init()
        # After the initialisation above, which would overwrite LoRA's zeros.
        prepare_language_model(self.language_model, config)
        self.freeze_towers()

    def freeze_towers(self) -> None:
        """Let exactly the weights that :func:`~evlvideo.models.trainable.is_trained` calls trained take gradients."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(is_trained(name, self.config.frozen_weights, self.trained, self.trained_in_towers))
        self.train(self.training)

    def choose_trained(self, trained: Trained) -> None:
        """Choose what is trained. Towers that are loaded afterwards keep it in float32."""
        self.trained, self.trained_in_towers = trained, trained.in_towers(len(self.vision_tower.vit.blocks))
        self.held_weights = joined((*self.held_weights, *self.trained_in_towers))
        self.freeze_towers()

    @property
    def needs_frames(self) -> bool:
        """Whether something inside the vision tower is trained, so that stored features cannot replace frames."""
        return self.config.needs_frames or holds_some_of("vision_tower", self.trained_in_towers)

    def train(self, mode: bool = True) -> "EvlVideoForCaptioning":
        """Set the mode of what is trained. What is frozen of the towers stays in eval mode, except LoRA's dropout."""
        super().train(mode)
        if hasattr(self, "language_model"):
            self.language_model.train(False)
            of_towers = self.trained_in_towers if self.trained.dropout else ()
            for name, module in self.named_modules():
                if ".lora_dropout." in name or f"{name}.".startswith(of_towers):
                    module.training = mode
        return self

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Checkpoint = checkpoint, every_n_layers: int = 1
    ) -> None:
        """Called by transformers' `gradient_checkpointing_enable`; covers frozen towers too.

        A tower in which nothing is trained runs without gradient and keeps no activations anyway.
        """
        func = gradient_checkpointing_func if enable else None
        self.vision_tower.checkpoint_blocks(func, every=every_n_layers)
        for part in (self.connector, self.language_model):
            checkpoint_layers(part, func, every=every_n_layers)

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what is trained as BERT does; towers bring their own weights."""
        std = self.config.bert.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, BlockReader):
            module.init_weights()

    def autocast(self) -> AbstractContextManager[Any]:
        """The autocast that the model computes in. Its own methods enter it; enter it to run a part alone."""
        return self.vision_tower.autocast()

    @in_own_precision
    def features_to_tokens(self, features: Tensor) -> Tensor:
        """Turn the tower's output, `(B, T, N, D)`, or `(B, T, N + 1, D)` with a clip token, into connector tokens.

        Each becomes a soft token: `(B, P, H)`.
        """
        features = features.to(self.vision_tower.dtype)
        if self.config.fusion == "mean":
            features = features.mean(dim=1, keepdim=True)  # (B, 1, N, D)
        tokens = self.ln_vision(features).to(self.language_projection.weight.dtype)
        hidden = self.connector(tokens)  # (B, T or 1, M, H)
        if self.config.fusion == "mean_tokens":
            hidden = hidden.mean(dim=1, keepdim=True)  # (B, 1, M, H)
        return hidden.flatten(1, 2)  # (B, P, H)

    @in_own_precision
    def features_to_prompt(self, features: Tensor) -> Tensor:
        """Turn the tower's output, as :meth:`features_to_tokens` takes it, into the soft prompt, `(B, P, E)`."""
        return self.language_projection(self.features_to_tokens(features))

    @in_own_precision
    def encode(self, pixel_values: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        """Frames `(B, T, 3, height, width)`, or the tower's output for them, `(B, T, N, D)` → soft prompt `(B, P, E)`.

        Frames are uint8, or float and normalised.

        Raises:
            UserError: features are given to a model with trained parts inside the tower, or to one that drafts.
        """
        return self.features_to_prompt(self._features(pixel_values, features))

    def _features(self, pixel_values: Tensor | None, features: Tensor | None) -> Tensor:
        if features is None:
            assert pixel_values is not None, "give pixel_values, features or soft_prompt"
            return self.vision_tower(pixel_values, draft_guide(self, pixel_values))
        check_takes_features(self.config, trains_tower=self.needs_frames, training=self.training)
        return features

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
        opening_tokens: int | None = None,
        sentences: Tensor | None = None,
    ) -> CaptionOutput:
        """Run a teacher-forced pass.

        Several texts of a clip share one pass over its soft prompt, if only the texts' logits are asked for.

        Args:
            pixel_values: frames as :meth:`encode` takes them; or give `features`, `soft_prompt` or `prompt`.
            input_ids: text tokens, `(B, L)`, or `(k·B, L)` for `k` texts of each clip in turn, which is encoded once;
                padded on the right; without the soft prompt.
            attention_mask: ones on text, zeros on padding, as `input_ids`.
            labels: targets, as `input_ids`, −100 for none; the first token is a target like any other.
            features: the tower's output, `(B, T, N, D)`.
            soft_prompt: output of :meth:`encode`, `(B, P, E)`.
            prompt: output of :meth:`read_prompt`; then `logits_to_keep` is from 1 to `L + 1`.
            num_items_in_batch: targets that the loss is averaged over. Defaults to those of this batch.
            logits_to_keep: number of last positions whose logits are returned; 0 returns all.
            opening_tokens: tokens of each text before its caption. Defaults to those before its first target.
            sentences: encoded captions for the contrastive term, `(B, D)`; only with frames or features.

        Raises:
            UserError: soft prompt and text are longer than the language model's positions.

        Returns:
            loss (if there are labels), logits `(k·B, P + L, V)` or the last of them, and the contrastive term.
        """
        assert input_ids is not None and attention_mask is not None
        contrast = None
        if sentences is not None and self.contrastive is not None:
            tokens = self.features_to_tokens(self._features(pixel_values, features))
            soft_prompt, contrast = self.language_projection(tokens), self.contrastive(tokens, sentences)
        if prompt is None:
            if soft_prompt is None:
                soft_prompt = self.encode(pixel_values, features=features)
            shares = len(input_ids) > len(soft_prompt) and 0 < logits_to_keep <= input_ids.shape[1] + 1
            # One text a clip is read in one pass with its prompt.
            prompt = SoftPrompt.after(self.language_model, self.config, soft_prompt, read=shares)
        opening = opening_of(labels, opening_tokens)
        logits = read_texts(self.language_model, prompt, input_ids, attention_mask, logits_to_keep, opening)
        loss = None if labels is None else caption_loss(logits, labels, num_items_in_batch)
        return CaptionOutput(loss=loss, logits=logits, contrastive_loss=contrast)

    @in_own_precision
    def read_prompt(self, soft_prompt: Tensor) -> SoftPrompt:
        """Let the language model read a soft prompt, `(B, P, E)`, once for all texts that it does not see."""
        return SoftPrompt.after(self.language_model, self.config, soft_prompt, read=True)

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
        prompt_mask: Tensor | None = None,
        max_new_tokens: int = 30,
        **generation: Any,
    ) -> Tensor:
        """Caption clips. The language model reads each soft prompt once, however many beams or captions follow.

        Args:
            pixel_values: frames as :meth:`encode` takes them; or give `features`, `soft_prompt` or `prompt`.
            features: the tower's output, `(B, T, N, D)`.
            soft_prompt: output of :meth:`encode`, `(B, P, E)`.
            prompt: output of :meth:`read_prompt`.
            prompt_ids: tokens that every caption continues, `(L)` or `(B, L)`, without the BOS token.
            prompt_mask: ones on them, zeros on padding, which is on the left, `(B, L)`. Defaults to no padding.
            max_new_tokens: upper bound of the tokens to generate.
            generation: further arguments of transformers' `generate`, such as `num_beams` or `min_new_tokens`. The
                language model's own settings have no effect.

        Raises:
            UserError: a length counts the prompt too, or soft prompt and caption are longer than the language model's
                positions.

        Returns:
            new tokens only, `(B · num_return_sequences, ≤ max_new_tokens)`, padded on the right.
        """
        if generation.keys() & {"max_length", "min_length"}:
            raise UserError("Lengths count new tokens only: give max_new_tokens and min_new_tokens.")
        if prompt is None:
            if soft_prompt is None:
                soft_prompt = self.encode(pixel_values, features=features)
            prompt = self.read_prompt(soft_prompt)
        bos = self.config.bos_token_id
        context, mask = before_caption(self.language_model, prompt, bos, prompt_ids, prompt_mask)
        # The last new token is not read again.
        check_positions(self.language_model, context.shape[1] + max_new_tokens - 1)
        prompt = prompt.read_with(self.language_model, context, mask)
        # transformers repeats the context for beams and captions, but not the cache.
        cache = prompt.repeated(max(generation.get("num_beams", 1), generation.get("num_return_sequences", 1))).cache
        return self.language_model.generate(
            inputs_embeds=context,
            attention_mask=mask,
            cache=cache if cache.get_seq_length() else None,
            max_new_tokens=max_new_tokens,
            eos_token_id=self.config.end_token_id,
            pad_token_id=self.config.pad_token_id,
            **{"do_sample": False, "top_k": 0 if generation.get("do_sample") else None, **generation},
        )

    def save_pretrained(self, save_directory: str | Path, *, full: bool = False, **kwargs: Any) -> None:  # type: ignore[override]
        """Write configuration, trained weights (in several files if they are large), and the manifest of the towers.

        Args:
            save_directory: made if missing.
            full: also write the towers, so that the checkpoint stands alone.
            kwargs: passed on to transformers.
        """
        state = kwargs.pop("state_dict", None) or self.state_dict()
        state = {name: value for name, value in state.items() if not is_of_training(name)}
        if not full:
            state = {name: value for name, value in state.items() if tower_of(name, self.held_weights) is None}
        # transformers would give weights of some language models the names of their published files.
        options = {"save_original_format": False, "max_shard_size": _SHARD_SIZE, **kwargs}
        super().save_pretrained(save_directory, state_dict=state, **options)
        if kwargs.get("is_main_process", True):
            directory = Path(save_directory)
            make_weights_readable(directory)
            write_manifest(directory, self, full=full)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: EvlVideoConfig | None = None,
        trained: Trained = _DEFAULT_PARTS,
        tower_dtype: torch.dtype | None = None,
        language_model: bool = True,
        may_be_missing: AbstractSet[str] = frozenset(),
        **hub: Any,
    ) -> "EvlVideoForCaptioning":
        """Open a checkpoint, in eval mode.

        Args:
            pretrained_model_name_or_path: a directory, a hub name, or `mini`.
            config: a changed configuration, for example with a contextualizer that the checkpoint does not have yet;
                its new weights are initialised.
            trained: what is to be trained.
            tower_dtype: dtype of what is frozen of the towers. Defaults to float32.
            language_model: if False, the language model is left without weights and memory; the model encodes, but
                neither captions nor trains.
            may_be_missing: weights that the checkpoint need not hold; they are initialised.
            hub: `revision` and `token` for a hub name. What `AutoModel` adds of its own has no effect here.

        Raises:
            UserError: there is no checkpoint, it does not say how pixels are normalised, weights are missing or too
                many, or the towers are not those it was trained with.
            TypeError: an argument that is not among these.
        """
        unknown = hub.keys() - {"revision", "token", *_ADDED_BY_AUTO_MODEL}
        if unknown:
            raise TypeError(f"from_pretrained takes no {', '.join(sorted(unknown))}; the towers' type is tower_dtype.")
        directory = checkpoint_directory(
            str(pretrained_model_name_or_path), revision=hub.get("revision"), token=hub.get("token")
        )
        saved = read_configuration(directory)
        config = config or saved
        if config.image_mean is None:
            config.image_mean, config.image_std = saved.image_mean, saved.image_std
        manifest = read_manifest(directory)
        model = cls(config, empty_language_model=not language_model or "language_model" in manifest)
        model.held_weights = read_held_weights(directory)
        model.choose_trained(trained)
        new, left_out = changed_weights(cls, saved, config) if config is not saved else (set(), set())
        check_pixels_are_known(config, directory)
        give_towers(model, manifest, tower_dtype, language_model=language_model)
        load_trained_weights(
            model, directory, may_be_missing=new | may_be_missing, left_out=left_out, language_model=language_model
        )
        model.freeze_towers()
        return model.eval()

    @classmethod
    def from_towers(
        cls,
        config: EvlVideoConfig,
        *,
        bert: str | None = None,
        trained: Trained = _DEFAULT_PARTS,
        tower_dtype: torch.dtype | None = None,
        language_model: bool = True,
    ) -> "EvlVideoForCaptioning":
        """Start a new captioner from frozen towers.

        Args:
            config: the architecture. If its `text_config` is None, it is read from the language model; `image_mean` and
                `image_std` default to those of the source of the vision tower's weights, or else to timm's.
            bert: BERT checkpoint for the connector, by hub name or folder. If None, the connector is random.
            trained: what is to be trained.
            tower_dtype: dtype of what is frozen of the towers. Defaults to float32.
            language_model: see :meth:`from_pretrained`.
        """
        check_towers(config)
        take_pixels(config)
        if config.text_config is None:
            config.text_config = read_text_config(config.language_model)
        model = cls(config, empty_language_model=True)
        model.choose_trained(trained)
        config.image_mean, config.image_std = list(model.vision_tower.image_mean), list(model.vision_tower.image_std)
        give_towers(model, None, tower_dtype, language_model=language_model)
        if bert is not None:
            model.connector.load_bert(bert)
        model.freeze_towers()
        return model.eval()


AutoConfig.register("evlvideo", EvlVideoConfig)
AutoModel.register(EvlVideoConfig, EvlVideoForCaptioning)
