"""Caption rows into a directory, by however many calls it takes, as `docs/captioning_contract.md` promises."""

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc
from rich.console import Console

from evlvideo.assembly.architecture import changed_by_run
from evlvideo.assembly.models import open_processor
from evlvideo.config.run import RunConfig
from evlvideo.corpus.exports import check_forms, export
from evlvideo.corpus.films.plan import FilmPlan, rows_of_films
from evlvideo.corpus.local import caption_rows
from evlvideo.corpus.output import Made, Parts, check_is_job, open_parts
from evlvideo.corpus.rows import Row, Rows
from evlvideo.corpus.sources import read_sources
from evlvideo.corpus.stages import CaptionBatches, DecodeRows
from evlvideo.errors import Interrupted, UserError
from evlvideo.inference.caption_collection import makers
from evlvideo.inference.caption_files import check_beams, check_captions, checkpoint_config, open_captioner
from evlvideo.models.checkpoint import checkpoint_directory, read_configuration
from evlvideo.processes import (
    interrupted_by_signals,
    is_main,
    join_processes,
    on_main_process,
    wait_for_all,
    without_signals,
)
from evlvideo.progress import Progress

WHOLE = FilmPlan()
PART_ROWS = 1000
"""Rows of a part, rounded up to whole batches."""
PART_SECONDS = 300.0
"""A part is written after so long, if it is not full before: at most that is lost by a kill."""


class Finished(NamedTuple):
    """What a directory holds of the rows that were asked for."""

    done: int
    """Rows with captions."""
    failed: int
    """Rows without, each with its error."""
    earlier: int
    """Rows that an earlier call had done."""
    others: int
    """Rows of other sources, which stay."""
    seconds: float
    """That this call took."""
    exports: tuple[str, ...] = ()
    """A line for each other form that was written, in the main process."""


def caption_corpus(
    sources: Sequence[Path],
    checkpoint: str,
    out: Path,
    *,
    config: RunConfig | None = None,
    overrides: list[str] | None = None,
    captions_per_row: int = 1,
    prompt: str | None = None,
    films: FilmPlan = WHOLE,
    also: Sequence[str] = (),
    split: str = "train",
    overwrite: bool = False,
    part_rows: int = PART_ROWS,
    console: Console | None = None,
) -> Finished:
    """Caption all rows of some sources that a directory does not hold yet.

    Several processes, such as those of `torchrun`, share the rows. The next call like it goes on after an interruption;
    sampled captions come out as if there had been none.

    Args:
        sources: files, folders, tables and shards; see :mod:`evlvideo.corpus.sources`.
        checkpoint: a run, a checkpoint, or a hub name.
        out: the directory to write; see :mod:`evlvideo.corpus.output`.
        config: frames and decoding. Defaults to the run's config, or to the default config for a bare checkpoint.
        overrides: `key=value` changes to the run's config.
        captions_per_row: captions of each row, the likeliest first; needs at least as many beams, or sampling.
        prompt: text that every caption continues. Defaults to the checkpoint's.
        films: what of each film is captioned. Defaults to all of it at once, which is refused for long ones.
        also: other forms to write at the end; see :mod:`evlvideo.corpus.exports`.
        split: of the dataset that is written.
        overwrite: start anew, in a directory that is a captioning job's own.
        part_rows: rows of a part.
        console: where to draw a progress bar.

    Raises:
        UserError: a source cannot be read, there is no checkpoint, or the directory holds something else, or rows that
            were made otherwise; every difference is named.
        Interrupted: a signal came; whole batches are written before.
    """
    started = time.monotonic()
    check_captions(captions_per_row)
    check_forms(also)
    if part_rows < 1:
        raise UserError(f"A part of {part_rows} rows is too small; it must have at least 1.")
    join_processes()
    directory = checkpoint_directory(checkpoint)
    config = config or checkpoint_config(directory, overrides)
    check_beams(captions_per_row, config.generation)
    made_by = {**_makers(checkpoint, directory, config, overrides, captions_per_row, prompt), **films.facts}
    with ExitStack() as held:
        parts: list[Parts] = []  # in the main process, which alone writes

        def plan() -> tuple[Finished, Rows]:
            check_is_job(out)
            rows = read_sources(sources)
            parts.append(held.enter_context(open_parts(out, made_by, overwrite=overwrite)))
            return _plan(_cut(rows, films, config.data.num_workers, console), parts[0])

        before, todo = on_main_process(plan)
        failed = 0
        if len(todo):
            model, processor = open_captioner(directory, config, captions_per_row, prompt)
            size = config.generation.batch_size
            stream = caption_rows(
                todo,
                DecodeRows(config.data, processor.image_size),
                CaptionBatches(model, processor, config, captions_per_row),
                batch_size=size,
                num_workers=config.data.num_workers,
            )
            done = before.earlier
            progress = Progress("captioning", done + len(todo), console=console, unit="rows", done=done)
            # Closed here: after a signal, its traceback would keep the workers.
            with closing(stream), progress:
                failed = write_parts(next(iter(parts), None), progress.track(stream), size, part_rows)
        wait_for_all()  # the main process has written the last part
        told = export(out, also, made_by, split) if is_main() else []
    failed += before.failed
    done = before.earlier + len(todo) - failed
    return before._replace(done=done, failed=failed, seconds=time.monotonic() - started, exports=tuple(told))


def write_parts(
    parts: Parts | None, made: Iterable[tuple[Row, Made]], batch_size: int, part_rows: int = PART_ROWS
) -> int:
    """Write rows in parts of whole batches, so that the next call cuts the same batches.

    Args:
        parts: where to write them. None in a process that does not write.
        made: what came out for each row, batch by batch.
        batch_size: rows of a batch; the last may be smaller.
        part_rows: rows of a part, rounded up to whole batches.

    Returns:
        how many rows have an error.

    Raises:
        Interrupted: a signal came; the batches that were whole are written.
    """
    most = -(-part_rows // batch_size) * batch_size
    pending: list[tuple[Row, Made]] = []
    failed, begun = 0, time.monotonic()

    def write(count: int) -> None:
        nonlocal begun
        if parts is not None:
            parts.write(pending[:count])
        # In this order: if a signal comes between, the part is written again, under the same name.
        pending.clear()
        if parts is not None:
            parts.begin_next()
        begun = time.monotonic()

    try:
        with interrupted_by_signals():
            for row, out in made:
                pending.append((row, out))
                failed += out.error is not None
                late = time.monotonic() - begun >= PART_SECONDS and len(pending) % batch_size == 0
                if len(pending) >= most or late:
                    write(len(pending))
            write(len(pending))
    except BaseException as error:
        with suppress(UserError), without_signals():
            write(len(pending) - len(pending) % batch_size)
        if isinstance(error, KeyboardInterrupt | Interrupted):
            raise Interrupted("Stopped by a signal; what is done is kept, and the same command goes on.") from error
        raise
    return failed


def _makers(
    checkpoint: str,
    directory: Path,
    config: RunConfig,
    overrides: list[str] | None,
    captions_per_row: int,
    prompt: str | None,
) -> dict[str, Any]:
    """Return what all captions depend on; no model is opened for it."""
    architecture = changed_by_run(read_configuration(directory), config)
    processor = open_processor(directory, architecture, config)
    if prompt is not None:
        processor = processor.changed(architecture, prompt=prompt)
    made_by = makers(checkpoint, directory, processor, config, overrides, captions_per_row)
    if config.generation.do_sample:
        # A batch is drawn as a whole.
        made_by["decoding"]["batch_size"] = config.generation.batch_size
    return made_by


def _cut(rows: Rows, films: FilmPlan, num_workers: int, console: Console | None) -> Rows:
    """Return the parts of films that are captioned."""
    if not films.cuts_films:
        return rows
    processes = min(num_workers, len(rows)) if films.shots and len(rows) > 1 else 0
    with Progress("cutting", len(rows), console=console, unit="films") as progress:
        return Rows.of(rows_of_films(rows, films, processes, progress.advance))


def _plan(rows: Rows, parts: Parts) -> tuple[Finished, Rows]:
    """Return what is done of some rows, and those that are not."""
    todo = rows.beside(parts.done)
    wanted = parts.done.filter(pc.is_in(parts.done["id"], value_set=rows.table["id"]))
    failed = wanted.num_rows - wanted["error"].null_count
    others = parts.done.num_rows - wanted.num_rows
    return Finished(wanted.num_rows - failed, failed, wanted.num_rows, others, 0.0), todo
