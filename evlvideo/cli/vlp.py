"""Commands of vision-language pre-training, and of what is trained from it."""

from pathlib import Path
from typing import Annotated

import typer

from evlvideo.cli.options import Changes, CheckCounts, Overrides, RunFile, SplitToEvaluate
from evlvideo.errors import UserError
from evlvideo.terminal import prepare, say

Resume = Annotated[
    bool, typer.Option("--resume", help="Continue from the run's newest whole checkpoint, with the same config.")
]


def pretrain(
    config: RunFile,
    overrides: Overrides = None,
    resume: Resume = False,
) -> None:
    """Pre-train a vision-language model (BLIP, ALBEF or CLIP), with or without pruning by ELIP."""
    from evlvideo.config.loading import load_config_of
    from evlvideo.config.vlp import VlpConfig

    run = load_config_of(VlpConfig, config, overrides)
    console = prepare(f"{config}: pre-training, into {run.output_dir}")
    from evlvideo.training.vlp.run import pretrain as run_pretraining

    directory = run_pretraining(run, resume=resume, console=console)
    say(f"{directory}: done. Next: evlvideo embed {directory} --split test")


def embed(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run of `evlvideo pretrain`.")],
    split: SplitToEvaluate = "test",
    out: Annotated[
        Path | None,
        typer.Option(help="The .safetensors to write. Defaults to embeddings/DATASET-SPLIT.safetensors in the run."),
    ] = None,
    changes: Changes = None,
) -> None:
    """Write the image and text features of a split, and matching scores of the nearest pairs, for retrieval.

    No caption guides the pruning of an image here: images are encoded whole, or guided by their own class token
    (--set evaluation.guide=class).
    """
    prepare(f"{run}: features of {split}")
    from evlvideo.inference.embed_run import embed_run

    file = embed_run(run, split, overrides=changes, out=out)
    say(f"The features are in {file}. Next: evlvideo score-retrieval {file}")


def score_retrieval(
    features: Annotated[
        Path,
        typer.Argument(
            help='A .safetensors with "images" (N, C) and "texts" (M, C), float32, and a .json beside it with '
            '"image_ids", "text_ids" and "owner": for each text, the index of its image, from 0.'
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(help="Name of the dataset that the features are of, such as coco, flickr30k or msrvtt."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Its directory; images and videos are not needed.")] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Its split. Defaults to the one that papers report: test, or jsfusion for msrvtt."),
    ] = None,
    query_list: Annotated[
        Path | None,
        typer.Option(
            "--query-list", help="MSR-VTT's MSRVTT_JSFUSION_test.csv, which is enough without the dataset's annotation."
        ),
    ] = None,
    ties: Annotated[
        str,
        typer.Option(help="pessimistic (behind all wrong candidates of the same score) or expected (the mean)."),
    ] = "pessimistic",
    add_similarity: Annotated[
        bool,
        typer.Option(
            "--add-similarity/--no-add-similarity",
            help="In re-ranking, whether the similarity is added to the matching score (BLIP) or not (ALBEF).",
        ),
    ] = True,
    check_counts: CheckCounts = True,
    out: Annotated[Path | None, typer.Option(help="Also write the result, with each query's rank, as JSON.")] = None,
) -> None:
    """Score text-image or text-video retrieval from a file of features."""
    prepare()
    from evlvideo.evaluation.retrieval.pairs import RetrievalSplit, read_query_list, read_retrieval_split
    from evlvideo.evaluation.retrieval.score import checked_ties, retrieval_lines, score_feature_file

    if query_list is not None and (dataset or root or split):
        raise UserError("--query-list says what the features are of; leave out --dataset, --root and --split.")
    if dataset is None and (root or split):
        raise UserError("--root and --split are of a dataset; name it with --dataset, such as coco.")
    known_ties = checked_ties(ties)
    expected: RetrievalSplit | None = None
    if query_list is not None:
        expected = read_query_list(query_list, check_counts=check_counts)
    elif dataset is not None:
        expected = read_retrieval_split(dataset, root, split, check_counts=check_counts)
    result = score_feature_file(features, expected, ties=known_ties, add_similarity=add_similarity)
    if out is not None:
        result.save(out)
    say("\n".join(retrieval_lines(result)))


def prune_pictures(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run of `evlvideo pretrain` with model.pruning.")],
    split: SplitToEvaluate = "test",
    clips: Annotated[int, typer.Option(help="Clips to draw, spread over the split.")] = 8,
    out: Annotated[Path | None, typer.Option(help="The page to write. Defaults to pruning.html in the run.")] = None,
    changes: Changes = None,
) -> None:
    """Draw which patches of a clip's first frame are left at each prune, by what guides it, as a page."""
    prepare(f"{run}: patches of {split}")
    from evlvideo.comparison.page.pruning_page import write_pruning_page

    page = out or run / "pruning.html"
    shared = write_pruning_page(run, split, page, clips=clips, overrides=changes)
    told = ", ".join(f"{100 * share:.0f} % with {guide}" for guide, share in shared.items() if share < 1)
    say(f"The page is {page}. Of the patches that own captions leave at the last prune, are left: {told or 'all'}.")


def classify(
    config: RunFile,
    overrides: Overrides = None,
    resume: Resume = False,
) -> None:
    """Train an ALBEF to classify statements about images: visual entailment (SNLI-VE), or NLVR2's pairs."""
    from evlvideo.config.loading import load_config_of
    from evlvideo.config.vlp import ClassifierConfig

    run = load_config_of(ClassifierConfig, config, overrides)
    console = prepare(f"{config}: {run.task}, into {run.output_dir}")
    from evlvideo.training.vlp.classify import train_classifier

    directory = train_classifier(run, resume=resume, console=console)
    say(f"{directory}: done. Next: evlvideo evaluate-classifier {directory} --split test")


def evaluate_classifier(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run of `evlvideo classify`.")],
    split: SplitToEvaluate = "test",
    out: Annotated[
        Path | None, typer.Option(help="The .json to write. Defaults to predictions/LIST.json in the run.")
    ] = None,
    changes: Changes = None,
) -> None:
    """Measure a classifier's accuracy on a split, and write every prediction as JSON."""
    prepare(f"{run}: statements of {split}")
    from evlvideo.evaluation.classification import evaluate_classifier as run_evaluation

    file, result = run_evaluation(run, split, overrides=changes, out=out)
    low, high = result["accuracy_interval"]
    say(
        f"Accuracy on {result['statements']} statements: {100 * result['accuracy']:.1f} % ({100 * low:.1f} to "
        f"{100 * high:.1f}); the most frequent label alone: {100 * result['most_frequent_label']:.1f} %. Left out for "
        f"missing images: {result['left_out']}. The predictions are in {file}."
    )
