"""The losses of BLIP-2's first stage, against formulas written out, and the masks of its attention."""

import pytest
import torch
from tiny_models import chirp
from torch.nn import functional as F

from evlvideo.models.representation.losses import (
    causal_attention,
    contrast,
    generation_loss,
    pair_attention,
    similarities,
    text_attention,
)
from evlvideo.models.vlp.losses import matching_loss

PAIRS, QUERIES, WIDTH = 3, 2, 4
IMAGES = F.normalize(chirp(PAIRS, QUERIES, WIDTH), dim=-1)
TEXTS = F.normalize(chirp(PAIRS, WIDTH, offset=1), dim=-1)
TEMPERATURE = torch.tensor(0.5)
APART = torch.arange(PAIRS)
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


def test_an_image_is_as_similar_as_its_most_similar_query() -> None:
    expected = [[max(float(query @ text) for query in image) for text in TEXTS] for image in IMAGES]
    torch.testing.assert_close(similarities(IMAGES, TEXTS), torch.tensor(expected))


def test_contrast_is_the_mean_of_both_directions_with_smoothed_targets() -> None:
    found = contrast(IMAGES, TEXTS, TEMPERATURE, APART, across=False)
    logits = similarities(IMAGES, TEXTS) / 0.5
    losses = [F.cross_entropy(one, APART, label_smoothing=0.1) for one in (logits, logits.T)]
    torch.testing.assert_close(found.loss, sum(losses) / 2)
    torch.testing.assert_close(found.text_to_image, found.image_to_text.T)


def test_what_is_contrasted_against_is_constant() -> None:
    images, texts = IMAGES.clone().requires_grad_(), TEXTS.clone().requires_grad_()
    contrast(images, texts, TEMPERATURE, APART, across=False).loss.backward()
    logits = similarities(images, TEXTS) / 0.5
    expected = torch.autograd.grad(F.cross_entropy(logits, APART, label_smoothing=0.1) / 2, images)
    torch.testing.assert_close(images.grad, expected[0])


def test_two_captions_of_a_clip_share_the_target() -> None:
    found = contrast(IMAGES, TEXTS, TEMPERATURE, torch.tensor([7, 8, 7]), across=False)
    targets = 0.9 * torch.tensor([[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]]) + 0.1 / 3
    losses = [-(targets * logits.log_softmax(dim=1)).sum(dim=1).mean() for logits in (found[1], found[2])]
    torch.testing.assert_close(found.loss, sum(losses) / 2)
    assert found.same.tolist() == [[True, False, True], [False, True, False], [True, False, True]]


def test_matching_takes_the_first_pairs_for_right_and_the_others_for_wrong() -> None:
    logits = chirp(6, 2)
    torch.testing.assert_close(matching_loss(logits, 2), F.cross_entropy(logits, torch.tensor([1, 1, 0, 0, 0, 0])))


def test_generation_is_asked_for_every_token_but_the_first_and_padding() -> None:
    ids, logits = torch.tensor([[9, 4, 5], [9, 6, 0]]), chirp(2, 2, 10)
    rows = torch.stack([logits[0, 0], logits[0, 1], logits[1, 0]])
    expected = F.cross_entropy(rows, torch.tensor([4, 5, 6]), label_smoothing=0.1)
    torch.testing.assert_close(generation_loss(logits, ids, MASK), expected)


def test_texts_see_themselves_and_no_padding() -> None:
    assert text_attention(MASK)[1, 0].int().tolist() == [[1, 1, 0]] * 3


def test_pairs_see_each_other() -> None:
    assert pair_attention(MASK, QUERIES)[1, 0].int().tolist() == [[1, 1, 1, 1, 0]] * 5


def test_generated_text_sees_queries_and_earlier_text_and_queries_see_queries() -> None:
    assert causal_attention(MASK, QUERIES)[0, 0].int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
    ]


@pytest.mark.parametrize("attention", [pair_attention, causal_attention])
def test_padding_is_never_seen(attention: object) -> None:
    assert not attention(MASK, QUERIES)[1, 0, :, -1].any()  # type: ignore[operator]
