"""What the contrastive term adds to a run's costs, and what an answer costs."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_architecture import costs_of, real_model, tiny_config, workload
from transformers import BertConfig

from evlvideo.config.loading import config_of
from evlvideo.errors import UserError
from evlvideo.estimate.costs import estimate
from evlvideo.estimate.counting import count_multiply_adds
from evlvideo.estimate.records import Contrasted, Estimate
from evlvideo.estimate.run_costs import clip_costs
from evlvideo.models.connectors import TOMEFORMER

CHANNELS, LAYERS, INNER, VOCABULARY, POSITIONS = 24, 2, 32, 500, 64
WIDTH, BATCH, TOKENS = 8, 3, 7
HIDDEN = 40
"""Channels of the tiny connector."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny BERT; its weights and tokenizer are not needed."""
    directory = tmp_path_factory.mktemp("encoder")
    sizes = {"hidden_size": CHANNELS, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": INNER}
    BertConfig(**sizes, vocab_size=VOCABULARY, max_position_embeddings=POSITIONS).save_pretrained(directory)
    return str(directory)


@cache
def with_term(encoder: str, **asked: Any) -> Estimate:
    contrast = Contrasted(encoder, WIDTH, beta=0.1)
    return estimate(tiny_config(), replace(workload(**asked), contrast=contrast))


def test_the_trained_part_is_two_projections_and_a_temperature(encoder: str) -> None:
    found, plain = with_term(encoder), costs_of("image")
    assert found.trained.contrast == (HIDDEN + 1) * WIDTH + (CHANNELS + 1) * WIDTH + 1
    assert replace(found.trained, contrast=0) == plain.trained
    assert found.saved == plain.saved


def test_the_frozen_encoder_is_loaded(encoder: str) -> None:
    found = with_term(encoder)
    embeddings = (VOCABULARY + POSITIONS + 2 + 2) * CHANNELS
    layer = 4 * (CHANNELS + 1) * CHANNELS + (CHANNELS + 1) * INNER + (INNER + 1) * CHANNELS + 4 * CHANNELS
    pooler = (CHANNELS + 1) * CHANNELS
    assert found.parameters.contrast - found.trained.contrast == embeddings + LAYERS * layer + pooler


def test_its_multiply_adds_are_those_of_the_encoder_and_of_the_comparison(encoder: str) -> None:
    layer = 4 * TOKENS * CHANNELS**2 + 2 * TOKENS * CHANNELS * INNER + 2 * TOKENS**2 * CHANNELS
    encoding = BATCH * (LAYERS * layer + CHANNELS**2)
    image, text, compared = BATCH * HIDDEN * WIDTH, BATCH * CHANNELS * WIDTH, 2 * BATCH**2 * WIDTH
    # The backward pass: weight and input of the image's projection, weight of the text's, one side of each product.
    expected = encoding + (image + text + compared) + (2 * image + text + compared)
    found = with_term(encoder).training_batch
    assert found.contrast == expected
    assert replace(found, contrast=0) == costs_of("image").training_batch


def test_a_caption_of_the_encoder_is_cut_at_its_limit(encoder: str) -> None:
    short, cut, longer = (with_term(encoder, text_tokens=tokens).training_batch.contrast for tokens in (63, 64, 65))
    assert short < cut == longer


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_takes_memory_in_float32(encoder: str, precision: str) -> None:
    found, plain = with_term(encoder, precision=precision), costs_of("image", precision=precision)
    assert found.memory.weights - plain.memory.weights == 4 * found.parameters.contrast
    assert found.memory.gradients - plain.memory.gradients == 4 * found.trained.contrast
    assert found.memory.optimizer - plain.memory.optimizer == 8 * found.trained.contrast
    assert 0 < found.memory.activations - plain.memory.activations < 100 * BATCH * (HIDDEN + CHANNELS + WIDTH)


def test_captioning_costs_what_it_costs_without(encoder: str) -> None:
    assert with_term(encoder).captioning_clip == costs_of("image").captioning_clip


def test_a_run_s_term_is_in_its_estimate(encoder: str) -> None:
    changes = ["init=mini", f"contrastive.text_encoder={encoder}"]
    plain, found = (clip_costs(config_of([*changes, f"contrastive.beta={beta}"])) for beta in (0, 0.1))
    assert found.training > plain.training
    assert found.captioning == plain.captioning


def test_a_model_without_a_class_token_is_refused(encoder: str) -> None:
    asked = replace(workload(), contrast=Contrasted(encoder, WIDTH, beta=0.1))
    with pytest.raises(UserError, match=r"contrastive\.beta is 0\.1, but connector=linear"):
        estimate(tiny_config(connector="linear"), asked)


def test_an_encoder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    asked = replace(workload(), contrast=Contrasted(str(tmp_path / "none"), WIDTH, beta=0.1))
    with pytest.raises(UserError, match=r"contrastive\.text_encoder is '.*none', which cannot be opened"):
        estimate(tiny_config(connector=TOMEFORMER), asked)


class TestAnswers:
    def test_a_question_of_bos_alone_costs_what_a_caption_costs(self) -> None:
        found = costs_of("image", question_tokens=1, answer_beams=3, answer_tokens=6)
        assert found.answering_question == found.captioning_clip

    def test_more_tokens_of_a_question_are_read_by_every_beam(self) -> None:
        one, two, three = (
            costs_of("image", question_tokens=tokens, answer_beams=2, answer_tokens=4).answering_question
            for tokens in (1, 2, 3)
        )
        assert one is not None and two is not None and three is not None
        assert (one.vision_tower, one.connector) == (three.vision_tower, three.connector)
        added = [after.language_model - before.language_model for before, after in ((one, two), (two, three))]
        assert 0 < added[0] < added[1]  # attention to one token more

    def test_nothing_is_counted_where_none_is_asked_or_it_does_not_fit(self) -> None:
        assert costs_of("image").answering_question is None
        positions = 96
        soft = costs_of("image").soft_tokens
        fits = costs_of("image", question_tokens=positions - soft - 3, answer_tokens=4)
        assert fits.answering_question is not None
        assert costs_of("image", question_tokens=positions - soft - 2, answer_tokens=4).answering_question is None

    def test_a_run_s_answers_are_in_its_estimate(self) -> None:
        short, longer = (clip_costs(config_of(["init=mini", f"answering.max_prompt_tokens={n}"])) for n in (8, 16))
        assert short.answering is not None and longer.answering is not None
        assert short.answering < longer.answering
        assert short.captioning == longer.captioning

    def test_it_matches_what_a_real_model_multiplies(self) -> None:
        """Greedily, an answer reads prompt and question once, and each token but the last."""
        model = real_model(tiny_config()).eval()
        question = torch.randint(6, 50, (4,))
        found = costs_of("image", num_frames=1, batch_size=1, question_tokens=5, answer_beams=1, answer_tokens=6)
        pixels = torch.randn(1, 1, 3, 32, 32)
        counted, tokens = count_multiply_adds(
            lambda: model.generate(pixels, prompt_ids=question, max_new_tokens=6, min_new_tokens=6)
        )
        assert tokens.shape == (1, 6)
        assert found.answering_question is not None
        assert found.answering_question.total == counted
