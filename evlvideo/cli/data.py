"""The commands that look after data: checks of data sets and files, and features made before training."""

import os
from pathlib import Path
from typing import Annotated

import typer

from evlvideo.terminal import INCOMPLETE, Overrides, prepare, say

data = typer.Typer(help="Look after data sets.", no_args_is_help=True)
features = typer.Typer(help="Keep what the frozen vision tower makes of videos.", no_args_is_help=True)


@data.command()
def verify(
    dataset: Annotated[str, typer.Argument(help="Name of the data set, such as msrvtt; see datasets/.")],
    root: Annotated[Path, typer.Option(help="Its directory.")],
    video_root: Annotated[Path | None, typer.Option(help="Directory of its videos or images.")] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Also decode the first frame of every file.")] = False,
) -> None:
    """Check a data set on disk: counts, splits, overlaps and files. Exits with 1 where something is wrong."""
    prepare()
    from evlvideo.data.annotation.verify import verify as verify_dataset

    report = verify_dataset(dataset, root, video_root, decode=decode)
    typer.echo("\n".join(report.lines()))
    if not report.complete:
        raise typer.Exit(INCOMPLETE)


@data.command("check-videos")
def check_videos_command(
    root: Annotated[Path, typer.Argument(help="Directory of videos and pictures, with all that is below it.")],
    out: Annotated[Path, typer.Option(help="Directory for the progress and the quarantine list.")] = Path("checked"),
    frames: Annotated[
        int | None, typer.Option(help="Decode this many frames of each file; all of them where nothing is named.")
    ] = None,
    processes: Annotated[int, typer.Option(help="Files decoded at a time.")] = os.cpu_count() or 1,
    time_limit_seconds: Annotated[float, typer.Option("--time-limit", help="Seconds that a file may take.")] = 600.0,
) -> None:
    """Decode every file of a collection, and list those that cannot be. Goes on where it was stopped; exits with 1."""
    console = prepare()
    from evlvideo.data.video.check import check_videos

    report = check_videos(
        root, out, frames=frames, processes=processes, time_limit_seconds=time_limit_seconds, console=console
    )
    for file in report.bad:
        typer.echo(f"{file.path}: {file.reason}")
    typer.echo(
        f"{len(report.bad)} of {len(report.files)} files cannot be decoded; the list is {report.quarantine}, for "
        "data.quarantine of a run."
    )
    if report.bad:
        raise typer.Exit(INCOMPLETE)


@data.command("index")
def index_command(
    root: Annotated[
        Path, typer.Argument(help="Directory of tar shards, or of a data set, as a run's source names it.")
    ],
    processes: Annotated[int, typer.Option(help="Shards gone through at a time.")] = os.cpu_count() or 1,
    index_root: Annotated[
        Path | None,
        typer.Option(help="Directory for the indexes, which runs find beside the shards or in the cache only."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of a data set, such as webvid, in the place of shards.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="A split of it; may be repeated. Else train.")] = None,
    video_root: Annotated[Path | None, typer.Option(help="Directory of its videos or images.")] = None,
) -> None:
    """Make and check the indexes of shards, which runs then find. Goes on where it was stopped; exits with 1.

    With --dataset, read a data set's splits and look for their files instead, and keep what runs then map into memory.
    """
    console = prepare()
    if dataset is not None:
        from evlvideo.data.annotation.split_cache import read_cached_split

        for name in split or ["train"]:
            clips = read_cached_split(dataset, name, root, video_root)
            typer.echo(f"{dataset}:{name}: {len(clips):,} clips, with all of their files.")
        return
    from evlvideo.data.loading.shards.clips import find_shards
    from evlvideo.data.loading.shards.indexing import index_shards

    found = index_shards(find_shards(root), index_root, processes=processes, console=console)
    bad = [shard for shard in found if shard.reason is not None]
    for shard in bad:
        typer.echo(f"{shard.shard}: {shard.reason}")
    typer.echo(
        f"{len(found) - len(bad)} shards with {sum(shard.samples for shard in found):,} samples; "
        f"{sum(shard.made for shard in found)} indexes were made, {len(bad)} could not be."
    )
    if bad:
        raise typer.Exit(INCOMPLETE)


@features.command()
def extract(
    config: Annotated[Path, typer.Argument(help="The run that will read them, as YAML.")],
    overrides: Overrides = None,
    split: Annotated[
        list[str] | None, typer.Option(help="A split; may be repeated. Those that the run trains on and validates on.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="bf16, fp16 or fp32; the type that the tower computes in where none is named.")
    ] = None,
    all_frames: Annotated[
        bool,
        typer.Option("--all-frames", help="Keep all frames also where the run takes their mean, for others."),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Clips encoded at a time; training.batch_size, with which losses are those on videos."),
    ] = None,
) -> None:
    """Run the frozen vision tower once over every clip, for runs that then need no videos."""
    from evlvideo.config.loading import load_config

    run = load_config(config, overrides)
    console = prepare()
    from evlvideo.inference.extract_features import extract_features

    splits = split or list(dict.fromkeys((run.data.train_split, run.data.validation_split)))
    directory = extract_features(
        run, splits, dtype=dtype, all_frames=all_frames, batch_size=batch_size, console=console
    )
    say(f"The features of {', '.join(splits)} are in {directory}.")
