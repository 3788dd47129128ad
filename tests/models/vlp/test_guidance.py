"""What guides the pruning of images and clips."""

from typing import Any

import pytest
import torch
from tiny_vlp import CAPTIONS, PRUNING, pixels, tiny_host

from evlvideo.errors import UserError
from evlvideo.models.vlp.hosts.words import tokenized
from evlvideo.models.vlp.images import normalized, read_guidance


def states(host: Any, tokenizer: Any) -> torch.Tensor:
    return host.text_states(**tokenized(tokenizer, CAPTIONS, 12))[:, 0].detach()


def test_guides_differ_and_a_shuffled_one_is_that_of_another_text() -> None:
    host, tokenizer = tiny_host()
    texts, clips = states(host, tokenizer), pixels()
    encoded = {}
    for guide in ("text", "class", "shuffled", "random"):
        guidance = read_guidance({**PRUNING, "guide": guide, "vision_share": 0.2})
        encoded[guide] = host.image_tokens(clips, guidance, texts, torch.Generator().manual_seed(0))
        assert encoded[guide].shape == (4, 2, 1 + 8 + 1, 32)
    own = read_guidance({**PRUNING, "vision_share": 0.2})
    torch.testing.assert_close(encoded["shuffled"], host.image_tokens(clips, own, texts.roll(1, 0)))
    assert not torch.allclose(encoded["text"], encoded["class"])
    assert not torch.allclose(encoded["random"], encoded["class"])


def test_every_frame_of_a_clip_has_the_clips_text_as_its_guide() -> None:
    host, tokenizer = tiny_host()
    texts, clips, guidance = states(host, tokenizer), pixels(), read_guidance(PRUNING)
    together = host.image_tokens(clips, guidance, texts)
    for frame in range(2):
        alone = host.image_tokens(clips[:, frame : frame + 1], guidance, texts)
        torch.testing.assert_close(together[:, frame : frame + 1], alone)


def test_no_gradient_reaches_the_guide() -> None:
    host, tokenizer = tiny_host()
    texts = states(host, tokenizer).requires_grad_()
    tokens = host.image_tokens(pixels(), read_guidance(PRUNING), texts)
    tokens.sum().backward()
    assert texts.grad is None
    assert host.vision_model.embeddings.patch_embedding.weight.grad is not None


def test_a_text_that_is_not_there_cannot_guide() -> None:
    host, _ = tiny_host()
    with pytest.raises(UserError, match="no texts to guide"):
        host.image_tokens(pixels(), read_guidance(PRUNING))
    guidance = read_guidance(PRUNING)
    assert guidance is not None
    assert host.image_tokens(pixels(), guidance.without_text()).shape[2] == 10


def test_pixels_are_normalized_and_floats_left_alone() -> None:
    clips = pixels()[0]
    floats = normalized(clips)
    assert floats.mean().abs() < 0.3
    assert normalized(floats) is floats


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({**PRUNING, "guide": "caption"}, "guide is 'caption'; allowed: text, class, shuffled, random"),
        ({**PRUNING, "vision_share": "much"}, "vision_share is 'much'"),
        ({**PRUNING, "vision_share": 2}, "vision_share is 2"),
        ({**PRUNING, "fold": 1}, "fold 1"),
        ({**PRUNING, "lookahead": "one"}, "no key lookahead"),
    ],
)
def test_wrong_pruning_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_guidance(given)


def test_no_pruning_is_no_guidance() -> None:
    assert read_guidance(None) is None
    assert read_guidance({}) is None
    guidance = read_guidance({"preset": "blip"})
    assert guidance is not None
    assert guidance.pruning.look_ahead == "exact"
