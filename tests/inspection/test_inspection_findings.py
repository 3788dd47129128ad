"""The verdict: which sentence stands for what."""

import math
from dataclasses import replace

import pytest

from evlvideo.inspection.findings import findings_of, place_of_collapse
from evlvideo.inspection.records import ClipsSeen, Gate, LayerSpread, LoraNorms, PartWeights, WeightsSeen
from evlvideo.models.tokens.prompt_statistics import PromptSpread

WEIGHTS = WeightsSeen(
    parts=[PartWeights("connector", 10, 10, 10, "float32", 0.1, 0)], norms=[], words_norm=3.0, gates=[], lora=None
)


def layer(name: str, between: float, *, within: float = 3.0, norm: float = 10.0, tokens: int = 4) -> LayerSpread:
    words = 3.0 if name == "language_projection" else None
    return LayerSpread(name, tokens, PromptSpread(between, within, norm, words))


def seen(*layers: LayerSpread, clips: int = 8) -> ClipsSeen:
    return ClipsSeen("mini:validate", "videos", clips, {}, list(layers), None)


HEALTHY = (layer("vision_tower", 5.0), layer("connector.bert.encoder.layer.0", 4.0), layer("language_projection", 2.0))
COLLAPSED = (
    layer("vision_tower", 5.0),
    layer("connector.bert.encoder.layer.0", 4.0),
    layer("connector.bert.encoder.layer.1", 1.0),
    layer("connector.bert.encoder.layer.2", 0.02),
    layer("language_projection", 0.0015),
)


def texts(weights: WeightsSeen = WEIGHTS, clips: ClipsSeen | None = None) -> list[str]:
    return [finding.text for finding in findings_of(weights, clips)]


def test_a_healthy_checkpoint_is_said_to_be_one() -> None:
    (finding,) = findings_of(WEIGHTS, seen(*HEALTHY))
    assert not finding.is_fault
    assert (
        finding.text == "The soft prompts of different clips differ by 20 % of their norm, and all weights are finite."
    )


def test_without_data_the_verdict_says_what_is_not_known() -> None:
    assert texts() == ["All weights are finite. Whether prompts differ between clips takes clips: --data."]


def test_a_collapse_is_a_fault_with_its_numbers_and_its_place() -> None:
    (finding,) = findings_of(WEIGHTS, seen(*COLLAPSED))
    assert finding.is_fault
    assert finding.text == (
        "The soft prompts of different clips are nearly equal: they lie 0.0015 apart at a norm of 10, 0.015 % of it, "
        "and 1 % is the least for prompts that tell clips apart. The connector has collapsed between layer 2 and "
        "layer 3."
    )


def test_a_dip_that_later_layers_make_good_is_not_the_place() -> None:
    layers = [layer("vision_tower", 5.0), layer("connector.0", 0.01), layer("connector.1", 2.0)]
    assert place_of_collapse([*layers, layer("language_projection", 0.0)]) == (
        "The connector has collapsed between 2 and soft prompt."
    )


def test_steps_that_no_picture_has_reached_are_not_the_place() -> None:
    queries = layer("connector.qformer.layernorm", 1e-9)
    layers = [layer("vision_tower", 5.0), queries, layer("connector.qformer.encoder.layer.0", 1.0)]
    assert place_of_collapse([*layers, layer("language_projection", 0.0)]) == (
        "The connector has collapsed between qformer layer 1 and soft prompt."
    )
    dead = [layer("vision_tower", 5.0), queries, layer("connector.qformer.encoder.layer.0", 0.01)]
    assert place_of_collapse([*dead, layer("language_projection", 0.0)]) == (
        "The connector has collapsed between vision tower and qformer layer 1."
    )


def test_pictures_that_are_alike_are_no_collapse_of_the_connector() -> None:
    found = place_of_collapse([layer("vision_tower", 0.0), layer("language_projection", 0.0)])
    assert "are these different pictures?" in found


def test_weights_that_are_not_finite_are_a_fault_before_all_else() -> None:
    broken = replace(WEIGHTS, parts=[replace(WEIGHTS.parts[0], not_finite=1200)], gates=[Gate("a", 0.0, None)])
    first, second = findings_of(broken, None)
    assert first.is_fault and not second.is_fault
    assert first.text == "Weights are infinite or not a number (1,200 of the connector): the checkpoint is broken."


def test_prompts_that_are_not_finite_are_a_fault() -> None:
    (finding,) = findings_of(WEIGHTS, seen(layer("language_projection", math.nan, norm=math.nan)))
    assert finding.is_fault


def test_tokens_that_are_alike_within_a_clip_are_named() -> None:
    found = texts(clips=seen(*HEALTHY[:2], layer("language_projection", 2.0, within=0.01)))
    assert found[1:] == ["The 4 soft tokens of a clip are nearly equal: they say no more than one."]
    assert len(texts(clips=seen(*HEALTHY[:2], layer("language_projection", 2.0, within=0.0, tokens=1)))) == 1


@pytest.mark.parametrize(
    ("norm", "text"),
    [
        (60.0, "Soft tokens are 20 times as long as word embeddings."),
        (0.1, "Word embeddings are 30 times as long as soft tokens."),
    ],
)
def test_prompts_far_from_words_are_named(norm: float, text: str) -> None:
    layers = (*HEALTHY[:2], layer("language_projection", 0.2 * norm, within=0.5 * norm, norm=norm))
    found = findings_of(WEIGHTS, seen(*layers))
    assert [finding.text for finding in found][1:] == [text]
    assert not any(finding.is_fault for finding in found)


def test_one_clip_says_nothing_of_others() -> None:
    found = texts(clips=seen(*COLLAPSED, clips=1))
    assert found[0] == "All weights are finite."
    assert "takes at least 2" in found[1]


def test_bad_clips_are_named() -> None:
    clips = replace(seen(*HEALTHY), bad={"video7": "broken", "video9": "empty"})
    assert "2 clips could not be read: video7, video9." in texts(clips=clips)


def test_what_was_not_trained_is_named() -> None:
    untrained = replace(WEIGHTS, gates=[Gate("a", 0.0, 0.0)], lora=LoraNorms(4, 0.0, 0.0, "q_proj"))
    assert texts(untrained)[1:] == [
        "The contextualizer's gate is closed, so that it adds nothing: it was not trained.",
        "The LoRA changes nothing: it was not trained.",
    ]
    several = replace(WEIGHTS, gates=[Gate("a", 0.0, None), Gate("b", 0.1, None), Gate("c", 0.0, 0.2)])
    assert texts(several)[1:] == ["1 of 3 contextualizers have a closed gate and add nothing."]
