"""Arguments that several commands share, and the exit statuses."""

from pathlib import Path
from typing import Annotated

import typer

from evlvideo.errors import UserError

INCOMPLETE = 1
"""Exit status of a command that finished, but found something wrong."""
FAILED = 1
"""Exit status after an error that nobody foresaw."""
MISTAKE = 2
"""Exit status after a mistake of the user's."""
INTERRUPTED = 130
"""Exit status after a signal."""

RunFile = Annotated[Path, typer.Argument(help="The run, as YAML.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the config: key=value, such as training.max_steps=100.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="A change to the config: key=value, such as generation.num_beams=3. May be repeated."),
]
Spice = Annotated[bool, typer.Option("--spice", help="Also score SPICE, if its models are installed.")]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        help="Tokenizer: ptb, python, or characters, for scripts without spaces. Defaults to ptb or, without Java, to "
        "python."
    ),
]
CheckCounts = Annotated[
    bool,
    typer.Option(
        "--check-counts/--no-check-counts",
        help="Whether a dataset must have as many clips and captions as published, or may be a part, or your own.",
    ),
]
Frequencies = Annotated[
    str | None,
    typer.Option(
        "--frequencies",
        help="Document frequencies of CIDEr on subsets, such as NoCaps' domains: own, of each subset alone, or split, "
        "of all. Defaults to the dataset's way: own for nocaps, else split.",
    ),
]
SplitToEvaluate = Annotated[str, typer.Option(help="The split to evaluate on.")]
Against = Annotated[
    str | None, typer.Option(help="The row that the others are tested against. Defaults to the first run.")
]
Clips = Annotated[int, typer.Option(help="Clips in the report's gallery.")]
Pictures = Annotated[int, typer.Option(help="Clips for which the report looks inside the models; 0 opens no model.")]
QuestionSplit = Annotated[
    str | None, typer.Option("--split", help="Its split. Defaults to the one that papers report.")
]
Lemmas = Annotated[
    str | None,
    typer.Option(
        "--lemmatizer", help="none or spacy. Defaults to none and, for OK-VQA, to both if spaCy's model is installed."
    ),
]
QuestionTypes = Annotated[bool, typer.Option("--question-types", help="List the scores of each question type too.")]


def checked_frequencies(frequencies: str | None) -> str | None:
    """Check the value of `--frequencies`.

    Raises:
        UserError: it is unknown.
    """
    from evlvideo.metrics.names import SUBSET_SCORES

    if frequencies not in (None, *SUBSET_SCORES):
        raise UserError(f"--frequencies is {frequencies!r}; allowed: {', '.join(SUBSET_SCORES)}.")
    return frequencies
