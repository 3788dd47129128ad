"""The command that captions files, one or millions."""

from pathlib import Path
from typing import Annotated, Any

import typer

from evlvideo.cli.options import INCOMPLETE, Changes
from evlvideo.errors import UserError
from evlvideo.processes import is_main
from evlvideo.terminal import prepare


def caption(
    checkpoint: Annotated[str, typer.Option(help="A run, a checkpoint directory, a hub name, or mini.")],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Video and image files; with --out, also folders of them, tables (.parquet, .csv or .jsonl with path "
            "and, if wanted, id, start and end in seconds) and tar shards."
        ),
    ] = None,
    captions: Annotated[int, typer.Option(help="Captions of each file, the most likely first.")] = 1,
    prompt: Annotated[str | None, typer.Option(help="Text that every caption continues.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A directory for Parquet files with a row for each source row: its captions, or why there are none; "
            "or a captions.jsonl to write, a dataset to train on. Continues after an interruption."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="In a captions.jsonl: the clips' split.")] = "train",
    windows: Annotated[
        float | None, typer.Option(help="With a directory: caption windows of so many seconds of each film.")
    ] = None,
    overlap: Annotated[float, typer.Option(help="Seconds that a window shares with the next.")] = 0.0,
    shots: Annotated[bool, typer.Option("--shots", help="With a directory: caption each shot of each film.")] = False,
    also: Annotated[
        str,
        typer.Option(
            help="With a directory: other forms to write there, of jsonl, webvid, txt, srt and vtt, by commas."
        ),
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start a captioning job's own directory anew.")
    ] = False,
    changes: Changes = None,
) -> None:
    """Caption files, and print each caption at once. Exits with 1 if a file cannot be decoded.

    With --out, caption files, folders, tables and shards into a directory, which exits with 1 if no row has a caption,
    or into a dataset.
    """
    if not sources:
        raise UserError("Nothing was given; name at least one file.")
    films = {"windows": windows, "overlap": overlap, "shots": shots}
    if (out is None or _is_dataset(out)) and (also or overwrite or any(films.values())):
        raise UserError("--windows, --overlap, --shots, --also and --overwrite need --out DIRECTORY.")
    if out is None:
        _print(sources, checkpoint, captions, prompt, changes)
    elif _is_dataset(out):
        _write(sources, checkpoint, out, captions, prompt, split, changes)
    else:
        _fill(sources, checkpoint, out, captions, prompt, split, changes, also, overwrite, films)


def _is_dataset(out: Path) -> bool:
    return out.suffix.lower() == ".jsonl" or out.is_file()


def _print(videos: list[Path], checkpoint: str, captions: int, prompt: str | None, changes: list[str] | None) -> None:
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


def _fill(
    sources: list[Path],
    checkpoint: str,
    out: Path,
    captions: int,
    prompt: str | None,
    split: str,
    changes: list[str] | None,
    also: str,
    overwrite: bool,
    films: dict[str, Any],
) -> None:
    console = prepare(f"{checkpoint}: captioning into {out}")
    from evlvideo.corpus.films.plan import FilmPlan
    from evlvideo.corpus.job import caption_corpus
    from evlvideo.progress import spelled_seconds

    _check_split(split)
    made = caption_corpus(
        sources,
        checkpoint,
        out,
        overrides=changes,
        captions_per_row=captions,
        prompt=prompt,
        films=FilmPlan(**films),
        also=[form.strip() for form in also.split(",") if form.strip()],
        split=split,
        overwrite=overwrite,
        console=console,
    )
    if not is_main():
        return
    earlier = f"; {made.earlier:,} of these rows by an earlier call" if made.earlier else ""
    others = f"; beside {made.others:,} rows of other sources" if made.others else ""
    typer.echo(
        f"{out}: {made.done:,} rows with captions, {made.failed:,} failed, in {spelled_seconds(made.seconds)}"
        f"{earlier}{others}."
    )
    for line in made.exports:
        typer.echo(line)
    if made.failed:
        typer.echo(f"The column error of {out / 'part-*.parquet'} says why rows failed.", err=True)
    if not made.done:
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
    from evlvideo.corpus.sources import is_shard, is_table
    from evlvideo.inference.caption_collection import caption_collection
    from evlvideo.results.generated_captions import bad_path_of, how_to_train

    _check_split(split)
    if tables := [source for source in given if is_table(source) or is_shard(source)]:
        raise UserError(f"{tables[0]} needs --out DIRECTORY; with --also jsonl, the dataset is written there.")
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


def _check_split(split: str) -> None:
    from evlvideo.data.annotation.readers.jsonl import SPLITS

    if split not in SPLITS:
        raise UserError(f"The split is {split!r}; allowed: {', '.join(SPLITS)}.")
