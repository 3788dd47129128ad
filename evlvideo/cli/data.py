"""Commands that check datasets and media files, and index them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from evlvideo.cli.options import INCOMPLETE, CheckCounts
from evlvideo.mini.rendered import resolved, root_of
from evlvideo.terminal import prepare

data = typer.Typer(help="Check and index datasets.", no_args_is_help=True)


@data.command()
def verify(
    dataset: Annotated[str, typer.Argument(help="Name of the dataset, such as msrvtt; see datasets/.")],
    root: Annotated[
        Path | None, typer.Option(help="Its directory. Not needed for mini and mini_images, which are rendered.")
    ] = None,
    video_root: Annotated[Path | None, typer.Option(help="Directory of its videos or images.")] = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Also decode the first frame of every file, and compare times.")
    ] = False,
    check_counts: CheckCounts = True,
) -> None:
    """Check a dataset on disk: counts, splits, overlaps and files. Exits with 1 if something is wrong."""
    console = prepare(f"{dataset}: checking")
    from evlvideo.data.verify import verify as verify_dataset

    report = verify_dataset(
        dataset, root_of(dataset, root), video_root, decode=decode, check_counts=check_counts, console=console
    )
    typer.echo("\n".join(report.lines()))
    if not report.complete:
        raise typer.Exit(INCOMPLETE)


@data.command("check-videos")
def check_videos(
    root: Annotated[Path, typer.Argument(help="Directory of videos and images, with its subdirectories.")],
    out: Annotated[Path, typer.Option(help="Directory for the progress and the quarantine list.")] = Path("checked"),
    frames: Annotated[
        int | None, typer.Option(help="Decode this many frames of each file. Defaults to all, with every check.")
    ] = None,
    processes: Annotated[int, typer.Option(help="Files decoded at once.")] = os.cpu_count() or 1,
    time_limit_seconds: Annotated[float, typer.Option("--time-limit", help="Seconds that a file may take.")] = 600.0,
) -> None:
    """Decode every file of a collection, and list bad ones. Continues after an interruption; exits with 1 if any."""
    console = prepare(f"checking the files in {root}")
    from evlvideo.data.video.check import check_videos as check_files

    report = check_files(
        root, out, frames=frames, processes=processes, time_limit_seconds=time_limit_seconds, console=console
    )
    for file in report.bad:
        typer.echo(f"{file.path}: {file.reason}")
    typer.echo(
        f"{len(report.bad)} of {len(report.files)} files cannot be decoded; the list for a run's data.quarantine is "
        f"{report.quarantine}."
    )
    if report.bad:
        raise typer.Exit(INCOMPLETE)


@data.command("index")
def index(
    root: Annotated[Path, typer.Argument(help="Directory of tar shards, or of a dataset, as a run's source names it.")],
    processes: Annotated[int, typer.Option(help="Shards read at once.")] = os.cpu_count() or 1,
    index_root: Annotated[
        Path | None,
        typer.Option(help="Directory for the indexes. Runs find them only beside the shards or in the cache."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of a dataset, such as webvid, instead of shards.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="A split of it; may be repeated. Defaults to train.")] = None,
    video_root: Annotated[Path | None, typer.Option(help="Directory of its videos or images.")] = None,
    check_counts: CheckCounts = True,
) -> None:
    """Make and check the indexes of shards for later runs. Continues after an interruption; exits with 1 if one fails.

    With --dataset, read a dataset's splits and check that their files exist, and store what later runs map into memory.
    """
    console = prepare(f"indexing {root}")
    if dataset is not None:
        from evlvideo.data.annotation.split_cache import read_cached_split

        for name in split or ["train"]:
            clips = read_cached_split(dataset, name, root, video_root, check_counts=check_counts)
            typer.echo(f"{dataset}:{name}: {len(clips):,} clips, all with their files.")
        return
    from evlvideo.data.loading.shards.clips import find_shards
    from evlvideo.data.loading.shards.indexing import index_shards

    found = index_shards(find_shards(resolved(root)), index_root, processes=processes, console=console)
    bad = [shard for shard in found if shard.reason is not None]
    for shard in bad:
        typer.echo(f"{shard.shard}: {shard.reason}")
    typer.echo(
        f"{len(found) - len(bad)} shards with {sum(shard.samples for shard in found):,} samples; "
        f"{sum(shard.made for shard in found)} indexes were made, {len(bad)} failed."
    )
    if bad:
        raise typer.Exit(INCOMPLETE)
