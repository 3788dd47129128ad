"""Commands that check datasets and media files, and index them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from evlvideo.cli.options import INCOMPLETE, Changes, CheckCounts
from evlvideo.errors import UserError
from evlvideo.mini.rendered import resolved, root_of
from evlvideo.processes import is_main
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


@data.command("filter")
def filter_(
    file: Annotated[Path, typer.Argument(help="A captions.jsonl, such as `evlvideo caption --out` writes.")],
    out: Annotated[Path, typer.Option(help="File to write: the captions that are kept, with their scores.")],
    matching: Annotated[
        str | None,
        typer.Option(
            help="Score captions against their images or videos: a run of `evlvideo pretrain`, or a hub name or folder "
            "of a CLIP or BLIP."
        ),
    ] = None,
    agreement: Annotated[
        bool,
        typer.Option("--agreement", help="Score each caption by its CIDEr against the other captions of its clip."),
    ] = False,
    least: Annotated[
        float | None,
        typer.Option(
            help="Keep captions with at least this score: a probability of BLIP or ALBEF, a cosine of CLIP, or CIDEr."
        ),
    ] = None,
    share: Annotated[float | None, typer.Option(help="Keep this share of all captions, the best.")] = None,
    video_root: Annotated[
        Path | None, typer.Option(help="Directory of the videos or images. Defaults to the file's own.")
    ] = None,
    changes: Changes = None,
) -> None:
    """Keep the captions that match their images, or agree with other captions of their clip. Drop clips without any."""
    if agreement == (matching is not None):
        raise UserError("Name what to filter by: either --matching MODEL or --agreement.")
    console = prepare(f"{file}: filtering")
    from evlvideo.inference.filtering.filter_captions import filter_captions
    from evlvideo.results.generated_captions import how_to_train

    kept = filter_captions(
        file,
        out,
        model=matching,
        least=least,
        share=share,
        media_root=video_root,
        overrides=changes,
        console=console,
    )
    if is_main():
        typer.echo(
            f"{out}: {kept.captions:,} of {kept.of_captions:,} captions and {kept.clips:,} of {kept.of_clips:,} clips "
            f"are kept; {kept.of_clips - kept.clips:,} clips have none left and are dropped."
        )
        typer.echo(how_to_train(out, kept.media_root))
    if kept.bad:
        if is_main():
            names = ", ".join(name.partition(":")[2] for name in list(kept.bad)[:10])
            typer.echo(f"{len(kept.bad)} of the clips that are dropped cannot be decoded: {names}.", err=True)
        raise typer.Exit(INCOMPLETE)
