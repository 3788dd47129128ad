"""Caption a file and keep what led to its captions: frames, probabilities, and what became of the patches.

Notation: `T` frames, `k` captions of the file, `L` tokens.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evlvideo.app.choices import Choices
from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.comparison.page.inspect_models import inside, shown_frames
from evlvideo.comparison.page.inspection import AttentionView, MergingView, PruningView
from evlvideo.config.generation import AnsweringConfig, GenerationConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.video.frames import DecodedFrames, VideoMetadata
from evlvideo.errors import UserError
from evlvideo.inference.answering import asked, check_asks
from evlvideo.inference.caption_files import checkpoint_config
from evlvideo.inference.captioning import decoding_arguments
from evlvideo.inference.scores import log_probabilities
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.processing import EvlVideoProcessor

_TOKENS_OF_TEXTS = ("bos_token_id", "end_token_id", "pad_token_id", "prefix_token_ids")


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token of a caption."""

    text: str
    log_probability: float
    """That the model gave it after the tokens before, in nats."""
    ends: bool
    """Whether it is the ending of the caption."""

    @property
    def probability(self) -> float:
        """The same, from 0 to 1."""
        return math.exp(self.log_probability)


@dataclass(frozen=True, slots=True)
class CaptionView:
    """A caption with its probability under the model, without temperature, nucleus, penalties and beams."""

    text: str
    tokens: tuple[TokenView, ...]
    """Those that it was made of, the ending included if it was reached."""
    special_tokens: tuple[str, ...]
    """Special tokens inside it, which its text is without."""

    @property
    def log_probability(self) -> float:
        """Of the whole caption, in nats."""
        return sum(token.log_probability for token in self.tokens)

    @property
    def probability(self) -> float:
        """Of the whole caption: the product over its tokens."""
        return math.exp(self.log_probability)

    @property
    def mean_probability(self) -> float:
        """Geometric mean over its tokens, by which captions of different lengths compare."""
        return math.exp(self.log_probability / len(self.tokens))


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What a checkpoint made of a file."""

    frames: np.ndarray
    """As the model sees them, uint8 (T, height, width, 3)."""
    seconds: np.ndarray
    """Time of each from the start of the file, float64 (T,)."""
    file: VideoMetadata
    captions: tuple[CaptionView, ...]
    """Captions or answers: those of beam search from the best, samples in the order in which they were drawn."""
    pruning: PruningView | None
    merging: MergingView | None
    attention: AttentionView | None
    """None for what the model does not do, or for an image."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one of several checkpoints made of a file."""

    name: str
    """The checkpoint's."""
    found: Explanation | None
    problem: str = ""
    """Why there is nothing. Empty if there is."""


class OpenCheckpoint:
    """A checkpoint that is ready to caption. Threads may share it; they take turns.

    Args:
        source: a run, a checkpoint directory, a hub name, or `mini`.
        overrides: `key=value` changes to the run's config.
        name: how to call it. Defaults to `source`.

    Raises:
        UserError: there is no checkpoint, or it cannot caption.
    """

    def __init__(self, source: str, overrides: Sequence[str] = (), *, name: str | None = None) -> None:
        directory = checkpoint_directory(source)
        self.name = name or source
        self.config = checkpoint_config(directory, list(overrides))
        self.model, self.processor = open_model(directory, self.config)
        self._turn = threading.Lock()

    @property
    def asks_not(self) -> str | None:
        """Why questions cannot be asked; None if they can."""
        try:
            check_asks(self.processor, self.config.answering)
        except UserError as error:
            return str(error)
        return None

    def explain(self, file: Path, choices: Choices) -> Explanation:
        """Caption a video or image, or answer a question about it.

        Raises:
            UserError: the file cannot be decoded, the checkpoint takes no questions, the prompt does not suit it, text
                and soft prompt are too long together, or the GPU is too small.
        """
        dataset = video_dataset(self.config.data, self.processor, [CaptionedClip(file.name, file, ())])
        decoded = dataset.decode(0)
        try:
            with self._turn, self._texts(choices) as processor:
                return _explain(
                    self.model,
                    processor,
                    decoded,
                    dataset.transform(decoded.frames),
                    choices,
                    choices.decoding(self.config),
                )
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"The GPU's memory is too small for {choices.captions} captions with {choices.num_beams} beams; take "
                "fewer."
            ) from error

    @contextmanager
    def _texts(self, choices: Choices) -> Iterator[EvlVideoProcessor]:
        """Give the processor of a prompt; the model's special tokens are set for it meanwhile."""
        if choices.asks or not choices.prompt.strip():
            yield self.processor
            return
        config = self.model.config
        before = {name: getattr(config, name) for name in _TOKENS_OF_TEXTS}
        try:
            yield self.processor.changed(config, prompt=choices.prompt.strip())
        finally:
            for name, value in before.items():
                setattr(config, name, value)


def open_all(sources: Sequence[str], overrides: Sequence[str] = ()) -> list[OpenCheckpoint]:
    """Open checkpoints, each once, and call them by their folders' names where these differ."""
    once = list(dict.fromkeys(sources))
    short = [Path(source).name or source for source in once]
    names = [name if short.count(name) == 1 else source for source, name in zip(once, short, strict=True)]
    return [OpenCheckpoint(source, overrides, name=name) for source, name in zip(once, names, strict=True)]


def explain_all(checkpoints: Sequence[OpenCheckpoint], file: Path, choices: Choices) -> list[Outcome]:
    """Let checkpoints caption a file one after the other; the failure of one does not keep the others from it."""
    return [_outcome(checkpoint, file, choices) for checkpoint in checkpoints]


def _outcome(checkpoint: OpenCheckpoint, file: Path, choices: Choices) -> Outcome:
    try:
        return Outcome(checkpoint.name, checkpoint.explain(file, choices))
    except UserError as error:
        # Where the server keeps files is nobody's business.
        return Outcome(checkpoint.name, None, str(error).replace(str(file), file.name))


@torch.no_grad()
def _explain(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    decoded: DecodedFrames,
    pixel_values: Tensor,
    choices: Choices,
    decoding: GenerationConfig,
) -> Explanation:
    frames = shown_frames(pixel_values)
    pruning, merging, attention = inside(model, pixel_values[None], frames)
    return Explanation(
        frames=np.stack(frames),
        seconds=decoded.timestamps_seconds,
        file=decoded.metadata,
        captions=_captions(model, processor, pixel_values, choices, decoding),
        pruning=pruning,
        merging=merging,
        # All frames of an image are the same one.
        attention=attention if decoded.metadata.frames > 1 else None,
    )


def _captions(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    pixel_values: Tensor,
    choices: Choices,
    decoding: GenerationConfig,
) -> tuple[CaptionView, ...]:
    opening = processor.opening_ids()
    given: dict[str, Any] = {"prompt_ids": processor.prompt_ids()}
    if isinstance(decoding, AnsweringConfig):
        given = processor.questions([asked(choices.question, decoding)], max_tokens=decoding.max_prompt_tokens)
        bos = [] if processor.bos_token_id is None else [processor.bos_token_id]
        opening = [*bos, *given["prompt_ids"][0].tolist()]
    prompt = model.read_prompt(model.encode(pixel_values[None].to(model.vision_tower.device)))
    torch.manual_seed(choices.seed)
    tokens = model.generate(
        prompt=prompt, **given, **decoding_arguments(decoding), num_return_sequences=choices.captions
    )  # (k, L)
    scores, counted = log_probabilities(model, processor, prompt, tokens, opening)
    return tuple(
        CaptionView(text, _tokens(processor, row[of_caption], score[of_caption]), tuple(special))
        for text, special, row, score, of_caption in zip(
            processor.captions(tokens), processor.special_tokens(tokens), tokens, scores, counted, strict=True
        )
    )


def _tokens(processor: EvlVideoProcessor, ids: Tensor, scores: Tensor) -> tuple[TokenView, ...]:
    """View the tokens of one caption, `(L)`."""
    return tuple(
        TokenView(_text_of(processor, token), score, token == processor.end_token_id)
        for token, score in zip(ids.tolist(), scores.tolist(), strict=True)
    )


def _text_of(processor: EvlVideoProcessor, token: int) -> str:
    """Return the text of a token, or its name if it is a part of a character."""
    text = str(processor.tokenizer.decode([token]))
    return str(processor.tokenizer.convert_ids_to_tokens(token)) if "\N{REPLACEMENT CHARACTER}" in text else text
