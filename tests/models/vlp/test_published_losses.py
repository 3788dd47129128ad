"""Losses, queues, teacher and gradients of BLIP, ALBEF and CLIP under ELIP, against its published code."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from vlp_case import CLIP, MATCHING, ClipCase, VlpCase, cases_of

from evlvideo.models.vlp.hosts.clip import clip_text_features, clip_tokens
from evlvideo.models.vlp.hosts.matching import clip_features
from evlvideo.models.vlp.hosts.published import published_weights
from evlvideo.models.vlp.negatives import negative_weights

every_matching_case = pytest.mark.parametrize("directory", cases_of(MATCHING), ids=lambda path: path.name)
every_clip_case = pytest.mark.parametrize("directory", cases_of(CLIP), ids=lambda path: path.name)
LANGUAGE = {"BLIP": "loss_lm", "ALBEF": "loss_mlm"}


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@every_matching_case
def test_losses_are_the_published_ones(directory: Path) -> None:
    case = VlpCase(directory)
    losses = case.losses(case.pretraining())
    near(losses["contrast"], case.expected["loss_itc"])
    near(losses["matching"], case.expected["loss_itm"])
    near(losses["language"], case.expected[LANGUAGE[case.host]])
    near(losses["loss"], losses["contrast"] + losses["matching"] + losses["language"])


@every_matching_case
def test_the_model_sees_pruned_images_and_its_teacher_whole_ones(directory: Path) -> None:
    case = VlpCase(directory)
    pretraining = case.pretraining()
    pretraining.before_step()
    states = pretraining.host.text_states(case.batch["input_ids"], case.batch["attention_mask"])
    near(states, case.expected["text_embeds"], 1e-4)
    tokens = pretraining.host.image_tokens(case.batch["pixel_values"], case.guidance, states[:, 0])
    near(tokens[:, 0], case.expected["image_embeds"], 1e-4)
    taught = pretraining.teacher.image_tokens(case.batch["pixel_values"])
    near(taught[:, 0], case.expected["image_embeds_momentum"], 1e-4)


@every_matching_case
def test_queues_and_teacher_after_a_step_are_the_published_ones(directory: Path) -> None:
    case = VlpCase(directory)
    pretraining = case.pretraining()
    case.losses(pretraining)
    near(pretraining.queue.images.T, case.expected["image_queue_after"])
    near(pretraining.queue.texts.T, case.expected["text_queue_after"])
    assert pretraining.queue.place == case.sizes["queue_ptr_after"]
    near(pretraining.teacher.vision_proj.weight, case.expected["momentum_after:vision_proj_m.weight"])


@every_matching_case
def test_weights_of_negatives_are_the_published_ones(directory: Path) -> None:
    case = VlpCase(directory)
    pretraining = case.pretraining()
    pretraining.before_step()
    states = pretraining.host.text_states(case.batch["input_ids"], case.batch["attention_mask"])
    seen = pretraining._seen(pretraining.host, case.batch["pixel_values"], states, torch.Generator())
    teacher_states = pretraining.teacher.text_states(case.batch["input_ids"], case.batch["attention_mask"])
    taught = pretraining._seen(pretraining.teacher, case.batch["pixel_values"], teacher_states, torch.Generator())
    _, similarities = pretraining._contrast(seen, taught, case.sizes["alpha"])
    own, floor = torch.arange(len(states)), pretraining.host.negative_floor
    for found, name in zip(similarities, ("weights_negative_texts", "weights_negative_images"), strict=True):
        near(negative_weights(found, own, floor), case.expected[name])


@every_matching_case
def test_gradients_are_the_published_ones(directory: Path) -> None:
    case = VlpCase(directory)
    pretraining = case.pretraining()
    case.losses(pretraining)["loss"].backward()
    expected = {name.removeprefix("grad:"): value for name, value in case.expected.items() if name.startswith("grad:")}
    assert expected
    ours = published_weights(expected)
    assert len(ours) == len(expected)
    weights = {"temp": pretraining.temp, **dict(pretraining.host.named_parameters())}
    for name, gradient in ours.items():
        torch.testing.assert_close(
            weights[name].grad, gradient, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@every_clip_case
def test_clip_features_and_loss_are_the_published_ones(directory: Path) -> None:
    case = ClipCase(directory)
    pretraining = case.clip_pretraining()
    pixels = case.images.requires_grad_()
    batch = {"pixel_values": pixels.unsqueeze(1), "input_ids": case.inputs["input_ids"]}
    mask = torch.ones_like(batch["input_ids"])
    texts = clip_text_features(pretraining.host, batch["input_ids"], mask)
    near(texts, case.expected["text_features"])
    for guidance, name in ((case.guidance, "image_features"), (None, "image_features_full")):
        tokens = clip_tokens(pretraining.host, batch["pixel_values"], guidance, texts)
        near(clip_features(pretraining.host.visual_projection, tokens), case.expected[name])
    loss = pretraining(**batch, attention_mask=mask)["loss"]
    near(loss, case.expected["loss"])
    loss.backward()
    host, expected = pretraining.host, case.expected
    near(pixels.grad, expected["grad_pixel_values"], 1e-4)
    near(host.text_projection.weight.grad.T, expected["grad_text_projection"], 1e-4)
    near(host.visual_projection.weight.grad.T, expected["grad_visual_proj"], 1e-4)
    near(host.logit_scale.grad, expected["grad_logit_scale"], 1e-4)
