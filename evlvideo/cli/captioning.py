"""The command that captions video files."""

from pathlib import Path
from typing import Annotated

import typer

from evlvideo.cli.options import INCOMPLETE, Changes
from evlvideo.errors import UserError
from evlvideo.processes import is_main
from evlvideo.terminal import prepare


def caption(
    checkpoint: Annotated[str, typer.Option(help="A run, a checkpoint directory, a hub name, or mini.")],
    videos: Annotated[list[Path] | None, typer.Argument(help="Video files; with --out, also folders of them.")] = None,
    captions: Annotated[int, typer.Option(help="Captions of each video, the most likely first.")] = 1,
    prompt: Annotated[str | None, typer.Option(help="Text that every caption continues.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A captions.jsonl to write: a dataset to train on, with the model, decoding and score beside each "
            "caption. Continues after an interruption."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="With --out: the clips' split.")] = "train",
    changes: Changes = None,
) -> None:
    """Caption video files, and print each caption at once. Exits with 1 if a file cannot be decoded.

    With --out, caption files and folders into a dataset instead.
    """
    if not videos:
        raise UserError("No videos were given; name at least one file.")
    if out is not None:
        _write(videos, checkpoint, out, captions, prompt, split, changes)
        return
    prepare(f"{checkpoint}: captioning of {len(videos)} videos")
    from evlvideo.inference.caption_files import caption_files
    from evlvideo.inference.captions import Caption, name_special_tokens

    bad, made = 0, list[Caption]()
    for file in caption_files(videos, checkpoint, overrides=changes, captions_per_video=captions, prompt=prompt):
        for text in file.captions:
            if is_main():
                # Unlike `say`: once nobody reads the captions, there is no reason to make more.
                typer.echo(f"{file.video}\t{text}")
        made += map(Caption, file.captions, file.special_tokens)
        bad += file.bad is not None
    if is_main() and (found := name_special_tokens(made)):
        typer.echo(found, err=True)
    if bad and is_main():
        typer.echo(f"{bad} of {len(videos)} files could not be decoded; see above.", err=True)
        raise typer.Exit(INCOMPLETE)


def _write(
    given: list[Path],
    checkpoint: str,
    out: Path,
    captions: int,
    prompt: str | None,
    split: str,
    changes: list[str] | None,
) -> None:
    console = prepare(f"{checkpoint}: captioning into {out}")
    from evlvideo.data.annotation.readers.jsonl import SPLITS
    from evlvideo.inference.caption_collection import caption_collection
    from evlvideo.results.generated_captions import bad_path_of, how_to_train

    if split not in SPLITS:
        raise UserError(f"The split is {split!r}; allowed: {', '.join(SPLITS)}.")
    made = caption_collection(
        given,
        checkpoint,
        out,
        overrides=changes,
        captions_per_video=captions,
        prompt=prompt,
        split=split,
        console=console,
    )
    if not is_main():
        return
    earlier = f", {made.earlier:,} of them by an earlier call" if made.earlier else ""
    typer.echo(f"{out}: {made.captions:,} captions of {made.clips:,} files{earlier}.")
    if made.clips:
        typer.echo(how_to_train(out, made.media_root))
    if made.bad:
        files = "1 file has" if len(made.bad) == 1 else f"{len(made.bad):,} files have"
        typer.echo(f"{files} no captions; {bad_path_of(out)} says why.", err=True)
        raise typer.Exit(INCOMPLETE)
