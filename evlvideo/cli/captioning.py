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
    videos: Annotated[list[Path] | None, typer.Argument(help="Video files.")] = None,
    captions: Annotated[int, typer.Option(help="Captions of each video, the most likely first.")] = 1,
    prompt: Annotated[str | None, typer.Option(help="Text that every caption continues.")] = None,
    changes: Changes = None,
) -> None:
    """Caption video files, and print each caption at once. Exits with 1 if a file cannot be decoded."""
    if not videos:
        raise UserError("No videos were given; name at least one file.")
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
