"""The verdict on a checkpoint, in plain words."""

import math
from collections.abc import Iterator, Sequence

from evlvideo.errors import first_ten
from evlvideo.inspection.records import ClipsSeen, Finding, Gate, LayerSpread, LoraNorms, PartWeights, WeightsSeen
from evlvideo.models.tokens.prompt_statistics import ALIKE, PromptSpread

_EQUAL = 1e-6
"""Share of the norm below which tokens are equal but for rounding: a step that has not seen any picture, as the norm of
learned queries."""


def findings_of(weights: WeightsSeen, clips: ClipsSeen | None) -> list[Finding]:
    """Judge what was seen; faults come first."""
    found = [*_about_weights(weights.parts), *_about_gates(weights.gates), *_about_lora(weights.lora)]
    found += [*_about_clips(clips)] if clips is not None else []
    faults = [finding for finding in found if finding.is_fault]
    if not faults:
        faults = [_no_fault(clips)]
    return faults + [finding for finding in found if not finding.is_fault]


def step_title(name: str) -> str:
    """Name a step for people: `connector.bert.encoder.layer.0` is layer 1, and the last one is the soft prompt."""
    if name == "language_projection":
        return "soft prompt"
    parts = [part for part in name.split(".") if part not in ("connector", "bert", "encoder")]
    words = [str(int(part) + 1) if part.isdigit() else part.replace("_", " ") for part in parts]
    return " ".join(words) or name


def place_of_collapse(layers: Sequence[LayerSpread]) -> str:
    """Say after which step the clips have become alike for good."""
    seeing = [layer for layer in layers[:-1] if layer.spread.share >= _EQUAL] + [layers[-1]]
    apart = [place for place, layer in enumerate(seeing) if not layer.spread.is_alike]
    if not apart:
        return "They are so from the vision tower's output on: are these different pictures?"
    before, after = (step_title(seeing[place].name) for place in (apart[-1], apart[-1] + 1))
    return f"The connector has collapsed between {before} and {after}."


def _about_weights(parts: Sequence[PartWeights]) -> Iterator[Finding]:
    broken = {part.name.replace("_", " "): part.not_finite for part in parts if part.not_finite}
    if broken:
        listed = ", ".join(f"{count:,} of the {name}" for name, count in broken.items())
        yield Finding(f"Weights are infinite or not a number ({listed}): the checkpoint is broken.", is_fault=True)


def _about_gates(gates: Sequence[Gate]) -> Iterator[Finding]:
    closed = sum(gate.is_closed for gate in gates)
    if closed == 1 and len(gates) == 1:
        yield Finding("The contextualizer's gate is closed, so that it adds nothing: it was not trained.", False)
    elif closed:
        yield Finding(f"{closed} of {len(gates)} contextualizers have a closed gate and add nothing.", False)


def _about_lora(lora: LoraNorms | None) -> Iterator[Finding]:
    if lora is not None and lora.largest == 0:
        yield Finding("The LoRA changes nothing: it was not trained.", is_fault=False)


def _about_clips(clips: ClipsSeen) -> Iterator[Finding]:
    if clips.bad:
        yield Finding(f"{len(clips.bad)} clips could not be read: {first_ten(list(clips.bad))}.", is_fault=False)
    prompt, tokens = clips.prompt, clips.layers[-1].tokens
    if not math.isfinite(prompt.norm):
        yield Finding("Soft prompts are infinite or not a number.", is_fault=True)
        return
    if clips.clips < 2:
        yield Finding("One clip was seen; whether prompts differ between clips takes at least 2.", is_fault=False)
    elif prompt.is_alike:
        yield Finding(
            f"The soft prompts of different clips are nearly equal: they lie {prompt.between:.2g} apart at a norm of "
            f"{prompt.norm:.2g}, {_percent(prompt.share)} of it, and {_percent(ALIKE)} is the least for prompts that "
            f"tell clips apart. {place_of_collapse(clips.layers)}",
            is_fault=True,
        )
    if tokens > 1 and prompt.within < ALIKE * prompt.norm:
        yield Finding(
            f"The {tokens} soft tokens of a clip are nearly equal: they say no more than one.", is_fault=False
        )
    yield from _about_length(prompt)


def _about_length(prompt: PromptSpread) -> Iterator[Finding]:
    if not prompt.is_far_from_words or not prompt.words_norm:
        return
    times = prompt.norm / prompt.words_norm
    text = (
        f"Soft tokens are {times:.0f} times as long as word embeddings."
        if times > 1
        else f"Word embeddings are {1 / times:.0f} times as long as soft tokens."
        if times
        else "Soft tokens are 0."
    )
    yield Finding(text, is_fault=False)


def _no_fault(clips: ClipsSeen | None) -> Finding:
    if clips is None:
        return Finding("All weights are finite. Whether prompts differ between clips takes clips: --data.", False)
    if clips.clips < 2:
        return Finding("All weights are finite.", False)
    return Finding(
        f"The soft prompts of different clips differ by {_percent(clips.prompt.share)} of their norm, and all weights "
        "are finite.",
        False,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
