"""Writes the retrieval features of a split, by a model that pre-training wrote."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evlvideo.assembly.clips import read_clips
from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.precision import DTYPES, resolve_precision
from evlvideo.assembly.vlp import encoder_of, start_host
from evlvideo.config.loading import load_config_of
from evlvideo.config.vlp import VlpConfig
from evlvideo.data.annotation.splits import RETRIEVAL
from evlvideo.inference.embedding import embed
from evlvideo.processes import join_processes, on_main_process
from evlvideo.results.run_directory import check_writable, config_of_finished

EMBEDDINGS_NAME = "embeddings"
"""Directory of the features in a run's directory, one file per dataset and split."""


@dataclass(frozen=True, slots=True)
class ImageSize:
    """What datasets ask of a model."""

    image_size: int
    """Side of an image in pixels."""


def embed_run(run: Path, split: str, *, overrides: list[str] | None = None, out: Path | None = None) -> Path:
    """Encode a split's images (or clips) and texts, each without the other, and write them.

    Args:
        run: directory of a finished run.
        split: the split.
        overrides: changes to its config, `key=value`, such as another dataset.
        out: file to write, a `.safetensors`. Defaults to one in the run's directory.

    Returns:
        the file.

    Raises:
        UserError: there is no such run, or its clips cannot be read.
    """
    state = join_processes()
    config, host, tokenizer = open_run(run, overrides)
    file = out or run / EMBEDDINGS_NAME / f"{config.data.dataset}-{split}.safetensors"
    check_writable(file.parent, "name another file")
    clips = read_clips(config.data, split, purpose=RETRIEVAL)
    precision = resolve_precision(config.training.precision)
    encoder = encoder_of(config, host.to(state.device), tokenizer, DTYPES[precision])
    features = embed(
        encoder,
        video_dataset(config.data, ImageSize(config.model.image_size), clips),
        batch_size=config.evaluation.batch_size,
        num_workers=config.data.num_workers,
        rerank=config.evaluation.rerank,
    )
    on_main_process(lambda: features.write(file))
    return file


def open_run(run: Path, overrides: list[str] | None = None) -> tuple[VlpConfig, Any, Any]:
    """Open a finished run.

    Args:
        run: its directory.
        overrides: changes to its config, `key=value`.

    Returns:
        its config, its model in eval mode, and its tokenizer.

    Raises:
        UserError: there is no such run, or it has not finished.
    """
    config = load_config_of(VlpConfig, config_of_finished(run, "pre-training"), overrides)
    trained = replace(config.model, checkpoint=str(run), tokenizer=None, vision_init=None, text_init=None)
    host, tokenizer = start_host(trained, ())
    return config, host.eval(), tokenizer
