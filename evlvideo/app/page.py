"""The page itself, of Gradio's components; all it does is to hand on what people choose."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from evlvideo.app.choices import (
    LEAST,
    MOST_BEAMS,
    MOST_CAPTIONS,
    MOST_CHARACTERS,
    MOST_TEMPERATURE,
    MOST_TOKENS,
    Choices,
)
from evlvideo.app.explain import OpenCheckpoint, explain_all
from evlvideo.app.result import to_heading, to_html, to_json, to_notice
from evlvideo.config.run import MOST_SEED
from evlvideo.errors import UserError

TITLE = "evlvideo"
EMPTY = "Captions appear here. Choose a video or an image, and press Caption."
KEPT_SECONDS = 24 * 3600
"""How long an upload is kept while the program runs."""
_CLEARED_EVERY_SECONDS = 3600
_MOST_WAITING = 32
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def build_page(checkpoints: Sequence[OpenCheckpoint]) -> Any:
    """Build the page of some checkpoints, Gradio's `Blocks`. Requests wait in a queue and are done one by one."""
    import gradio

    by_name = {checkpoint.name: checkpoint for checkpoint in checkpoints}

    def caption(
        file: str | None,
        question: str,
        prompt: str,
        chosen: list[str],
        captions: int,
        num_beams: int,
        longest: int,
        do_sample: bool,
        temperature: float,
        top_p: float,
        seed: int,
    ) -> tuple[str, dict[str, Any] | None]:
        """Caption a video or image, or answer a question about it: HTML to look at, and JSON to read."""
        if file is None:
            return to_notice("Choose a video or an image first."), None
        if not chosen:
            return to_notice("Choose at least one checkpoint."), None
        try:
            choices = Choices(
                captions=int(captions),
                num_beams=int(num_beams),
                do_sample=do_sample,
                temperature=temperature,
                top_p=top_p,
                max_new_tokens=int(longest) or None,
                seed=int(seed or 0),
                prompt=prompt or "",
                question=question or "",
            )
        except UserError as error:
            return to_notice(str(error)), None
        outcomes = explain_all([by_name[name] for name in chosen], Path(file), choices)
        asked = choices.question if choices.asks else ""
        return to_html(Path(file), outcomes, question=asked), to_json(Path(file), outcomes, question=asked)

    with gradio.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(_CLEARED_EVERY_SECONDS, KEPT_SECONDS)
    ) as page:
        gradio.HTML(to_heading(TITLE, list(by_name)), elem_classes="ev-title")
        with gradio.Row():
            with gradio.Column(scale=2, min_width=300):
                inputs = [*_inputs(gradio, checkpoints), *_decoding(gradio, checkpoints[0])]
                button = gradio.Button("Caption", variant="primary")
            with gradio.Column(scale=5, min_width=300):
                result = gradio.HTML(to_notice(EMPTY), elem_id="result")
                with gradio.Accordion("As JSON", open=False):
                    record = gradio.JSON(show_label=False)
        gradio.on(
            [button.click, inputs[1].submit, inputs[2].submit],
            caption,
            inputs,
            [result, record],
            api_name="caption",
            concurrency_limit=1,
        )
    return page.queue(max_size=_MOST_WAITING)


def look(gradio: Any) -> dict[str, Any]:
    """Return the arguments of `launch` that give the page its looks. Fonts are those of the reader's machine."""
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    theme = gradio.themes.Default(primary_hue="blue", font=_FONTS, font_mono=_MONO_FONTS).set(
        # Gradio's own is too pale to read.
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
    )
    return {"theme": theme, "css": style}


def _inputs(gradio: Any, checkpoints: Sequence[OpenCheckpoint]) -> list[Any]:
    """File, question, prompt, and checkpoints."""
    names = [checkpoint.name for checkpoint in checkpoints]
    refusals = [reason for checkpoint in checkpoints if (reason := checkpoint.asks_not)]
    asks = len(refusals) < len(names)
    file = gradio.File(label="Video or image", height=150)
    _refuse_addresses(gradio, file)
    return [
        file,
        gradio.Textbox(
            "",
            label="Question (optional)",
            info="Is answered in place of a caption." if asks else f"These checkpoints answer none: {refusals[0]}",
            placeholder="What is he doing?" if asks else "",
            interactive=asks,
            max_length=MOST_CHARACTERS,
        ),
        gradio.Textbox(
            "",
            label="Prompt (optional)",
            info="Text that every caption continues. Without effect beside a question.",
            placeholder="a video of",
            max_length=MOST_CHARACTERS,
        ),
        gradio.CheckboxGroup(names, value=names, label="Checkpoints", visible=len(names) > 1),
    ]


def _refuse_addresses(gradio: Any, field: Any) -> None:
    """Take uploads only: Gradio would also download what a program names by an address."""
    keep = field.async_move_resource_to_block_cache

    async def keep_upload(path: Any) -> Any:
        if "://" in str(path):
            raise gradio.Error("Give a file, not an address.", print_exception=False)
        return await keep(path)

    field.async_move_resource_to_block_cache = keep_upload


def _decoding(gradio: Any, first: OpenCheckpoint) -> list[Any]:
    """How to decode, as the first checkpoint was configured."""
    own = first.config.generation
    beams = min(own.num_beams, MOST_BEAMS)
    temperature = min(max(own.temperature, LEAST), MOST_TEMPERATURE)
    with gradio.Accordion("Decoding", open=False):
        return [
            gradio.Slider(1, MOST_CAPTIONS, value=1, step=1, label="Captions", info="At most as many as beams."),
            gradio.Slider(1, MOST_BEAMS, value=beams, step=1, label="Beams", info="1 is greedy."),
            gradio.Slider(
                0, MOST_TOKENS, value=0, step=1, label="Longest caption, in tokens", info="0: as configured."
            ),
            gradio.Checkbox(own.do_sample, label="Sample instead of beam search"),
            gradio.Slider(LEAST, MOST_TEMPERATURE, value=temperature, step=0.01, label="Temperature of sampling"),
            gradio.Slider(LEAST, 1, value=max(own.top_p, LEAST), step=0.01, label="Top-p of sampling"),
            gradio.Number(first.config.seed, precision=0, minimum=0, maximum=MOST_SEED, label="Seed of sampling"),
        ]
