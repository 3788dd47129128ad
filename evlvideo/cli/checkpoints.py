"""Commands that convert checkpoints, look into them, and try them on a page."""

from pathlib import Path
from typing import Annotated

import typer

from evlvideo.app.serve import LOOPBACK, PORT, UPLOAD_MEGABYTES, check_installed, serve
from evlvideo.cli.options import INCOMPLETE, Changes
from evlvideo.errors import UserError
from evlvideo.processes import is_main
from evlvideo.terminal import prepare, say, show


def convert(
    source: Annotated[str, typer.Argument(help="A published .pth; with --to-published, a run or checkpoint of ours.")],
    out: Annotated[Path, typer.Option(help="Directory of our checkpoint; with --to-published, the .pth.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Sizes that the file does not state: key=value, such as vision_overrides.num_heads=16."),
    ] = None,
    vision: Annotated[
        str, typer.Option(help="The vision tower: its published file, or its name in timm.")
    ] = "eva_giant_patch14_clip_224",
    language_model: Annotated[str, typer.Option(help="The language model: a hub name or a folder.")] = "",
    qformer: Annotated[
        Path | None,
        typer.Option(help="A published file of BLIP-2, for the Q-Former of Video-LLaMA and VideoChat."),
    ] = None,
    to_published: Annotated[
        bool, typer.Option("--to-published", help="Convert the other way, from ours to published.")
    ] = False,
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


def inspect(
    checkpoint: Annotated[
        str, typer.Argument(help="A run, one of its checkpoints, another checkpoint, a hub name, or mini.")
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Clips to look at: a run's YAML or directory, or key=value, such as dataset=mini. May be repeated. "
            "Defaults to the run's own."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Their split. Defaults to that of validation.")] = None,
    clips: Annotated[int, typer.Option(help="How many to look at, at equal distances over the split.")] = 32,
    json: Annotated[Path | None, typer.Option("--json", help="Also write what was found, as JSON.")] = None,
) -> None:
    """Say what is wrong with a checkpoint: sizes, norms, gates, and what becomes of clips layer by layer.

    Exits with 1 if weights are not finite, or if the soft prompts of different clips are nearly equal.
    """
    console = prepare(f"{checkpoint}: inspection")
    from evlvideo.inspection.inspect_checkpoint import inspect_checkpoint
    from evlvideo.inspection.table import inspection_table

    found = inspect_checkpoint(checkpoint, data=data or [], split=split, clips=clips, console=console)
    show(inspection_table(found))
    if json is not None and is_main():
        found.save(json)
    if found.has_faults:
        raise typer.Exit(INCOMPLETE)


def app(
    checkpoints: Annotated[
        list[str], typer.Argument(help="Runs, checkpoint directories, hub names, or mini; shown side by side.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at: 127.0.0.1 for this machine alone, 0.0.0.0 for all that reach it.")
    ] = LOOPBACK[0],
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = PORT,
    upload_limit: Annotated[int, typer.Option(help="Largest file that is taken, in megabytes.", min=1)] = (
        UPLOAD_MEGABYTES
    ),
    changes: Changes = None,
) -> None:
    """Serve a page to try checkpoints on: captions, answers, and which frames and patches counted.

    Runs until Ctrl-C. Uploads are removed at the end, and nothing is loaded from or sent to elsewhere.
    """
    check_installed()
    prepare(f"{', '.join(checkpoints)}: a page to try them on")

    def ready(address: str) -> None:
        say(f"The page is at {address} until Ctrl-C.")
        if host not in LOOPBACK:
            say("Everyone who reaches this machine can use it, without a password.")

    serve(checkpoints, overrides=changes or [], host=host, port=port, upload_megabytes=upload_limit, ready=ready)
