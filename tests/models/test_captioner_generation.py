"""Generation: new tokens only, whatever the batch, the prompt and the way of decoding."""

from typing import Any

import pytest
import torch
from tiny_models import (
    BOS,
    PAD,
    MakeConfig,
    MakeModel,
    every_device,
    pixels,
)

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning


def test_generation_returns_new_tokens_only(make_model: MakeModel) -> None:
    model = make_model()
    tokens = model.generate(pixels(2, 3), max_new_tokens=6)
    assert tokens.shape == (2, 6)
    text = torch.cat([torch.full((2, 1), BOS), tokens], dim=1)
    logits = model(pixels(2, 3), input_ids=text, attention_mask=torch.ones_like(text)).logits
    assert torch.equal(logits[:, -7:-1].argmax(dim=-1), tokens)


def test_caption_of_a_clip_does_not_depend_on_the_batch(make_model: MakeModel) -> None:
    model = make_model()
    together = model.generate(pixels(3, 2), max_new_tokens=8)
    alone = [model.generate(pixels(3, 2)[[place]], max_new_tokens=8) for place in range(3)]
    assert torch.equal(together, torch.cat(alone))
    assert len({tuple(row) for row in together.tolist()}) == 3  # the clips do differ


def test_beams_of_a_clip_do_not_depend_on_the_batch(make_model: MakeModel) -> None:
    model = make_model()
    together = model.generate(pixels(2, 2), max_new_tokens=5, num_beams=3, num_return_sequences=3)
    alone = [
        model.generate(pixels(2, 2)[[place]], max_new_tokens=5, num_beams=3, num_return_sequences=3)
        for place in range(2)
    ]
    assert together.shape == (6, 5)
    assert torch.equal(together, torch.cat(alone))
    assert len({tuple(row) for row in together[:3].tolist()}) == 3


def test_generation_from_a_soft_prompt_is_that_from_frames(make_model: MakeModel) -> None:
    model = make_model()
    by_prompt = model.generate(soft_prompt=model.encode(pixels(2, 3)), max_new_tokens=6)
    assert torch.equal(by_prompt, model.generate(pixels(2, 3), max_new_tokens=6))


def test_caption_stops_at_its_end_and_is_filled_with_padding(make_model: MakeModel) -> None:
    model = make_model()
    free = model.generate(pixels(2, 2), max_new_tokens=8)
    end = int(free[0, 2])
    length = free[0].tolist().index(end) + 1
    assert end not in free[1].tolist()
    model.config.end_token_id = end
    stopped = model.generate(pixels(2, 2), max_new_tokens=8)
    assert stopped[0].tolist() == free[0, :length].tolist() + [PAD] * (8 - length)
    assert torch.equal(stopped[1], free[1])


def test_all_captions_ended_ends_generation(make_model: MakeModel) -> None:
    model = make_model()
    first = int(model.generate(pixels(1, 2), max_new_tokens=1))
    model.config.end_token_id = first
    assert model.generate(pixels(1, 2), max_new_tokens=8).tolist() == [[first]]
    assert model.generate(pixels(1, 2), max_new_tokens=8, min_new_tokens=4).shape[1] >= 4


@pytest.mark.parametrize("num_beams", [1, 3, 5])
@pytest.mark.parametrize("batch", [1, 3])
def test_several_beams_give_several_captions_of_every_clip(make_model: MakeModel, num_beams: int, batch: int) -> None:
    tokens = make_model().generate(
        pixels(batch, 2), max_new_tokens=6, min_new_tokens=2, num_beams=num_beams, num_return_sequences=num_beams
    )
    captions = [tuple(row) for row in tokens.tolist()]
    assert len(captions) == batch * num_beams
    assert all(len(set(captions[i * num_beams : (i + 1) * num_beams])) == num_beams for i in range(batch))


@pytest.mark.parametrize("top_p", [0.05, 1.0])
def test_nucleus_keeps_the_likeliest_tokens(make_model: MakeModel, top_p: float) -> None:
    model = make_model()
    torch.manual_seed(0)
    drawn = model.generate(pixels(1, 2), max_new_tokens=1, do_sample=True, top_p=top_p, num_return_sequences=60)
    likeliest = int(model.generate(pixels(1, 2), max_new_tokens=1))
    assert (set(drawn.flatten().tolist()) == {likeliest}) == (top_p < 0.1)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_fewest_tokens_are_held_with_beams_too(make_model: MakeModel, num_beams: int) -> None:
    model = make_model()
    model.config.end_token_id = int(model.generate(pixels(1, 2), max_new_tokens=1))
    tokens = model.generate(pixels(2, 2), max_new_tokens=6, min_new_tokens=3, num_beams=num_beams)
    assert model.config.end_token_id not in tokens[0, :3]
    assert tokens.shape[1] <= 6


@pytest.mark.parametrize("length", ["max_length", "min_length"])
def test_length_that_counts_the_prefix_is_a_user_error(make_model: MakeModel, length: str) -> None:
    with pytest.raises(UserError, match="count new tokens only"):
        make_model().generate(pixels(1, 2), **{length: 10})


def test_prompt_is_continued_and_not_returned(make_model: MakeModel) -> None:
    model = make_model()
    prompt = torch.tensor([71, 72, 6])
    tokens = model.generate(pixels(2, 2), prompt_ids=prompt, max_new_tokens=4)
    text = torch.cat([torch.tensor([[BOS, 71, 72, 6]] * 2), tokens], dim=1)
    logits = model(pixels(2, 2), input_ids=text, attention_mask=torch.ones_like(text)).logits
    assert tokens.shape == (2, 4)
    assert torch.equal(logits[:, -5:-1].argmax(dim=-1), tokens)


def test_every_clip_can_have_its_own_prompt(make_model: MakeModel) -> None:
    model = make_model()
    prompts = torch.tensor([[71, 72], [80, 81]])
    together = model.generate(pixels(2, 2), prompt_ids=prompts, max_new_tokens=4)
    alone = [model.generate(pixels(2, 2)[[i]], prompt_ids=prompts[i], max_new_tokens=4) for i in range(2)]
    assert torch.equal(together, torch.cat(alone))


def test_samples_are_several_and_follow_the_seed(make_model: MakeModel) -> None:
    model = make_model()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(model.generate(pixels(2, 2), max_new_tokens=5, do_sample=True, num_return_sequences=4))
    assert draws[0].shape == (8, 5)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@torch.no_grad()
def test_samples_come_from_the_whole_vocabulary(make_model: MakeModel) -> None:
    model = make_model()
    prompt = model.encode(pixels(1, 2))
    logits = model(soft_prompt=prompt, input_ids=torch.tensor([[BOS]]), attention_mask=torch.ones(1, 1).long()).logits
    rank = logits[0, -1].argsort(descending=True).argsort()
    torch.manual_seed(0)
    drawn = model.generate(soft_prompt=prompt, max_new_tokens=1, do_sample=True, num_return_sequences=500)
    # transformers' own default keeps the 50 likeliest.
    beyond = (rank[drawn.flatten()] >= 50).float().mean()
    expected = logits[0, -1].softmax(dim=-1)[rank >= 50].sum()
    assert expected > 0.02
    assert beyond == pytest.approx(float(expected), abs=0.05)


def test_generation_keeps_no_graph(make_model: MakeModel) -> None:
    model = make_model()
    out = model.generate(pixels(1, 2), max_new_tokens=3, return_dict_in_generate=True, output_logits=True)
    assert not out.logits[0].requires_grad


def test_generation_uses_the_configurations_special_tokens(make_model: MakeModel) -> None:
    model = make_model(bos_token_id=9)
    text = torch.tensor([[9]] * 2)
    logits = model(pixels(2, 2), input_ids=text, attention_mask=torch.ones_like(text)).logits
    assert torch.equal(model.generate(pixels(2, 2), max_new_tokens=1)[:, 0], logits[:, -1].argmax(dim=-1))


@every_device
@pytest.mark.parametrize("generation", [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 3}], ids=str)
@pytest.mark.parametrize("prompt_ids", [None, torch.tensor([70, 71])], ids=["", "prompt"])
def test_captions_are_generated_in_half_precision(
    make_config: MakeConfig, generation: dict[str, Any], prompt_ids: torch.Tensor | None, device: str
) -> None:
    config = make_config(contextualizer="in_tower")
    model = EvlVideoForCaptioning.from_towers(config, tower_dtype=torch.bfloat16).to(device)
    tokens = model.generate(pixels(2, 3).to(device), prompt_ids=prompt_ids, max_new_tokens=5, **generation)
    assert tokens.device.type == device
    assert tokens.shape[0] == 2 * generation.get("num_return_sequences", 1)
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < 120
