"""Caption a collection of files into a dataset of our own form, which a run can train on."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.precision import resolve_precision
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.readers.jsonl import FILE
from evlvideo.data.video.backends.image import IMAGE_SUFFIXES
from evlvideo.data.video.check import SUFFIXES, media_files
from evlvideo.errors import UserError
from evlvideo.inference.caption_files import check_captions, check_files, checkpoint_config, open_captioner
from evlvideo.inference.captioning import decoding_facts, stream_captions
from evlvideo.inference.captions import Caption
from evlvideo.inference.pipeline import Outcome, batches_of
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.checkpoint import checkpoint_directory, weights_digest
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.processes import is_main, join_processes, on_main_process, wait_for_all
from evlvideo.progress import Progress
from evlvideo.results.generated_captions import GeneratedCaptions, place_of, sole_writer

NOT_SHOWN = "its name cannot be shown; rename it"
NOTHING_SAID = "the model gave it empty captions"
_DIGITS = 16
"""Those of the weights' digest beside each caption."""


class Collection(NamedTuple):
    """What a file of generated captions holds."""

    clips: int
    """Files with captions."""
    captions: int
    earlier: int
    """Files of `clips` that an earlier call captioned."""
    bad: dict[str, str]
    """File → why it has no captions."""
    media_root: Path
    """What names of files are relative to."""


def caption_collection(
    given: Sequence[Path],
    checkpoint: str,
    out: Path,
    *,
    config: RunConfig | None = None,
    overrides: list[str] | None = None,
    captions_per_video: int = 1,
    prompt: str | None = None,
    split: str = "train",
    console: Console | None = None,
) -> Collection:
    """Caption files, and write each caption as soon as its batch is done.

    A call that was interrupted is continued by the next one like it; sampled captions come out as if it had not been.
    Several processes, such as those of `torchrun`, share the files.

    Args:
        given: files, and folders with all videos and images under them.
        checkpoint: a run, a checkpoint, or a hub name.
        out: the file to write; see :mod:`evlvideo.results.generated_captions`. Names of files are relative to its
            folder if all are under it, else to the closest folder that all are under.
        config: frames and decoding. Defaults to the run's config, or to the default config for a bare checkpoint.
        overrides: `key=value` changes to the run's config.
        captions_per_video: captions of each file, the likeliest first; needs at least as many beams, or sampling.
        prompt: text that every caption continues. Defaults to the checkpoint's.
        split: split of the clips.
        console: where to draw a progress bar.

    Returns:
        what the file holds now, in every process.

    Raises:
        UserError: a file is missing, a folder holds none, there is no checkpoint, or `out` holds something else, or
            captions that were made otherwise; nothing is written over it.
    """
    check_captions(captions_per_video)
    if out.is_dir():
        raise UserError(f"{out} is a directory; name the file to write, such as {out / FILE}.")
    files = find_files(given)
    join_processes()
    directory = checkpoint_directory(checkpoint)
    config = config or checkpoint_config(directory, overrides)
    model, processor = open_captioner(directory, config, captions_per_video, prompt)
    media_root = common_root({file.parent for file in files}, out)
    of_names = {os.path.relpath(file, media_root): file for file in files}
    named = {name: file for name, file in of_names.items() if name.isprintable()}
    unnamed = [name.encode("utf-8", "backslashreplace").decode() for name in of_names if name not in named]
    made_by = {
        **makers(checkpoint, directory, processor, config, overrides, captions_per_video),
        **place_of(media_root, out),
    }
    with ExitStack() as held:
        on_main_process(lambda: held.enter_context(sole_writer(out)))
        kept = GeneratedCaptions(out, made_by, writes=is_main())
        earlier = len(kept.captions.keys() & named.keys())
        wait_for_all()  # nobody writes before all have read
        kept.open()
        for name in unnamed:
            if name not in kept.bad:
                kept.append_bad(name, NOT_SHOWN)
        names = _missing(list(named), kept, config)
        clips = [CaptionedClip(name, named[name], ()) for name in names]
        with Progress("captioning", len(named), console=console, unit="files", done=len(named) - len(clips)) as bar:
            for outcome in bar.track(_outcomes(model, processor, clips, config, captions_per_video)):
                _keep(kept, outcome, split)
    bad = {name: reason for name, reason in kept.bad.items() if name in named or name in unnamed}
    return Collection(len(kept.captions), sum(kept.captions.values()), earlier, bad, media_root)


def find_files(given: Sequence[Path]) -> list[Path]:
    """List files, and the videos and images under folders, each once, in the order given and sorted within a folder.

    Raises:
        UserError: nothing was given, something does not exist, or a folder holds no videos and images.
    """
    check_files(given)
    found: dict[str, Path] = {}
    for path in given:
        files = list(media_files(path)) if path.is_dir() else [path]
        if not files:
            raise UserError(
                f"{path} holds no videos or images; files with these endings are looked for: "
                f"{', '.join(sorted(SUFFIXES))}."
            )
        for file in files:
            found.setdefault(os.path.abspath(file), file)  # noqa: PTH100  (resolving would follow links)
    return [Path(path) for path in found]


def common_root(folders: set[Path], out: Path) -> Path:
    """Return the folder of `out` if all folders are in it, else the closest that all are in."""
    own = Path(os.path.abspath(out.parent))  # noqa: PTH100
    if all(folder.is_relative_to(own) for folder in folders):
        return own
    return Path(os.path.commonpath(folders))


def makers(
    checkpoint: str,
    directory: Path,
    processor: EvlVideoProcessor,
    config: RunConfig,
    overrides: Sequence[str] | None,
    captions_per_video: int,
) -> dict[str, Any]:
    """Return what all captions of a collection depend on, as plain values by name.

    Args:
        checkpoint: as it was named.
        directory: where it is.
        processor: its processor, with the prompt.
        config: frames and decoding.
        overrides: changes to the run's config.
        captions_per_video: captions of each video.
    """
    return {
        "model": Path(checkpoint).resolve().name if Path(checkpoint).is_dir() else checkpoint,
        "weights": weights_digest(directory)[:_DIGITS],
        **_changes(overrides),
        "text": processor.shown,
        "decoding": _decoding(config, captions_per_video),
    }


def _changes(overrides: Sequence[str] | None) -> dict[str, list[str]]:
    """Return changes to the model, which has the same weights; those of texts and decoding are told apart."""
    changes = [change for change in overrides or [] if change.startswith("model.")]
    return {"changes": changes} if changes else {}


def _decoding(config: RunConfig, captions_per_video: int) -> dict[str, Any]:
    facts = {**decoding_facts(config), "captions": captions_per_video, "seed": config.seed}
    return {**facts, "precision": resolve_precision(config.training.precision)}


def _missing(names: Sequence[str], kept: GeneratedCaptions, config: RunConfig) -> list[str]:
    """List the files to caption; where captions are sampled, all of their batches, which are drawn as a whole."""
    known = kept.captions.keys() | kept.bad.keys()
    size = config.generation.batch_size if config.generation.do_sample else 1
    batches = [[names[place] for place in batch] for batch in batches_of(len(names), size)]
    return [name for batch in batches if not known.issuperset(batch) for name in batch]


def _outcomes(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    clips: Sequence[CaptionedClip],
    config: RunConfig,
    captions_per_video: int,
) -> Iterator[Outcome[list[Caption]]]:
    if not clips:
        return iter(())
    return stream_captions(
        model,
        processor,
        video_dataset(config.data, processor, clips),
        config.generation,
        num_workers=config.data.num_workers,
        captions_per_clip=captions_per_video,
        scored=True,
        batch_seed=config.seed,
    )


def _keep(kept: GeneratedCaptions, outcome: Outcome[list[Caption]], split: str) -> None:
    """Write what came out for a file, unless it is known."""
    name = outcome.clip_id
    if name in kept.captions or name in kept.bad:
        return
    said = [caption for caption in outcome.result or [] if caption.text]
    if outcome.bad is not None or not said:
        kept.append_bad(name, outcome.bad or NOTHING_SAID)
        return
    scores = [caption.score for caption in said if caption.score is not None]
    image = Path(name).suffix.lower() in IMAGE_SUFFIXES
    kept.append(name, image=image, captions=[caption.text for caption in said], scores=scores, split=split)
