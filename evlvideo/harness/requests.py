"""Caption what a harness asks for: requests that each name one video or image file."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError
from evlvideo.inference.caption_files import caption_files

logger = logging.getLogger(__name__)


def caption_requests(
    requests: Sequence[Any], documents: Mapping[str, Any], checkpoint: str, changes: list[str]
) -> list[str]:
    """Caption the file of each request as `evlvideo caption` does. The request's text and decoding are not read.

    Args:
        requests: lmms-eval's, whose `args` are context, decoding, a function from a document to its files, the
            document's id, the task and the split.
        documents: task → split → documents by id.
        checkpoint: a run, a checkpoint directory, a hub name, or `mini`.
        changes: `key=value` changes to the run's config.

    Returns:
        a caption for each request, in order. It is empty for a file that cannot be decoded; a warning says why.

    Raises:
        UserError: a request has no file, or several, or its file does not exist.
    """
    captioned = caption_files([_file_of(request, documents) for request in requests], checkpoint, overrides=changes)
    texts = []
    for file in captioned:
        if file.bad is not None:
            logger.warning("%s has an empty caption, since it cannot be decoded: %s", file.video, file.bad)
        texts.append(file.captions[0] if file.captions else "")
    return texts


def _file_of(request: Any, documents: Mapping[str, Any]) -> Path:
    _, _, files_of, number, task, split = request.args
    files = files_of(documents[task][split][number])
    if len(files) != 1 or not isinstance(files[0], str | Path):
        kinds = ", ".join(type(file).__name__ for file in files) or "nothing"
        raise UserError(
            f"The task {task} shows {kinds} for document {number}; evlvideo captions one video or image file. Choose a "
            "task that names files."
        )
    return Path(files[0])
