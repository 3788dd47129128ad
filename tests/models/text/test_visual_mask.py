"""Who sees whom in the language model: training, scoring and generation see one mask, padding is never seen."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import FAMILIES, QUESTIONS, make_family, padded
from tiny_models import BOS, END, PAD, MakeConfig, MakeModel, chirp, half_towers, pixels, text_batch
from torch import Tensor

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.choices import VISUAL_MASKS
from evlvideo.models.published.evlgen import to_published

CAUSAL, FULL, WITH_QUESTION = VISUAL_MASKS
OPENING = [80, 81, 82]
PREFIX = [70, 71]
MakeMasked = Callable[..., EvlVideoForCaptioning]
every_mask = pytest.mark.parametrize("mask", VISUAL_MASKS)
open_masks = pytest.mark.parametrize("mask", [FULL, WITH_QUESTION])
every_family = pytest.mark.parametrize("family", FAMILIES)
every_attention = pytest.mark.parametrize("attention", ["sdpa", "eager"])


@pytest.fixture
def masked(make_config: MakeConfig) -> MakeMasked:
    """Build a captioner of a family, with a mask, and with a text before the soft prompt."""

    def make(family: str, mask: str, attention: str = "sdpa", **changes: Any) -> EvlVideoForCaptioning:
        given: dict[str, Any] = {"prefix_token_ids": PREFIX, "bos_token_id": None, **changes}
        model = make_family(family, make_config, visual_mask=mask, **given)
        model.language_model.set_attn_implementation(attention)
        return model

    return make


def texts(rows: int) -> dict[str, Tensor]:
    """An opening that is no target, and captions of two lengths."""
    batch, opening = text_batch(rows), torch.tensor(OPENING).expand(rows, -1)
    return {
        "input_ids": torch.cat([opening, batch["input_ids"][:, 1:]], dim=1),
        "attention_mask": torch.cat([torch.ones_like(opening), batch["attention_mask"][:, 1:]], dim=1),
        "labels": torch.cat([torch.full_like(opening, -100), batch["labels"][:, 1:]], dim=1),
    }


def seen(mask: str, tokens: int, soft: int, opening: int) -> Tensor:
    """Which token, by row, sees which, by column: the definition, token by token. Prefix, soft tokens, text."""
    first = {CAUSAL: 0, FULL: len(PREFIX), WITH_QUESTION: 0}[mask]
    last = {CAUSAL: 0, FULL: len(PREFIX) + soft, WITH_QUESTION: len(PREFIX) + soft + opening}[mask]
    block = range(first, last)
    return torch.tensor(
        [[other <= token or (token in block and other in block) for other in range(tokens)] for token in range(tokens)]
    )


def whole(model: EvlVideoForCaptioning, soft_prompt: Tensor, ids: Tensor, opening: int) -> Tensor:
    """Logits of the last soft token and one row of text, `(L + 1, V)`, in one pass of the language model alone."""
    language_model, words = model.language_model, model.language_model.get_input_embeddings()
    parts = [words(torch.tensor(PREFIX)), soft_prompt, words(ids)]
    embeddings = torch.cat(parts)[None]
    mask = seen(model.config.visual_mask, embeddings.shape[1], len(soft_prompt), opening)[None, None]
    if language_model.config._attn_implementation == "eager":
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    places = torch.arange(embeddings.shape[1])[None]
    logits = language_model(inputs_embeds=embeddings, attention_mask=mask, position_ids=places, use_cache=False).logits
    return logits[0, -len(ids) - 1 :]


@every_attention
@every_mask
@every_family
@pytest.mark.parametrize("captions", [1, 3])
@torch.no_grad()
def test_logits_are_those_of_one_pass_with_the_mask(
    masked: MakeMasked, family: str, mask: str, attention: str, captions: int
) -> None:
    model = masked(family, mask, attention)
    soft_prompt, text = model.encode(pixels(2, 3)), texts(2 * captions)
    kept = text["input_ids"].shape[1] + 1
    found = model(soft_prompt=soft_prompt, **text, logits_to_keep=kept).logits
    read = model(prompt=model.read_prompt(soft_prompt), **text, logits_to_keep=kept).logits
    for row, length in enumerate(text["attention_mask"].sum(dim=1).tolist()):
        ids = text["input_ids"][row, :length]
        expected = whole(model, soft_prompt[row // captions], ids, len(OPENING))
        torch.testing.assert_close(found[row, : length + 1], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(read[row, : length + 1], expected, atol=1e-5, rtol=1e-5)


@every_attention
@every_mask
@every_family
@torch.no_grad()
def test_samples_of_a_clip_share_its_prompt_and_score_as_alone(
    masked: MakeMasked, family: str, mask: str, attention: str
) -> None:
    model = masked(family, mask, attention)
    soft_prompt, text = model.encode(pixels(2, 3)), texts(6)
    reads: list[tuple[int, ...]] = []
    words = model.language_model.get_output_embeddings()
    hook = words.register_forward_hook(lambda module, inputs, output: reads.append(tuple(output.shape[:2])))
    kept = text["input_ids"].shape[1] - len(OPENING) + 1
    given = {name: text[name] for name in ("input_ids", "attention_mask")}
    found = model(soft_prompt=soft_prompt, **given, logits_to_keep=kept, opening_tokens=len(OPENING)).logits
    hook.remove()
    assert reads == [(6, kept)]
    for row, length in enumerate(text["attention_mask"].sum(dim=1).tolist()):
        expected = whole(model, soft_prompt[row // 3], text["input_ids"][row, :length], len(OPENING))[len(OPENING) :]
        torch.testing.assert_close(found[row, : len(expected)], expected, atol=1e-5, rtol=1e-5)


@every_attention
@every_mask
@every_family
@torch.no_grad()
def test_greedy_answers_to_padded_questions_are_those_of_recomputing_everything(
    masked: MakeMasked, family: str, mask: str, attention: str
) -> None:
    model = masked(family, mask, attention)
    ids, attended = padded(QUESTIONS)
    soft_prompt = model.encode(pixels(3, 2))
    found = model.generate(
        soft_prompt=soft_prompt, prompt_ids=ids, prompt_mask=attended, max_new_tokens=5, min_new_tokens=5
    )
    for row, question in enumerate(QUESTIONS):
        text = list(question)
        for _ in range(5):
            logits = whole(model, soft_prompt[row], torch.tensor(text), len(question))[-1]
            logits[END] = -torch.inf
            text.append(int(logits.argmax()))
        assert found[row].tolist() == text[len(question) :]


def beams_of(
    model: EvlVideoForCaptioning, soft_prompt: Tensor, question: list[int], beams: int, tokens: int
) -> list[list[int]]:
    """Beam search over texts that do not end, everything read again at each step; the likeliest first."""
    found: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(tokens):
        longer = []
        for score, text in found:
            logits = whole(model, soft_prompt, torch.tensor([*question, *text]), len(question))[-1]
            values = logits.log_softmax(dim=-1)
            values[END] = -torch.inf
            longer += [(score + float(value), [*text, token]) for token, value in enumerate(values)]
        found = sorted(longer, reverse=True)[:beams]
    return [text for _, text in found]


@every_attention
@every_mask
@every_family
@torch.no_grad()
def test_beams_are_those_of_recomputing_everything(masked: MakeMasked, family: str, mask: str, attention: str) -> None:
    model = masked(family, mask, attention)
    ids, attended = padded(QUESTIONS[:2])
    soft_prompt = model.encode(pixels(2, 2))
    decoding: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 4, "min_new_tokens": 4}
    found = model.generate(soft_prompt=soft_prompt, prompt_ids=ids, prompt_mask=attended, **decoding)
    expected = [beams_of(model, soft_prompt[row], QUESTIONS[row], 3, 4) for row in range(2)]
    assert found.tolist() == [text for of_row in expected for text in of_row]


@every_mask
@every_family
@torch.no_grad()
def test_a_batch_answers_as_its_rows_alone(masked: MakeMasked, family: str, mask: str) -> None:
    model = masked(family, mask)
    ids, attended = padded(QUESTIONS)
    clips = pixels(3, 2)
    for decoding in ({}, {"num_beams": 3, "num_return_sequences": 2}):
        together = model.generate(clips, prompt_ids=ids, prompt_mask=attended, max_new_tokens=4, **decoding)
        alone = [
            model.generate(clips[[row]], prompt_ids=torch.tensor(question), max_new_tokens=4, **decoding)
            for row, question in enumerate(QUESTIONS)
        ]
        length = max(part.shape[1] for part in alone)
        alone = [torch.nn.functional.pad(part, (0, length - part.shape[1]), value=PAD) for part in alone]
        assert torch.equal(together, torch.cat(alone))


@every_mask
def test_what_stands_in_the_padding_changes_nothing(masked: MakeMasked, mask: str) -> None:
    model = masked("opt", mask)
    ids, attended = padded(QUESTIONS)
    other = ids.masked_fill(attended == 0, 99)
    found = [model.generate(pixels(3, 2), prompt_ids=x, prompt_mask=attended, max_new_tokens=5) for x in (ids, other)]
    assert torch.equal(*found)


@every_mask
@torch.no_grad()
def test_sampled_captions_have_the_logits_of_teacher_forcing(masked: MakeMasked, mask: str) -> None:
    model = masked("opt", mask)
    prompt = model.read_prompt(model.encode(pixels(2, 2)))
    torch.manual_seed(0)
    drawn: Any = model.generate(
        prompt=prompt.repeated(3),
        prompt_ids=torch.tensor(OPENING),
        do_sample=True,
        max_new_tokens=4,
        min_new_tokens=4,
        output_logits=True,
        return_dict_in_generate=True,
    )
    text = torch.cat([torch.tensor(OPENING).expand(6, -1), drawn.sequences[:, :-1]], dim=1)
    given = {"input_ids": text, "attention_mask": torch.ones_like(text), "opening_tokens": len(OPENING)}
    found = model(prompt=prompt, **given, logits_to_keep=4).logits
    torch.testing.assert_close(found, torch.stack(drawn.logits, dim=1), atol=1e-5, rtol=1e-5)


@every_mask
@every_family
@torch.no_grad()
def test_a_later_soft_token_changes_an_earlier_one_unless_the_mask_is_causal(
    masked: MakeMasked, family: str, mask: str
) -> None:
    model = masked(family, mask)
    soft_prompt = model.encode(pixels(1, 2))
    other = soft_prompt.clone()
    other[:, -2] += 1
    first, later = (
        model.read_prompt(given).read_with(model.language_model).cache.layers[1].keys[:, :, len(PREFIX)]  # type: ignore[union-attr]
        for given in (soft_prompt, other)
    )
    assert torch.equal(first, later) == (mask == CAUSAL)


@every_mask
@torch.no_grad()
def test_soft_tokens_see_the_question_under_one_mask_only(masked: MakeMasked, mask: str) -> None:
    model = masked("opt", mask)
    prompt = model.read_prompt(model.encode(pixels(1, 2)))
    keys = []
    for question in ([40, 41], [50, 41]):
        words = model.language_model.get_input_embeddings()(torch.tensor([question]))
        read = prompt.read_with(model.language_model, torch.cat([prompt.embeddings, words], dim=1))
        keys.append(read.cache.layers[1].keys[:, :, : prompt.embeddings.shape[1] - 1])  # type: ignore[union-attr]
    assert torch.equal(*keys) == (mask != WITH_QUESTION)


@open_masks
def test_gradients_are_those_of_one_pass_with_the_mask(masked: MakeMasked, mask: str) -> None:
    model, text = masked("opt", mask), texts(6)
    kept = text["input_ids"].shape[1] - len(OPENING) + 1
    given = {name: text[name] for name in ("input_ids", "attention_mask")}
    gradients = []
    for together in (True, False):
        soft_prompt = model.encode(pixels(2, 3)).detach().requires_grad_()
        if together:
            logits = model(soft_prompt=soft_prompt, **given, logits_to_keep=kept, opening_tokens=len(OPENING)).logits
        else:
            rows = [whole(model, soft_prompt[row // 3], text["input_ids"][row], len(OPENING)) for row in range(6)]
            logits = torch.stack(rows)[:, len(OPENING) :]
        logits = logits[text["attention_mask"][:, len(OPENING) - 1 :].bool()]
        (logits * chirp(*logits.shape)).sum().backward()
        gradients.append(soft_prompt.grad)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


@open_masks
def test_gradient_checkpointing_changes_nothing(make_model: MakeModel, mask: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = make_model(visual_mask=mask, fusion="concat")
        if checkpointing:
            model.activation_checkpointing_enable()
        model(pixels(2, 2), **texts(2)).loss.backward()
        gradients.append(model.language_projection.weight.grad)
    torch.testing.assert_close(*gradients)


@open_masks
def test_half_precision_trains_and_answers_each_question_as_if_it_were_alone(make_model: MakeModel, mask: str) -> None:
    model = half_towers(make_model(visual_mask=mask, lora_r=4))
    assert model(pixels(2, 3), **texts(6), logits_to_keep=10).loss.isfinite()
    ids, attended = padded(QUESTIONS)
    soft_prompt = model.encode(pixels(3, 2)).detach()
    together = model.generate(soft_prompt=soft_prompt, prompt_ids=ids, prompt_mask=attended, max_new_tokens=4)
    alone = [
        model.generate(soft_prompt=soft_prompt[[row]], prompt_ids=torch.tensor(question), max_new_tokens=4)
        for row, question in enumerate(QUESTIONS)
    ]
    assert torch.equal(together, torch.cat(alone))


@open_masks
def test_soft_prompts_of_one_token(masked: MakeMasked, mask: str) -> None:
    model = masked("llama", mask, prefix_token_ids=None)
    soft_prompt = chirp(2, 1, 40)
    for question in (None, torch.tensor(QUESTIONS[0])):
        found = model.generate(soft_prompt=soft_prompt, prompt_ids=question, max_new_tokens=3, num_beams=2)
        again = model.generate(
            prompt=model.read_prompt(soft_prompt), prompt_ids=question, max_new_tokens=3, num_beams=2
        )
        assert torch.equal(found, again)


@open_masks
def test_a_mask_changes_the_loss(make_model: MakeModel, mask: str) -> None:
    losses = [make_model(visual_mask=name)(pixels(2, 2), **texts(2)).loss for name in (CAUSAL, mask)]
    assert not torch.isclose(*losses)


@open_masks
def test_the_mask_is_saved_with_a_checkpoint(make_model: MakeModel, tmp_path: Path, mask: str) -> None:
    model = make_model(visual_mask=mask)
    model.save_pretrained(tmp_path)
    found = EvlVideoForCaptioning.from_pretrained(tmp_path)
    assert found.config.visual_mask == mask
    assert torch.equal(found(pixels(1, 2), **texts(1)).loss, model(pixels(1, 2), **texts(1)).loss)


def test_a_checkpoint_without_the_key_is_causal(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("visual_mask", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert EvlVideoForCaptioning.from_pretrained(tmp_path).config.visual_mask == CAUSAL


def test_an_unknown_mask_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match="visual_mask is 'bidirectional'; allowed: causal, full, full_with_question"):
        make_config(visual_mask="bidirectional")


def test_published_code_has_the_causal_mask_only(make_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="visual_mask is 'full'; it has causal"):
        to_published(make_model(visual_mask=FULL))


def test_one_caption_needs_its_opening(masked: MakeMasked) -> None:
    model, text = masked("opt", WITH_QUESTION), texts(1)
    with pytest.raises(AssertionError, match="give labels or opening_tokens"):
        model(pixels(1, 2), input_ids=text["input_ids"], attention_mask=text["attention_mask"])


def test_a_bos_token_that_is_seen_belongs_to_the_block(masked: MakeMasked) -> None:
    """As in generation, where it stands behind the padding."""
    model = masked("opt", WITH_QUESTION, prefix_token_ids=None, bos_token_id=BOS)
    soft_prompt = model.encode(pixels(1, 2)).detach()
    tokens = model.generate(soft_prompt=soft_prompt, max_new_tokens=4, min_new_tokens=4)
    text = torch.cat([torch.tensor([[BOS]]), tokens], dim=1)
    labels = text.clone()
    labels[:, 0] = -100
    logits = model(soft_prompt=soft_prompt, input_ids=text, attention_mask=torch.ones_like(text), labels=labels).logits
    logits = logits[:, -5:-1].detach().clone()
    logits[..., END] = -torch.inf
    assert torch.equal(logits.argmax(dim=-1), tokens)
