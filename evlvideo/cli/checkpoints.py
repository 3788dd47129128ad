"""The command that converts checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from evlvideo.errors import UserError
from evlvideo.terminal import prepare


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
