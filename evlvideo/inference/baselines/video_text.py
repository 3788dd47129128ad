"""Caption clips with any video-text model of transformers and its own processor."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig, PreTrainedConfig

from evlvideo.config.generation import GenerationConfig as Decoding
from evlvideo.errors import UserError
from evlvideo.inference.baselines.video import Video
from evlvideo.inference.captioning import decoding_arguments

_FIXED_FRAMES = {"instructblipvideo": 4}
"""Number of frames hard-coded in a processor of transformers, by model type."""
_KEPT = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "cache_implementation")
"""Values kept of a model's own generation config; the run sets how to decode."""


class VideoTextProcessor:
    """A model's processor with a prompt.

    A prompt with the processor's video placeholder, such as `USER: <video> Describe it. ASSISTANT:`, is used as it is.
    Otherwise the processor's chat template is applied or, if it has none, the placeholder is put before the prompt.

    Args:
        name: hub name or folder of the model.
        prompt: the question.
        trust_remote_code: whether the model's own code may run.

    Raises:
        UserError: there is no such model, it takes no videos, or its chat template leaves out the video.
    """

    def __init__(self, name: str, prompt: str, *, trust_remote_code: bool = False) -> None:
        path = Path(name)
        # `models/typo` could be a hub name; if there is a folder `models`, it is not.
        if not path.is_dir() and (path.is_absolute() or path.exists() or name.count("/") > 1 or path.parent.is_dir()):
            raise UserError(f"There is no folder {name}; name one that holds a model, or a hub name (owner/name).")
        self.name = name
        self.prompt = prompt
        self.config: PreTrainedConfig = _load(AutoConfig, name, trust_remote_code)
        self.processor: Any = _load(AutoProcessor, name, trust_remote_code)
        if getattr(self.processor, "video_processor", None) is None:
            raise UserError(
                f"{name} takes no videos: {type(self.processor).__name__} has no video processor. Name a video-text "
                "model, such as a Video-LLaVA, LLaVA-NeXT-Video, InstructBlipVideo or VideoLLaMA3."
            )
        tokenizer = self.processor.tokenizer
        # Captions continue the prompt, so padding must come before it.
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        # InstructBlipVideo's takes videos as images, and adds the placeholder itself.
        self._takes_videos = "videos" in inspect.signature(self.processor.__call__).parameters
        self.text = self._text()

    def _text(self) -> str:
        token = str(getattr(self.processor, "video_token", None) or "")
        if not self._takes_videos or (token and token in self.prompt):
            return self.prompt
        if getattr(self.processor, "chat_template", None) is None:
            return f"{token}\n{self.prompt}"
        content = [{"type": "video"}, {"type": "text", "text": self.prompt}]
        own = f"give a prompt with {token}, which is used as it is" if token else "name another model"
        try:
            text: str = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise UserError(
                f"The chat template of {self.name} takes no question about a video: {error}; {own}."
            ) from error
        if token not in text:
            raise UserError(f"The chat template of {self.name} leaves the video out; {own}.")
        return text

    def check_frames(self, number: int, *, any_frames: bool = False) -> None:
        """Check that the processor takes this number of frames.

        Args:
            number: number of frames of each clip.
            any_frames: allow another number than the processor states, unless its code requires that one.

        Raises:
            UserError: it needs another number.
        """
        fixed = _FIXED_FRAMES.get(self.config.model_type)
        wanted = fixed or getattr(self.processor.video_processor, "num_frames", None)
        if wanted is None or wanted == number or (any_frames and fixed is None):
            return
        instead = "it takes no other" if fixed else f"or give --any-frames to show it {number} all the same"
        raise UserError(
            f"{self.name} wants {wanted} frames of each clip, and data.num_frames is {number}. Set "
            f"data.num_frames={wanted}; {instead}."
        )

    def inputs(self, clips: Sequence[Video]) -> Any:
        """Make model inputs of B clips, each with the prompt.

        Raises:
            UserError: the processor refuses them.
        """
        text = [self.text] * len(clips)
        frames = [clip.frames for clip in clips]
        arguments: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        bos = self.processor.tokenizer.bos_token
        if bos and self.text.startswith(bos):
            arguments["add_special_tokens"] = False  # the chat template has added it
        try:
            if not self._takes_videos:
                return self.processor(images=frames, text=text, **arguments)
            metadata = [clip.metadata for clip in clips]
            return self.processor(
                videos=frames, text=text, video_metadata=metadata, do_sample_frames=False, **arguments
            )
        except (ValueError, TypeError) as error:
            raise UserError(f"The processor of {self.name} refuses {_shown(clips[0])}: {error}") from error

    def captions(self, tokens: torch.Tensor, input_ids: torch.Tensor) -> list[str]:
        """Decode generated tokens to captions on one line.

        Args:
            tokens: output of `generate`, `(B, L)`: new tokens, after those of the prompt for some model types.
            input_ids: tokens of the prompt, `(B, L')`.
        """
        prompt_tokens = input_ids.shape[1]
        if torch.equal(tokens[:, :prompt_tokens], input_ids):
            tokens = tokens[:, prompt_tokens:]
        texts = self.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [_without_echo(text, self.prompt) for text in texts]


class VideoTextModel:
    """A model with its processor.

    Args:
        processor: its processor.
        dtype: dtype of its weights.
        device: device that it runs on.
        trust_remote_code: whether the model's own code may run.

    Raises:
        UserError: weights cannot be read or are missing, or transformers cannot generate with this model type.
    """

    def __init__(
        self,
        processor: VideoTextProcessor,
        *,
        dtype: torch.dtype,
        device: torch.device,
        trust_remote_code: bool = False,
    ) -> None:
        self.processor = processor
        self.dtype = dtype
        model, found = _load(
            AutoModelForImageTextToText, processor.name, trust_remote_code, dtype=dtype, output_loading_info=True
        )
        if missing := sorted(found["missing_keys"]):
            # transformers only warns, and uses random weights.
            raise UserError(
                f"The model {processor.name!r} lacks {len(missing)} of its weights, such as {', '.join(missing[:3])}."
            )
        self.model: Any = model.to(device).eval()
        for module in self.model.modules():
            settings = getattr(module, "generation_config", None)
            if isinstance(settings, GenerationConfig):
                # InstructBlipVideo's language model generates, with settings of its own.
                module.generation_config = GenerationConfig(**{key: getattr(settings, key, None) for key in _KEPT})

    @torch.no_grad()
    def caption(self, clips: Sequence[Video], generation: Decoding) -> list[str]:
        """Caption clips in one batch.

        Raises:
            UserError: the processor or the model refuses them, or memory runs out.
        """
        inputs = self.processor.inputs(clips).to(self.model.device, self.dtype)
        try:
            decoding = decoding_arguments(generation, self.processor.processor.tokenizer)
            tokens = self.model.generate(**self._compressed(inputs), **decoding)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"A batch of {len(clips)} clips does not fit into memory; lower generation.batch_size, and continue "
                "with --resume."
            ) from error
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{self.processor.name} refuses {_shown(clips[0])}: {error}") from error
        return self.processor.captions(tokens, inputs["input_ids"])

    def _compressed(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Replace VideoLLaMA3's video inputs with the features that its compression mask keeps.

        For beams, transformers repeats the mask value by value and the features clip by clip, so that beams would see
        the wrong features.
        """
        names = ("pixel_values_videos", "video_grid_thw", "video_merge_sizes", "video_compression_mask")
        if not all(name in inputs for name in names):
            return dict(inputs)
        pixels, grid, merge_sizes, mask = (inputs[name] for name in names)
        videos = self.model.get_video_features(pixels, grid, video_merge_sizes=merge_sizes, return_dict=True)
        kept = mask.split([len(features) for features in videos.pooler_output])
        videos.pooler_output = tuple(
            features[of_video] for features, of_video in zip(videos.pooler_output, kept, strict=True)
        )
        others = {name: value for name, value in inputs.items() if name not in names}
        return {**others, "mm_encoder_outputs": {"video": videos}}


def _load(loader: Any, name: str, trust_remote_code: bool, **arguments: Any) -> Any:
    try:
        return loader.from_pretrained(name, trust_remote_code=trust_remote_code, **arguments)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip()
        if "trust_remote_code" in reason:
            reason = "it brings code of its own; read it, and give --trust-remote-code to run it."
        raise UserError(f"The model {name!r} cannot be opened: {reason}") from error


def _shown(clip: Video) -> str:
    count, height, width, _ = clip.frames.shape
    return f"{count} frames of {width}×{height}"


def _without_echo(text: str, prompt: str) -> str:
    """Put a caption on one line, without the prompt that some models repeat."""
    return " ".join(text.split()).removeprefix(" ".join(prompt.split())).strip()
