"""The steps of every connector, and the tokens after each."""

import pytest
import torch
from tiny_architecture import CONNECTORS, VARIANTS, real_model, tiny_config
from torch import Tensor

from evlvideo.inspection.findings import step_title
from evlvideo.inspection.layers import by_clip, outputs_of, steps_of
from evlvideo.models.captioner import EvlVideoForCaptioning


def outputs(model: EvlVideoForCaptioning, clips: int = 2) -> dict[str, Tensor]:
    pixels = torch.randn(clips, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), outputs_of(steps_of(model)) as found:
        model.encode(pixels)
    return dict(found)


@pytest.mark.parametrize(
    ("variant", "titles"),
    [
        ("image", ["projection", "embeddings", "layer 1", "layer 2"]),
        ("merged", ["projection", "embeddings", "layer 1", "layer 2", "contextualizer"]),
        ("blip2", ["qformer layernorm", "qformer layer 1", "qformer layer 2"]),
        ("video_coca", ["ln queries", "attention", "ln post"]),
        ("linear", ["connector"]),
        ("average_pool", ["connector"]),
    ],
)
def test_steps_are_the_layers_and_what_stands_beside_them(variant: str, titles: list[str]) -> None:
    model = real_model(tiny_config(**(VARIANTS | CONNECTORS)[variant])).eval()
    assert [step_title(name) for name in outputs(model)] == ["ln vision", *titles, "soft prompt"]


@pytest.mark.parametrize("variant", [*VARIANTS, *CONNECTORS])
def test_the_last_step_is_the_soft_prompt_of_every_connector(variant: str) -> None:
    model = real_model(tiny_config(**(VARIANTS | CONNECTORS)[variant])).eval()
    found = outputs(model)
    names = list(found)
    assert names[0] == "ln_vision" and names[-1] == "language_projection"
    assert len(names) >= 3
    pixels = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(found["language_projection"], model.encode(pixels))


def test_the_hooks_are_gone_afterwards() -> None:
    model = real_model(tiny_config()).eval()
    found = outputs(model)
    kept = {name: value.clone() for name, value in found.items()}
    model.encode(torch.zeros(1, 3, 3, 32, 32))
    assert all(torch.equal(found[name], value) for name, value in kept.items())
    assert not any(module._forward_hooks for module in model.modules())


def test_tokens_of_all_frames_are_the_clips() -> None:
    frames = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    torch.testing.assert_close(by_clip(frames, 2), frames.flatten(1, 2))
    torch.testing.assert_close(by_clip(frames.flatten(0, 1), 2), frames.flatten(1, 2))


def test_what_is_not_of_the_clips_is_left_out() -> None:
    assert by_clip(torch.zeros(1, 6, 4), 2) is None
    assert by_clip(torch.zeros(2, 4), 2) is None


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("connector.bert.encoder.layer.0", "layer 1"),
        ("connector.image_qformer.encoder.layer.11", "image qformer layer 12"),
        ("connector.mlp.2", "mlp 3"),
        ("connector", "connector"),
        ("vision_tower", "vision tower"),
        ("language_projection", "soft prompt"),
    ],
)
def test_steps_have_names_for_people(name: str, title: str) -> None:
    assert step_title(name) == title
