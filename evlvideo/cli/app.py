"""The command line: each command translates its arguments into one call."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from evlvideo.cli.data import data, features
from evlvideo.errors import Interrupted, UserError
from evlvideo.processes import is_first_to_say, is_main
from evlvideo.terminal import INCOMPLETE, INTERRUPTED, MISTAKE, Overrides, Spice, prepare, say, show
from evlvideo.threads import wait_passively

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="A change to the config: key=value, such as generation.num_beams=3. May be repeated."),
]
Against = Annotated[str | None, typer.Option(help="The row that the others are tested against; the first run.")]
Clips = Annotated[int, typer.Option(help="Clips in the report's gallery.")]
Pictures = Annotated[int, typer.Option(help="Clips on which models are shown from the inside; 0 opens no model.")]

app = typer.Typer(
    help="Turn an image-pretrained EVLGen checkpoint into a video captioner, and say how good it is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(data, name="data")
app.add_typer(features, name="features")


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A published .pth; with --to-published, a run or checkpoint of ours.")],
    out: Annotated[Path, typer.Option(help="Directory of our checkpoint; with --to-published, the .pth.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Sizes that the file does not tell: key=value, such as vision_overrides.num_heads=16."),
    ] = None,
    vision: Annotated[
        str, typer.Option(help="The vision tower: its published file, or timm's name of it.")
    ] = "eva_giant_patch14_clip_224",
    language_model: Annotated[str, typer.Option(help="The language model: a hub name or a folder.")] = "",
    qformer: Annotated[
        Path | None,
        typer.Option(help="A published file of BLIP-2, whose Q-Former Video-LLaMA and VideoChat take over."),
    ] = None,
    to_published: Annotated[bool, typer.Option("--to-published", help="The other way: ours to published.")] = False,
) -> None:
    """Turn a published checkpoint of EVLGen, BLIP-2, Video-LLaMA or VideoChat into ours, or an EVLGen back."""
    prepare()
    from evlvideo.models.published import convert as conversion

    if to_published:
        conversion.to_published(source, out)
        typer.echo(f"{out}: written in the published form.")
        return
    if not language_model:
        raise UserError("No language model was named; give --language-model, such as facebook/opt-2.7b or a folder.")
    config = conversion.from_published(
        Path(source), out, vision=vision, language_model=language_model, overrides=overrides or [], qformer=qformer
    )
    typer.echo(conversion.described(config))
    typer.echo(f"{out}: converted. Next: evlvideo caption VIDEO --checkpoint {out}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="The run, as YAML.")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")] = False,
) -> None:
    """Fine-tune, by cross-entropy or by self-critical training, as the config says."""
    from evlvideo.config.loading import load_config

    run = load_config(config, overrides)
    console = prepare()
    from evlvideo.training.run import train as run_training

    directory = run_training(run, resume=resume, console=console)
    say(f"{directory}: done. Next: evlvideo evaluate {directory} --split test")


@app.command()
def estimate(
    config: Annotated[Path, typer.Argument(help="The run, as YAML.")],
    overrides: Overrides = None,
) -> None:
    """Tell what a run will cost, from its config alone: parameters, multiply-adds and memory."""
    from evlvideo.config.loading import load_config

    run = load_config(config, overrides)
    prepare()
    from evlvideo.estimate.run_costs import estimate_run
    from evlvideo.estimate.table import estimate_table

    show(estimate_table(estimate_run(run)))


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run.")],
    overrides: Overrides = None,
    split: Annotated[str, typer.Option(help="Split of the run's data set.")] = "test",
    shuffle_frames: Annotated[
        bool, typer.Option("--shuffle-frames", help="Put frames out of order, to see whether order matters.")
    ] = False,
    spice: Spice = False,
) -> None:
    """Caption a split with a run's best checkpoint, and score it."""
    from evlvideo.results.run_directory import evaluation_directory, run_config

    config = run_config(run, overrides)
    prepare()
    from evlvideo.evaluation.evaluate import evaluate as evaluate_run
    from evlvideo.evaluation.score import score_lines

    result = evaluate_run(run, split=split, config=config, shuffle_frames=shuffle_frames, metrics=_metrics(spice))
    say("\n".join(score_lines(result)))
    directory = evaluation_directory(run, result.dataset, split, shuffle_frames=shuffle_frames)
    say(f"Predictions and scores are in {directory}.")


@app.command()
def score(
    predictions: Annotated[
        Path | None,
        typer.Option(
            help='JSON: [{"image_id": …, "caption": …}] or {id: caption}; or a .csv file with image_id,caption.'
        ),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            help="MSR-VTT's official JSON, a COCO-like one, a list of captions for each id, or another set's file."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the references; of --human: test.")] = None,
    human: Annotated[
        str | None, typer.Option(help="Score people instead: one caption of each clip of this data set.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Directory of the data set of --human.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the result, with per-clip scores, as JSON.")] = None,
    spice: Spice = False,
) -> None:
    """Score anyone's captions, or people's own."""
    if human is None and (predictions is None or references is None or root is not None):
        raise UserError("Name --predictions and --references, or --human DATASET --root DIR.")
    if human is not None and (predictions is not None or references is not None):
        raise UserError("--human scores a data set's own captions; leave --predictions and --references away.")
    prepare()
    from evlvideo.evaluation.human import human_row
    from evlvideo.evaluation.score import score_files, score_lines

    if human is not None:
        result = human_row(human, split or "test", root, metrics=_metrics(spice))
    else:
        assert predictions is not None and references is not None
        result = score_files(predictions, references, split=split, metrics=_metrics(spice))
    if out is not None:
        result.save(out)
    typer.echo("\n".join(score_lines(result)))


@app.command()
def baseline(
    system: Annotated[str, typer.Argument(help="hf: and a video-text model of transformers: a hub name or a folder.")],
    prompt: Annotated[
        str,
        typer.Option(
            help="What to ask. The model's chat template goes around it, unless it holds the placeholder, as "
            "'USER: <video> Describe it. ASSISTANT:'."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Directory of the system, for `evlvideo compare`.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Frames and decoding: key=value, such as data.num_frames=8 generation.num_beams=1."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the data set; msrvtt where nothing is named.")] = None,
    root: Annotated[Path | None, typer.Option(help="Its directory.")] = None,
    split: Annotated[str, typer.Option(help="Its split.")] = "test",
    resume: Annotated[bool, typer.Option("--resume", help="Keep the captions that are there already.")] = False,
    any_frames: Annotated[
        bool, typer.Option("--any-frames", help="Allow another number of frames than the model's processor states.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = False,
) -> None:
    """Caption a split with any video-text model of transformers, and score it as runs are scored."""
    console = prepare()
    from evlvideo.evaluation.baseline import baseline_config, caption_split
    from evlvideo.evaluation.score import score_lines
    from evlvideo.results.run_directory import evaluation_directory

    config = baseline_config(system, overrides or [], dataset=dataset, root=root, out=out)
    result = caption_split(
        config,
        prompt,
        split=split,
        resume=resume,
        any_frames=any_frames,
        trust_remote_code=trust_remote_code,
        console=console,
    )
    say("\n".join(score_lines(result)))
    say(f"Predictions and scores are in {evaluation_directory(out, result.dataset, split)}.")


@app.command()
def caption(
    checkpoint: Annotated[str, typer.Option(help="A run, a checkpoint directory, a hub name, or mini.")],
    videos: Annotated[list[Path] | None, typer.Argument(help="Video files.")] = None,
    captions: Annotated[int, typer.Option(help="Captions of each video, the likeliest first.")] = 1,
    prompt: Annotated[str | None, typer.Option(help="Text that every caption continues.")] = None,
    changes: Changes = None,
) -> None:
    """Caption video files, and print each caption as soon as it is there. Exits with 1 where a file has none."""
    if not videos:
        raise UserError("No videos were given; name at least one file.")
    prepare()
    from evlvideo.inference.caption_files import caption_files

    found = caption_files(videos, checkpoint, overrides=changes, captions_per_video=captions, prompt=prompt)
    bad = 0
    for file in found:
        for text in file.captions:
            say(f"{file.video}\t{text}")
        bad += file.bad is not None
    if bad and is_main():
        typer.echo(f"{bad} of {len(videos)} files could not be decoded; see above.", err=True)
        raise typer.Exit(INCOMPLETE)


@app.command()
def compare(
    runs: Annotated[list[Path] | None, typer.Argument(help="Directories of evaluated runs, in their order.")] = None,
    split: Annotated[
        str | None, typer.Option(help="The split that all are scored on: test, or all clips of a file of references.")
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Captions of another system, to be scored here. May be repeated."),
    ] = None,
    references: Annotated[
        Path | None, typer.Option(help="What they are scored against, where no run tells it: a file as for score.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The same, as a data set, such as msrvtt; see datasets/.")] = None,
    root: Annotated[Path | None, typer.Option(help="Directory of --dataset.")] = None,
    human: Annotated[
        bool, typer.Option("--human", help="Add a row for people: one caption of each clip against the others.")
    ] = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Score files that are not whole as far as they go, and mark them.")
    ] = False,
    over_seeds: Annotated[
        bool, typer.Option("--over-seeds", help="Give runs that differ in their seed alone one row, of their means.")
    ] = False,
    against: Against = None,
    out: Annotated[Path, typer.Option(help="Directory for the report.")] = Path("report"),
    clips: Clips = 24,
    pictures: Pictures = 3,
    quoted: Annotated[bool, typer.Option("--quoted", help="Add published numbers, marked as quoted.")] = False,
) -> None:
    """Put runs and other systems' captions into one table, and write a report to look at."""
    prepare()
    from evlvideo.comparison.compare import compare as compare_runs
    from evlvideo.comparison.rows.scoring import ScoringRequest, parse_prediction_files
    from evlvideo.comparison.tables.formats import to_rich

    request = ScoringRequest(
        predictions=parse_prediction_files(predictions or []),
        references=references,
        dataset=dataset,
        root=root,
        human=human,
        allow_partial=allow_partial,
    )
    comparison = compare_runs(
        runs or [],
        out=out,
        split=split,
        request=request,
        against=against,
        over_seeds=over_seeds,
        gallery_clips=clips,
        inspected_clips=pictures,
        quoted=quoted,
    )
    show(to_rich(comparison.table))
    typer.echo(f"The report is {comparison.report}; table.md, .csv, .json and .tex are beside it.")


@app.command()
def study(
    configs: Annotated[list[Path], typer.Argument(help="Runs, as YAML; each is a row of the table.")],
    seeds: Annotated[str, typer.Option(help="Each run is trained with each of these seeds.")] = "42,1,2",
    changes: Changes = None,
    out: Annotated[Path, typer.Option(help="Directory for the runs and the report.")] = Path("study"),
    split: Annotated[str, typer.Option(help="The split to evaluate on.")] = "test",
    against: Against = None,
    clips: Clips = 24,
    pictures: Pictures = 3,
) -> None:
    """Train runs with several seeds, evaluate them, and compare their means. Goes on where it was stopped."""
    console = prepare()
    from evlvideo.comparison.tables.formats import to_rich
    from evlvideo.experiments.study.plan import parse_seeds, plan_study
    from evlvideo.experiments.study.run import run_study

    planned = plan_study(configs, parse_seeds(seeds), out, settings=changes or [])
    comparison = run_study(
        planned, split=split, against=against, gallery_clips=clips, pictures=pictures, console=console
    )
    if comparison is not None:
        show(to_rich(comparison.table))
        typer.echo(f"The report is {comparison.report}; table.md, .csv, .json and .tex are beside it.")


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="The run, as YAML.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help="Changes to the config; one has several values, as r=0,4,8 (model.merge_r) or data.num_frames=1,2,4."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for the runs, the table and the figure.")] = Path("sweep"),
    evaluate_only: Annotated[
        str | None, typer.Option(help="Train nothing: evaluate this run or checkpoint with each value.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split to evaluate on.")] = "test",
) -> None:
    """Train or evaluate over the values of a key: what it gains, and what it costs. Goes on where it was stopped."""
    console = prepare()
    from evlvideo.experiments.sweep.plan import plan_sweep
    from evlvideo.experiments.sweep.run import run_sweep
    from evlvideo.experiments.sweep.table import to_rich

    outcome = run_sweep(plan_sweep(config, settings or [], out, checkpoint=evaluate_only), split=split, console=console)
    show(to_rich(outcome))
    typer.echo(f"The table and the figure are {out}/sweep.md and {out}/sweep.svg, beside .csv, .json and .png.")


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Directory for the demo's runs and report; an earlier demo there is replaced.")
    ] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seeds every run.")] = 42,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train the mini checkpoint first, instead of using the packaged one.")
    ] = False,
) -> None:
    """Run the whole chain in miniature: fine-tune, SCST, evaluate, compare."""
    prepare()
    from evlvideo.comparison.tables.formats import to_rich
    from evlvideo.experiments.demo import run_demo

    comparison = run_demo(out, seed=seed, from_scratch=from_scratch)
    show(to_rich(comparison.table))
    typer.echo(f"The report is {comparison.report}.")


def _metrics(spice: bool) -> tuple[str, ...]:
    from evlvideo.metrics.names import ALL_METRICS, METRICS

    return ALL_METRICS if spice else METRICS


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit status 2."""
    wait_passively()
    try:
        app()
    except UserError as error:
        if is_first_to_say(str(error)):
            typer.echo(f"error: {error}", err=True)
        sys.exit(INTERRUPTED if isinstance(error, Interrupted) else MISTAKE)
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
