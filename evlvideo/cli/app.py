"""The command line: its commands, in the order of the help, and its exit."""

import io
import sys
import traceback

import typer

from evlvideo.cli.answer_scores import score_answers
from evlvideo.cli.answering import answer, evaluate_answers
from evlvideo.cli.captioning import caption
from evlvideo.cli.checkpoints import app as serve_app
from evlvideo.cli.checkpoints import convert, inspect
from evlvideo.cli.comparison import compare, study, sweep
from evlvideo.cli.data import data
from evlvideo.cli.demo import demo
from evlvideo.cli.evaluation import baseline, evaluate, score
from evlvideo.cli.features import features
from evlvideo.cli.options import FAILED, INTERRUPTED, MISTAKE
from evlvideo.cli.training import estimate, train
from evlvideo.cli.vlp import classify, embed, evaluate_classifier, pretrain, prune_pictures, score_retrieval
from evlvideo.errors import Interrupted, UserError, printable, why_not_written
from evlvideo.processes import check_working_directory, end_at_once, is_first_to_say
from evlvideo.threads import wait_passively

app = typer.Typer(
    help="Turn an image-pretrained EVLGen checkpoint into a video captioner, and evaluate it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    convert,
    train,
    estimate,
    evaluate,
    score,
    score_answers,
    baseline,
    caption,
    answer,
    evaluate_answers,
    inspect,
    serve_app,
    compare,
    study,
    sweep,
    demo,
    pretrain,
    embed,
    score_retrieval,
    prune_pictures,
    classify,
    evaluate_classifier,
):
    app.command()(command)
app.add_typer(data, name="data")
app.add_typer(features, name="features")


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit status 2, and any other error ends it at once."""
    wait_passively()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A locale without the letters of a caption shows their numbers.
            stream.reconfigure(errors="backslashreplace")
    try:
        check_working_directory()
        app()
    except UserError as error:
        if is_first_to_say(str(error)):
            typer.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(INTERRUPTED if isinstance(error, Interrupted) else MISTAKE)
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if reason := why_not_written(error):
            typer.echo(f"error: {reason}. Make room, or what else it takes, and give the command again.", err=True)
            end_at_once(MISTAKE)
        traceback.print_exc()
        end_at_once(FAILED)
