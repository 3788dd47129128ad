"""Commands that score captions: of a run, of a file, of people, or of another model."""

from pathlib import Path
from typing import Annotated

import typer

from evlvideo.cli.options import CheckCounts, Frequencies, Overrides, Spice, Tokenizer, checked_frequencies
from evlvideo.data.annotation.facts import facts_of
from evlvideo.errors import UserError
from evlvideo.processes import is_main
from evlvideo.terminal import prepare, say


def evaluate(
    run: Annotated[str, typer.Argument(help="Directory of a finished run; or, with --out, any checkpoint.")],
    overrides: Overrides = None,
    dataset: Annotated[
        str | None, typer.Option(help="Another dataset than the run's, such as nocaps; see datasets/.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Directory of the dataset.")] = None,
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "test",
    out: Annotated[
        Path | None, typer.Option(help="Directory that the result belongs to. Defaults to the run's.")
    ] = None,
    shuffle_frames: Annotated[
        bool, typer.Option("--shuffle-frames", help="Shuffle the frames of each clip, to see whether order matters.")
    ] = False,
    other_clips: Annotated[
        bool,
        typer.Option(
            "--other-clips", help="Give each clip the caption of another, to see whether the picture matters."
        ),
    ] = False,
    frequencies: Frequencies = None,
    spice: Spice = False,
) -> None:
    """Caption a split of any dataset with a run's best checkpoint, and score it.

    If only a server has the split's captions, write the file that it takes.
    """
    if shuffle_frames and other_clips:
        raise UserError("--shuffle-frames and --other-clips are two probes of a run; give one at a time.")
    if other_clips and (out is not None or frequencies is not None):
        raise UserError("--other-clips is a probe of a run's own results; leave out --out and --frequencies.")
    asked = checked_frequencies(frequencies)
    console = prepare(f"{run}: evaluation on {split}")
    from evlvideo.evaluation.data_of_evaluation import check_out, evaluation_config, keep_config
    from evlvideo.evaluation.evaluate import caption_for_server
    from evlvideo.evaluation.evaluate import evaluate as evaluate_run
    from evlvideo.evaluation.other_clips import drop_line, evaluate_other_clips
    from evlvideo.evaluation.score import score_lines
    from evlvideo.results.run_directory import SUBMISSION_NAME, evaluation_directory

    config = evaluation_config(run, overrides or [], dataset=dataset, root=root, out=out)
    path, metrics = Path(run), _metrics(spice)
    if out is not None:
        check_out(out, config)
    if split in facts_of(config.data.dataset).without_captions:
        if shuffle_frames or other_clips:
            raise UserError(f"{config.data.dataset}:{split} has no captions to score on, so there is nothing to probe.")
        file = caption_for_server(path, split=split, config=config, out=out, console=console)
        if out is not None and is_main():
            keep_config(out, config)
        say(f"{config.data.dataset}:{split} has no captions to score on. The file for its server is {file}.")
        return
    if other_clips:
        plain, result = evaluate_other_clips(path, split=split, config=config, metrics=metrics, console=console)
        say("\n".join([*score_lines(result), drop_line(plain, result)]))
    else:
        result = evaluate_run(
            path,
            split=split,
            config=config,
            shuffle_frames=shuffle_frames,
            metrics=metrics,
            out=out,
            console=console,
            subset_frequencies=asked,
        )
        say("\n".join(score_lines(result)))
    if out is not None and is_main():
        keep_config(out, config)
    directory = evaluation_directory(
        out or path, config.data, split, shuffle_frames=shuffle_frames, other_clips=other_clips
    )
    say(f"Predictions and scores are in {directory}.")
    if (directory / SUBMISSION_NAME).is_file() and not (shuffle_frames or other_clips):
        say(f"The file for the server of {config.data.dataset} is {directory / SUBMISSION_NAME}.")


def score(
    predictions: Annotated[
        Path | None,
        typer.Option(
            help='JSON: [{"image_id": …, "caption": …}], {id: caption}, or what challenges ask for; JSON Lines; a .csv '
            "file with image_id,caption; or a .tsv file."
        ),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            help="MSR-VTT's official JSON, a COCO-like JSON, lists of captions by id, the forms of --predictions with "
            "several captions of an id, or another dataset's file."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the references. With --human, defaults to test.")] = None,
    human: Annotated[
        str | None, typer.Option(help="Score people instead: one caption of each clip of this dataset.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Directory of the dataset of --human.")] = None,
    check_counts: CheckCounts = True,
    tokenizer: Tokenizer = None,
    out: Annotated[Path | None, typer.Option(help="Also write the result, with per-clip scores, as JSON.")] = None,
    spice: Spice = False,
) -> None:
    """Score captions from a file, or people's captions."""
    if human is None and (predictions is None or references is None or root is not None):
        raise UserError("Name --predictions and --references, or --human DATASET --root DIR.")
    if human is not None and (predictions is not None or references is not None):
        raise UserError("--human scores a dataset's own captions; leave out --predictions and --references.")
    prepare()
    from evlvideo.evaluation.human import human_row
    from evlvideo.evaluation.score import score_files, score_lines

    if human is not None:
        result = human_row(
            human, split or "test", root, metrics=_metrics(spice), tokenizer=tokenizer, check_counts=check_counts
        )
    else:
        assert predictions is not None and references is not None
        result = score_files(predictions, references, split=split, metrics=_metrics(spice), tokenizer=tokenizer)
    if out is not None:
        result.save(out)
    typer.echo("\n".join(score_lines(result)))


def baseline(
    system: Annotated[
        str, typer.Argument(help="A video-text model of transformers: hf: and a hub name, or hf: and a folder.")
    ],
    prompt: Annotated[
        str,
        typer.Option(
            help="What to ask. The model's chat template is added, unless the prompt holds the placeholder, as in "
            "'USER: <video> Describe it. ASSISTANT:'."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Directory of the system, for `evlvideo compare`.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Frames and decoding: key=value, such as data.num_frames=8 generation.num_beams=1."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the dataset. Defaults to msrvtt.")] = None,
    root: Annotated[Path | None, typer.Option(help="Its directory.")] = None,
    split: Annotated[str, typer.Option(help="Its split.")] = "test",
    resume: Annotated[bool, typer.Option("--resume", help="Keep the captions of an earlier call.")] = False,
    any_frames: Annotated[
        bool, typer.Option("--any-frames", help="Allow another number of frames than the model's processor states.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = False,
) -> None:
    """Caption a split with any video-text model of transformers, and score it as runs are scored."""
    console = prepare(f"{system}: captioning of {split}, into {out}")
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
    say(f"Predictions and scores are in {evaluation_directory(out, config.data, split)}.")


def _metrics(spice: bool) -> tuple[str, ...]:
    from evlvideo.metrics.names import ALL_METRICS, METRICS

    return ALL_METRICS if spice else METRICS
