"""Different questions in one batch: padded on the left, each is answered as if it were alone."""

from functools import partial

import pytest
import torch
from questions_case import QuestionsCase, question_cases
from tiny_families import FAMILIES, QUESTIONS, MakeFamily, make_family, padded
from tiny_models import BOS, MakeConfig, MakeModel, chirp, every_device, pixels

from evlvideo.models.captioner import EvlVideoForCaptioning


@pytest.fixture(scope="module", params=question_cases(), ids=lambda directory: directory.name)
def case(request: pytest.FixtureRequest) -> QuestionsCase:
    return QuestionsCase(request.param)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, make_config: MakeConfig) -> MakeFamily:
    return partial(make_family, request.param, make_config)


def test_there_are_cases() -> None:
    assert question_cases()


@pytest.mark.parametrize("num_beams, name", [(1, "greedy_ids"), (5, "beam5_ids")])
def test_a_batch_of_questions_has_the_published_answers(case: QuestionsCase, num_beams: int, name: str) -> None:
    model = case.model()
    # The BOS token, which is the model's own to add, stands behind the padding.
    ids, mask = case.inputs["input_ids"], case.inputs["attention_mask"]
    places = mask.long().argmax(dim=1, keepdim=True)
    ids, mask = ids[:, 1:], mask.scatter(1, places, 0)[:, 1:]
    found = model.generate(case.inputs["pixel_values"], prompt_ids=ids, prompt_mask=mask, **case.decoding(num_beams))
    assert case.until_the_end(found) == case.until_the_end(case.expected[name])


@pytest.mark.parametrize("num_beams, name", [(1, "greedy_ids"), (5, "beam5_ids")])
def test_a_question_alone_has_the_published_answer(case: QuestionsCase, num_beams: int, name: str) -> None:
    model, expected = case.model(), case.until_the_end(case.expected[name])
    rows = zip(case.inputs["input_ids"], case.inputs["attention_mask"], case.inputs["pixel_values"], strict=True)
    for (ids, mask, frames), answer in zip(rows, expected, strict=True):
        question = ids[mask.bool()][1:]
        found = model.generate(frames[None], prompt_ids=question, **case.decoding(num_beams))
        assert case.until_the_end(found) == [answer]


@pytest.mark.parametrize("num_beams, name", [(1, "long_greedy_ids"), (5, "long_beam5_ids")])
def test_a_question_that_was_cut_has_the_published_answer(case: QuestionsCase, num_beams: int, name: str) -> None:
    question = case.inputs["long_input_ids"][0, 1:]
    found = case.model().generate(case.inputs["long_pixel_values"], prompt_ids=question, **case.decoding(num_beams))
    assert case.until_the_end(found) == case.until_the_end(case.expected[name])


@pytest.mark.parametrize("num_beams, captions", [(1, 1), (3, 1), (3, 3)])
@pytest.mark.parametrize("bos, prefix", [(BOS, None), (None, [60, 61])], ids=["plain", "chat"])
def test_families_answer_each_question_as_if_it_were_alone(
    family: MakeFamily, num_beams: int, captions: int, bos: int | None, prefix: list[int] | None
) -> None:
    model = family(bos_token_id=bos, prefix_token_ids=prefix)
    ids, mask = padded(QUESTIONS)
    decoding = {"max_new_tokens": 5, "min_new_tokens": 5, "num_beams": num_beams, "num_return_sequences": captions}
    together = model.generate(pixels(3, 2), prompt_ids=ids, prompt_mask=mask, **decoding)
    alone = [
        model.generate(pixels(3, 2)[[place]], prompt_ids=torch.tensor(row), **decoding)
        for place, row in enumerate(QUESTIONS)
    ]
    assert torch.equal(together, torch.cat(alone))
    assert len({tuple(row) for row in together.tolist()}) >= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_device
def test_half_precision_answers_each_question_as_if_it_were_alone(
    make_model: MakeModel, make_config: MakeConfig, dtype: torch.dtype, device: str
) -> None:
    model = EvlVideoForCaptioning.from_towers(make_config(), tower_dtype=dtype).to(device)
    model.load_state_dict(make_model().state_dict(), strict=False)
    ids, mask = padded(QUESTIONS)
    given = model.encode(pixels(3, 2).to(device))
    together = model.generate(soft_prompt=given, prompt_ids=ids, prompt_mask=mask, max_new_tokens=6)
    alone = [
        model.generate(soft_prompt=given[[place]], prompt_ids=torch.tensor(row), max_new_tokens=6)
        for place, row in enumerate(QUESTIONS)
    ]
    assert torch.equal(together, torch.cat(alone))


def test_what_stands_in_the_padding_changes_nothing(make_model: MakeModel) -> None:
    model = make_model()
    ids, mask = padded(QUESTIONS)
    other = ids.masked_fill(mask == 0, 99)
    found = [model.generate(pixels(3, 2), prompt_ids=text, prompt_mask=mask, max_new_tokens=6) for text in (ids, other)]
    assert torch.equal(*found)


def test_questions_of_one_clip_share_its_soft_prompt(make_model: MakeModel) -> None:
    model = make_model()
    clips = model.read_prompt(model.encode(pixels(2, 2)))
    ids, mask = padded(QUESTIONS)
    found = model.generate(
        prompt=clips.of_clips(torch.tensor([0, 1, 0])), prompt_ids=ids, prompt_mask=mask, max_new_tokens=6
    )
    expected = model.generate(pixels(2, 2)[[0, 1, 0]], prompt_ids=ids, prompt_mask=mask, max_new_tokens=6)
    assert torch.equal(found, expected)
    assert clips.embeddings.shape[0] == 2
    # What was read of the clips is as it was.
    again = model.generate(prompt=clips.of_clips(torch.tensor([1])), prompt_ids=ids[1], prompt_mask=mask[[1]])
    assert torch.equal(again[:, :6], expected[[1]])


def test_soft_prompts_of_one_token_leave_nothing_to_cache(make_model: MakeModel) -> None:
    model = make_model()
    soft_prompt = chirp(3, 1, 40)
    ids, mask = padded(QUESTIONS)
    together = model.generate(soft_prompt=soft_prompt, prompt_ids=ids, prompt_mask=mask, max_new_tokens=5)
    alone = [
        model.generate(soft_prompt=soft_prompt[[place]], prompt_ids=torch.tensor(row), max_new_tokens=5)
        for place, row in enumerate(QUESTIONS)
    ]
    assert torch.equal(together, torch.cat(alone))
