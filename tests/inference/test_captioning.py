import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, Subset
from toy_run import Toy

from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.config.generation import GenerationConfig
from evlvideo.inference.captioning import decoding_arguments, generate_captions
from evlvideo.inference.captions import Caption
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor

GENERATION = GenerationConfig(num_beams=2, max_new_tokens=10, min_new_tokens=1)


@pytest.fixture(scope="module")
def opened(toy: Toy) -> tuple[EvlVideoForCaptioning, EvlVideoProcessor]:
    return open_model(toy.checkpoint, toy.config(Path("unused")))


@pytest.fixture(scope="module")
def clips(toy: Toy, opened: tuple[EvlVideoForCaptioning, EvlVideoProcessor]) -> Dataset[dict[str, Any]]:
    return video_dataset(toy.config(Path("unused")).data, opened[1], toy.clips("test"))


@pytest.fixture
def model(opened: tuple[EvlVideoForCaptioning, EvlVideoProcessor]) -> EvlVideoForCaptioning:
    return opened[0].eval()


@pytest.fixture
def processor(opened: tuple[EvlVideoForCaptioning, EvlVideoProcessor]) -> EvlVideoProcessor:
    return opened[1]


def test_every_clip_gets_a_caption(
    toy: Toy, model: EvlVideoForCaptioning, processor: EvlVideoProcessor, clips: Dataset[dict[str, Any]]
) -> None:
    captions = generate_captions(model, processor, clips, GENERATION)
    assert list(captions) == [clip.clip_id for clip in toy.clips("test")]
    assert all(caption.text for caption in captions.values())


def test_captions_differ_between_clips(
    model: EvlVideoForCaptioning, processor: EvlVideoProcessor, clips: Dataset[dict[str, Any]]
) -> None:
    assert len(set(generate_captions(model, processor, clips, GENERATION).values())) > 1


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_batch_size_changes_no_caption(
    model: EvlVideoForCaptioning, processor: EvlVideoProcessor, clips: Dataset[dict[str, Any]], batch_size: int
) -> None:
    expected = generate_captions(model, processor, clips, GENERATION)
    assert generate_captions(model, processor, clips, replace(GENERATION, batch_size=batch_size)) == expected


def test_workers_change_no_caption(
    model: EvlVideoForCaptioning, processor: EvlVideoProcessor, clips: Dataset[dict[str, Any]]
) -> None:
    expected = generate_captions(model, processor, clips, GENERATION)
    assert generate_captions(model, processor, clips, GENERATION, num_workers=1) == expected


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_the_mode_it_was_in(
    model: EvlVideoForCaptioning, processor: EvlVideoProcessor, clips: Dataset[dict[str, Any]], training: bool
) -> None:
    model.train(training)
    generate_captions(model, processor, Subset(clips, [0]), GENERATION)
    assert model.training is training
    assert model.connector.training is training
    assert not model.language_model.training


def test_a_model_in_training_captions_without_dropout(
    model: EvlVideoForCaptioning, processor: EvlVideoProcessor, clips: Dataset[dict[str, Any]]
) -> None:
    expected = generate_captions(model, processor, clips, GENERATION)
    assert generate_captions(model.train(), processor, clips, GENERATION) == expected


def test_nothing_is_drawn_at_random(
    model: EvlVideoForCaptioning, processor: EvlVideoProcessor, clips: Dataset[dict[str, Any]]
) -> None:
    before = torch.get_rng_state()
    generate_captions(model, processor, clips, GENERATION)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("of_search", [{"num_beams": 1}, {"num_beams": 3}, {"do_sample": True, "num_beams": 1}])
def test_a_forbidden_word_is_in_no_caption(
    model: EvlVideoForCaptioning,
    processor: EvlVideoProcessor,
    clips: Dataset[dict[str, Any]],
    of_search: dict[str, Any],
) -> None:
    torch.manual_seed(0)
    free = generate_captions(model, processor, clips, GenerationConfig(**of_search))
    words = sorted({word.strip(".,") for caption in free.values() for word in caption.text.lower().split()} - {""})[:3]
    forbidding = GenerationConfig(**of_search, forbidden_words=words)
    torch.manual_seed(0)
    texts = [caption.text.lower() for caption in generate_captions(model, processor, clips, forbidding).values()]
    assert words
    assert not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) for word in words for text in texts)


def test_captions_have_as_many_tokens_as_was_asked_for(
    model: EvlVideoForCaptioning, processor: EvlVideoProcessor, clips: Dataset[dict[str, Any]]
) -> None:
    exact = GenerationConfig(num_beams=1, max_new_tokens=4, min_new_tokens=4)
    inputs = clips[0]["pixel_values"].unsqueeze(0)
    tokens = model.generate(inputs, prompt_ids=processor.prompt_ids(), **decoding_arguments(exact))
    assert tokens.shape == (1, 4)
    assert generate_captions(model, processor, Subset(clips, [0]), exact) == {
        clips[0]["clip_id"]: Caption(processor.captions(tokens)[0])
    }


def test_decoding_is_that_of_the_config() -> None:
    config = GenerationConfig(num_beams=3, max_new_tokens=9, min_new_tokens=2, length_penalty=0.5)
    assert decoding_arguments(config) == {
        "num_beams": 3,
        "max_new_tokens": 9,
        "min_new_tokens": 2,
        "length_penalty": 0.5,
    }


def test_greedy_decoding_has_no_length_penalty() -> None:
    assert "length_penalty" not in decoding_arguments(GenerationConfig(num_beams=1))


@pytest.mark.parametrize("of_search", [{"num_beams": 1}, {"num_beams": 3}, {"do_sample": True}])
def test_every_search_has_the_repetition_penalty(of_search: dict[str, Any]) -> None:
    assert decoding_arguments(GenerationConfig(**of_search, repetition_penalty=1.5))["repetition_penalty"] == 1.5
    assert "repetition_penalty" not in decoding_arguments(GenerationConfig(**of_search))


@pytest.mark.parametrize("num_beams", [1, 2])
def test_a_strong_repetition_penalty_leaves_no_token_twice(
    model: EvlVideoForCaptioning, processor: EvlVideoProcessor, clips: Dataset[dict[str, Any]], num_beams: int
) -> None:
    decoding = GenerationConfig(num_beams=num_beams, max_new_tokens=12, min_new_tokens=12, repetition_penalty=1e9)
    tokens = model.generate(
        clips[0]["pixel_values"].unsqueeze(0), prompt_ids=processor.prompt_ids(), **decoding_arguments(decoding)
    )
    assert len(set(tokens[0].tolist())) == 12


def test_the_repetition_penalty_is_on_the_captions_own_tokens(
    model: EvlVideoForCaptioning, clips: Dataset[dict[str, Any]]
) -> None:
    """Divides positive logits and multiplies negative ones, as published; the prompt's tokens are not counted."""
    pixel_values, words = clips[0]["pixel_values"].unsqueeze(0), torch.tensor([[7, 8, 9]])
    plain = decoding_arguments(GenerationConfig(num_beams=1, max_new_tokens=1, min_new_tokens=0))
    penalized = decoding_arguments(
        GenerationConfig(num_beams=1, max_new_tokens=1, min_new_tokens=0, repetition_penalty=1.5)
    )
    wanted = {"prompt_ids": words, "output_scores": True, "return_dict_in_generate": True}
    first = [model.generate(pixel_values, **wanted, **arguments).scores[0] for arguments in (plain, penalized)]
    assert torch.equal(*first)
    two = [
        model.generate(pixel_values, **wanted, **{**arguments, "max_new_tokens": 2}) for arguments in (plain, penalized)
    ]
    token = two[0].sequences[0, 0]
    before, after = two[0].scores[1][0], two[1].scores[1][0]
    assert after[token] == (before[token] / 1.5 if before[token] > 0 else before[token] * 1.5)
    others = torch.arange(len(before)) != token
    assert torch.equal(before[others], after[others])
