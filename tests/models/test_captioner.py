"""The captioner: what is trained, what it knows of frames, and generation."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import (
    END,
    NUM_MERGED_TOKENS,
    MakeConfig,
    MakeModel,
    fill,
    open_gates,
    pixels,
    shuffled,
    text_batch,
)
from transformers import AutoModelForCausalLM

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning

CONTEXTS: list[dict[str, Any]] = [
    {"contextualizer": "in_tower", "fusion": "mean"},
    {"contextualizer": "in_tower", "fusion": "mean_tokens"},
    {"contextualizer": "in_tower", "fusion": "concat"},
    {"contextualizer": "merged", "fusion": "mean_tokens"},
    {"contextualizer": "merged", "fusion": "concat"},
]
FORMS = [{"fusion": "mean"}, {"fusion": "mean_tokens"}, {"fusion": "concat"}, *CONTEXTS]


def named(form: dict[str, Any]) -> str:
    return "-".join(str(value) for value in form.values())


every_form = pytest.mark.parametrize("form", FORMS, ids=named)
every_context = pytest.mark.parametrize("form", CONTEXTS, ids=named)
order_free = pytest.mark.parametrize(
    "form", [form for form in FORMS if form["fusion"] != "concat"], ids=named
)  # concatenation puts frames in order


@every_form
def test_one_frame_gives_the_image_models_prompt_bit_for_bit(make_model: MakeModel, form: dict[str, Any]) -> None:
    image = pixels(2, 1)
    assert torch.equal(make_model(**form).encode(image), make_model().encode(image))


@every_form
def test_a_still_clip_gives_the_image_models_tokens(make_model: MakeModel, form: dict[str, Any]) -> None:
    image = pixels(2, 1)
    prompt = make_model(**form).encode(image.expand(-1, 3, -1, -1, -1))
    expected = make_model().encode(image)
    if form["fusion"] == "concat":
        expected = expected.repeat(1, 3, 1)
    torch.testing.assert_close(prompt, expected, rtol=1e-4, atol=1e-5)


@every_form
def test_number_of_soft_tokens(make_model: MakeModel, form: dict[str, Any]) -> None:
    frames = 3 if form["fusion"] == "concat" else 1
    assert make_model(**form).encode(pixels(2, 3)).shape == (2, frames * NUM_MERGED_TOKENS, 40)


@every_form
def test_logits_cover_soft_prompt_and_text(make_model: MakeModel, form: dict[str, Any]) -> None:
    frames = 3 if form["fusion"] == "concat" else 1
    out = make_model(**form)(pixels(2, 3), **text_batch())
    assert out.logits.shape == (2, frames * NUM_MERGED_TOKENS + 7, 120)
    assert out.loss.shape == ()


def test_mean_averages_the_towers_features(make_model: MakeModel) -> None:
    model = make_model(fusion="mean")
    features = model.vision_tower(pixels(2, 3))
    averaged = (features[:, :1] + features[:, 1:2] + features[:, 2:]) / 3
    torch.testing.assert_close(model.encode(pixels(2, 3)), model.features_to_prompt(averaged))


def test_mean_tokens_averages_the_frames_prompts(make_model: MakeModel) -> None:
    model = make_model(fusion="mean_tokens")
    alone = [model.encode(pixels(2, 3)[:, [frame]]) for frame in range(3)]
    torch.testing.assert_close(model.encode(pixels(2, 3)), torch.stack(alone).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_concat_strings_the_frames_prompts_together(make_model: MakeModel) -> None:
    model = make_model(fusion="concat")
    alone = [model.encode(pixels(2, 3)[:, [frame]]) for frame in range(3)]
    torch.testing.assert_close(model.encode(pixels(2, 3)), torch.cat(alone, dim=1), rtol=1e-4, atol=1e-5)


@every_context
def test_closed_contextualizer_changes_no_bit(make_model: MakeModel, form: dict[str, Any]) -> None:
    without = make_model(fusion=form["fusion"])
    assert torch.equal(make_model(**form).encode(pixels(2, 3)), without.encode(pixels(2, 3)))


@every_context
def test_closed_contextualizer_with_positions_changes_no_bit(make_model: MakeModel, form: dict[str, Any]) -> None:
    without = make_model(fusion=form["fusion"])
    assert torch.equal(make_model(**form, frame_positions=True).encode(pixels(2, 3)), without.encode(pixels(2, 3)))


@every_context
def test_open_contextualizer_changes_the_prompt(make_model: MakeModel, form: dict[str, Any]) -> None:
    model = make_model(**form)
    before = model.encode(pixels(2, 3))
    open_gates(model)
    assert (model.encode(pixels(2, 3)) - before).abs().max() > 0.01


@order_free
def test_shuffled_frames_do_not_change_what_is_seen(make_model: MakeModel, form: dict[str, Any]) -> None:
    model = open_gates(make_model(**form))
    prompt, mixed = (model.encode(clip) for clip in (pixels(2, 4), shuffled(pixels(2, 4))))  # type: ignore[operator]
    torch.testing.assert_close(mixed, prompt, rtol=1e-4, atol=1e-4)


@order_free
def test_shuffled_frames_do_not_change_the_caption(make_model: MakeModel, form: dict[str, Any]) -> None:
    model = open_gates(make_model(**form))
    captions = [model.generate(clip, max_new_tokens=6) for clip in (pixels(2, 4), shuffled(pixels(2, 4)))]  # type: ignore[operator]
    assert torch.equal(*captions)


@every_context
def test_trained_positions_tell_shuffled_frames(make_model: MakeModel, form: dict[str, Any]) -> None:
    model = open_gates(make_model(**form, frame_positions=True))
    prompt, mixed = (model.encode(clip) for clip in (pixels(2, 4), shuffled(pixels(2, 4))))  # type: ignore[operator]
    if form["fusion"] == "concat":
        mixed = mixed.unflatten(1, (4, -1))[:, [1, 3, 0, 2]].flatten(1, 2)  # the same frames in the same places
    assert (mixed - prompt).abs().max() > 0.01


def test_contextualizer_blocks_are_the_configurations(make_model: MakeModel) -> None:
    model = make_model(contextualizer="in_tower", contextualizer_blocks=[1])
    gates = [name for name, _ in model.named_parameters() if name.endswith("alpha")]
    assert gates == ["vision_tower.vit.blocks.1.temporal_merge.alpha"]


def test_max_frames_bounds_positions_only(make_model: MakeModel) -> None:
    form = {"contextualizer": "merged", "fusion": "concat", "max_frames": 2}
    assert make_model(**form).encode(pixels(1, 3)).shape[0] == 1
    with pytest.raises(UserError, match="3 frames"):
        make_model(**form, frame_positions=True).encode(pixels(1, 3))


# Teacher-forced pass


def test_soft_prompt_stands_for_frames(make_model: MakeModel) -> None:
    model = make_model()
    by_frames = model(pixels(2, 3), **text_batch())
    by_prompt = model(soft_prompt=model.encode(pixels(2, 3)), **text_batch())
    assert torch.equal(by_frames.logits, by_prompt.logits)


def test_several_texts_of_a_clip_share_its_prompt(make_model: MakeModel) -> None:
    model, clips = make_model(fusion="mean"), pixels(2, 3)
    texts = text_batch(4)
    shared = model(clips, **texts).logits
    torch.testing.assert_close(shared, model(clips.repeat_interleave(2, dim=0), **texts).logits)


def test_no_labels_no_loss(make_model: MakeModel) -> None:
    text = text_batch()
    del text["labels"]
    assert make_model()(pixels(2, 1), **text).loss is None


def test_padding_does_not_change_the_loss(make_model: MakeModel) -> None:
    model, text = make_model(), text_batch()
    expected = model(pixels(2, 1), **text).loss
    text["input_ids"] = text["input_ids"].masked_fill(text["attention_mask"] == 0, 77)
    torch.testing.assert_close(model(pixels(2, 1), **text).loss, expected)


def test_text_sees_the_clip_and_not_what_follows(make_model: MakeModel) -> None:
    model, text = make_model(), text_batch()
    logits = model(pixels(2, 1), **text).logits
    text["input_ids"][0, 4] = 33
    changed = model(pixels(2, 1), **text).logits
    same = (changed[0] == logits[0]).all(dim=-1)
    assert same.tolist() == [True] * (NUM_MERGED_TOKENS + 4) + [False] * 3
    assert not torch.allclose(model(pixels(2, 1) + 0.5, **text).logits[0, -1], changed[0, -1], atol=1e-3)


def test_kept_logits_give_the_same_loss(make_model: MakeModel) -> None:
    model, text = make_model(), text_batch()
    whole, kept = model(pixels(2, 1), **text), model(pixels(2, 1), **text, logits_to_keep=8)
    assert kept.logits.shape == (2, 8, 120)
    torch.testing.assert_close(kept.loss, whole.loss)


def test_four_dimensional_frames_are_a_user_error(make_model: MakeModel) -> None:
    with pytest.raises(UserError, match="video of one frame"):
        make_model()(pixels(2, 1)[:, 0], **text_batch())


def test_towers_in_bfloat16_run_and_what_is_trained_stays_float32(make_config: MakeConfig) -> None:
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        config = make_config(contextualizer="in_tower")
        model = EvlVideoForCaptioning.from_towers(config, tower_dtype=dtype)
        assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
        assert {p.dtype for p in model.parameters() if not p.requires_grad} == {dtype}
        loss = model(pixels(2, 3), **text_batch()).loss
        loss.backward()
        assert model.connector.projection.weight.grad.isfinite().all()
        losses.append(loss.detach())
    torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0)


def test_towers_in_bfloat16_generate(make_config: MakeConfig) -> None:
    model = EvlVideoForCaptioning.from_towers(make_config(), tower_dtype=torch.bfloat16)
    assert model.generate(pixels(2, 3), max_new_tokens=5, num_beams=3).shape[0] == 2


def test_number_of_items_reaches_the_loss(make_model: MakeModel) -> None:
    model, text = make_model(), text_batch()
    own = model(pixels(2, 1), **text).loss
    torch.testing.assert_close(model(pixels(2, 1), **text, num_items_in_batch=22).loss, own / 2)


# Towers


def test_language_model_that_is_not_there_is_a_user_error(make_config: MakeConfig, tmp_path: Path) -> None:
    missing = str(tmp_path / "no-such-llm")
    with pytest.raises(UserError, match=re.escape(missing)):
        EvlVideoForCaptioning.from_towers(make_config(language_model=missing))


def test_folder_that_is_no_language_model_is_a_user_error(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="language model"):
        EvlVideoForCaptioning.from_towers(make_config(language_model=str(tmp_path)))


def test_language_model_of_another_width_is_projected_to(make_config: MakeConfig, tmp_path: Path) -> None:
    from transformers import OPTConfig

    sizes = {"ffn_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 64}
    language = AutoModelForCausalLM.from_config(
        OPTConfig(vocab_size=50, hidden_size=64, word_embed_proj_dim=24, **sizes)
    )
    fill(language).save_pretrained(tmp_path)  # type: ignore[operator]
    model = EvlVideoForCaptioning.from_towers(make_config(language_model=str(tmp_path), end_token_id=END))
    assert model.encode(pixels(1, 1)).shape[-1] == 24
    assert model.generate(pixels(1, 1), max_new_tokens=2, min_new_tokens=2).shape == (1, 2)
