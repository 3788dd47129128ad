"""How well captions match their images or clips, by a model of vision-language pre-training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object
from rich.console import Console
from torch import Tensor
from transformers import AutoConfig

from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.assembly.vlp import encoder_of, start_host
from evlvideo.config.vlp import HOSTS, VlpConfig, VlpModelConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.errors import UserError
from evlvideo.inference.captioning import share_of
from evlvideo.inference.embed_run import ImageSize, open_run
from evlvideo.inference.pipeline import Outcome, run_batches
from evlvideo.models.vlp.hosts.encoder import Encoder
from evlvideo.processes import join_processes
from evlvideo.progress import Progress
from evlvideo.results.run_directory import CONFIG_NAME


class Matched(NamedTuple):
    """Scores of captions by clip."""

    scores: dict[str, list[float]]
    """Clip → a score of each caption; without clips that could not be decoded."""
    bad: dict[str, str]
    """Clip → why it could not be decoded."""


def matching(
    model: str, clips: Sequence[CaptionedClip], *, overrides: list[str] | None = None, console: Console | None = None
) -> Matched:
    """Score the captions of clips against what they show. Processes share the clips; all get all scores.

    Args:
        model: directory of a finished run of pre-training, or a hub name or folder of transformers' CLIP or BLIP.
        clips: clips with captions, of different ids.
        overrides: `key=value` changes to the run's config.
        console: where to draw a progress bar.

    Returns:
        scores: of BLIP and ALBEF, the probability that a pair matches, from 0 to 1; of CLIP, the cosine of the two.

    Raises:
        UserError: there is no such model.
    """
    state = join_processes()
    config, host, tokenizer = _open(model, overrides)
    encoder = encoder_of(config, host.to(state.device), tokenizer, DTYPES[resolve_precision(config.training.precision)])
    dataset = video_dataset(config.data, ImageSize(config.model.image_size), clips)
    captions = {clip.clip_id: clip.captions for clip in clips}
    mine = share_of(dataset, config.evaluation.batch_size)
    found: list[Outcome[list[float]]] = []

    def score(batch: tuple[list[str], Tensor]) -> list[list[float]]:
        return _scores(encoder, batch[1], [captions[clip_id] for clip_id in batch[0]])

    with Progress("matching", sum(map(len, mine)), console=console) as progress:
        outcomes = run_batches(dataset, mine, score, collate=_named, num_workers=config.data.num_workers)
        for of_batch in progress.track(outcomes, count=len):
            found += of_batch
    everything = gather_object(found)
    return Matched(
        {clip_id: scores for clip_id, scores, _ in everything if scores is not None},
        {clip_id: bad for clip_id, _, bad in everything if bad is not None},
    )


def _open(model: str, overrides: list[str] | None) -> tuple[VlpConfig, Any, Any]:
    """Open a run, or a model of transformers."""
    if (Path(model) / CONFIG_NAME).is_file():
        return open_run(Path(model), overrides)
    try:
        found: Any = AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{model} is neither a run of pre-training, which has a {CONFIG_NAME}, nor a CLIP or BLIP of transformers; "
            "name one of them."
        ) from error
    if found.model_type not in HOSTS:
        raise UserError(f"{model} is of type {found.model_type!r}; captions are matched by {', '.join(HOSTS)}.")
    config = VlpConfig(
        model=VlpModelConfig(host=found.model_type, checkpoint=model, image_size=found.vision_config.image_size)
    )
    host, tokenizer = start_host(config.model, ())
    return config, host.eval(), tokenizer


def _named(items: list[dict[str, Any]]) -> tuple[list[str], Tensor]:
    return [item["clip_id"] for item in items], torch.stack([item["pixel_values"] for item in items])


def _scores(encoder: Encoder, pixels: Tensor, captions: Sequence[Sequence[str]]) -> list[list[float]]:
    """Score the captions of each clip of a batch."""
    features, tokens = encoder.images(pixels)
    if encoder.matches:
        pairs = zip(tokens, captions, strict=True)
        return [encoder.match_probabilities(of_clip[None], texts).tolist() for of_clip, texts in pairs]
    return [
        (encoder.text_features(texts) @ feature).tolist() for feature, texts in zip(features, captions, strict=True)
    ]
