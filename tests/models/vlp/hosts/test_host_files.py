"""Hosts on disk: what others open with transformers' classes, and what of theirs opens here."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_vlp import CAPTIONS, pixels, tiny_host
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    CLIPModel,
)

from evlvideo.errors import UserError
from evlvideo.models.vlp.hosts.clip import clip_text_features, clip_tokens
from evlvideo.models.vlp.hosts.files import open_host, save_host
from evlvideo.models.vlp.hosts.matching import clip_features, unit
from evlvideo.models.vlp.hosts.new import resize_positions
from evlvideo.models.vlp.hosts.words import special_ids, tokenized
from evlvideo.models.vlp.images import normalized


def text_of(tokenizer: Any) -> dict[str, torch.Tensor]:
    return tokenized(tokenizer, CAPTIONS, 12)


@pytest.mark.parametrize("host", ["blip", "albef", "clip"])
def test_a_saved_host_opens_as_it_was(host: str, tmp_path: Path) -> None:
    model, tokenizer = tiny_host(host)
    save_host(model, tokenizer, tmp_path)
    opened = open_host(str(tmp_path), host)
    before, after = model.state_dict(), opened.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(list(opened.parameters())) == len(list(model.parameters()))  # what is shared still is
    assert AutoTokenizer.from_pretrained(tmp_path)(list(CAPTIONS)) == tokenizer(list(CAPTIONS))


@torch.no_grad()
def test_a_blip_opens_as_transformers_retrieval_and_captioning_models(tmp_path: Path) -> None:
    model, tokenizer = tiny_host()
    save_host(model, tokenizer, tmp_path)
    images, text = normalized(pixels(frames=1)[:, 0]), text_of(tokenizer)
    retrieval = BlipForImageTextRetrieval.from_pretrained(tmp_path).eval()
    similarity = retrieval(pixel_values=images, **text, use_itm_head=False).itm_score
    tokens = model.image_tokens(images.unsqueeze(1))
    expected = model.image_features(tokens) @ model.text_features(model.text_states(**text)).T
    torch.testing.assert_close(similarity, expected)
    captioner = BlipForConditionalGeneration.from_pretrained(tmp_path).eval()
    ids = text["input_ids"].clone()
    ids[:, 0] = tokenizer.bos_token_id
    logits = captioner(pixel_values=images, input_ids=ids, attention_mask=text["attention_mask"]).logits
    torch.testing.assert_close(logits, model.language(**text, tokens=tokens[:, 0]))
    assert captioner.generate(images, max_length=6).shape[0] == 4


@torch.no_grad()
def test_a_clip_opens_as_transformers_clip(tmp_path: Path) -> None:
    model, tokenizer = tiny_host("clip")
    save_host(model, tokenizer, tmp_path)
    images, text = normalized(pixels(frames=1)[:, 0]), text_of(tokenizer)
    theirs = CLIPModel.from_pretrained(tmp_path).eval()(pixel_values=images, **text)
    torch.testing.assert_close(clip_text_features(model, **text), theirs.text_embeds)
    features = clip_features(model.visual_projection, clip_tokens(model, images.unsqueeze(1)))
    torch.testing.assert_close(features, theirs.image_embeds)


def test_the_saved_image_processor_makes_the_models_images(tmp_path: Path) -> None:
    model, tokenizer = tiny_host()
    save_host(model, tokenizer, tmp_path)
    image = pixels(clips=1, frames=1)[0, 0]
    found = AutoImageProcessor.from_pretrained(tmp_path)(images=image.numpy(), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found[0], normalized(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [BlipForConditionalGeneration, BlipForImageTextRetrieval])
def test_half_a_blip_is_made_whole(kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, tokenizer = tiny_host()
    save_host(model, tokenizer, tmp_path / "whole")
    kind.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "half")
    opened: Any = open_host(str(tmp_path / "half"), "blip")
    encoder, decoder = opened.text_encoder, opened.text_decoder.bert
    assert torch.equal(encoder.embeddings.word_embeddings.weight, model.text_encoder.embeddings.word_embeddings.weight)
    for mine, theirs in zip(encoder.encoder.layer, decoder.encoder.layer, strict=True):
        assert mine.crossattention is theirs.crossattention
        assert mine.attention is not theirs.attention
        assert torch.equal(mine.attention.self.query.weight, theirs.attention.self.query.weight)
    assert "start from random weights" in caplog.text


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened as blip"):
        open_host(str(tmp_path / "nothing"), "blip")


def test_what_blip_shares_is_all_but_self_attention() -> None:
    model, _ = tiny_host()
    decoder, encoder = model.text_decoder, model.text_encoder
    assert decoder.bert.embeddings is encoder.embeddings
    assert decoder.cls.predictions.decoder.weight is encoder.embeddings.word_embeddings.weight
    own = {name for name, _ in model.named_parameters() if name.startswith("text_decoder.")}
    assert all(".attention." in name or "cls.predictions" in name for name in own)


def test_albefs_head_is_tied_to_its_words() -> None:
    model, _ = tiny_host("albef")
    assert model.cls.predictions.decoder.weight is model.text_encoder.embeddings.word_embeddings.weight
    assert not hasattr(model.text_encoder.encoder.layer[0], "crossattention")
    assert hasattr(model.text_encoder.encoder.layer[1], "crossattention")


@pytest.mark.parametrize("host", ["blip", "clip"])
def test_positions_are_interpolated_to_another_size(host: str) -> None:
    model, _ = tiny_host(host)
    resize_positions(model.vision_model.embeddings, 48)
    features = model.vision_model(torch.zeros(1, 3, 48, 48)).last_hidden_state
    assert features.shape == (1, 37, 32)
    assert model.config.vision_config.image_size == 48


def test_a_tokenizer_of_words_has_the_special_tokens() -> None:
    _, tokenizer = tiny_host()
    ids = special_ids(tokenizer, "blip")
    assert (ids.dec, ids.enc) == (ids.vocabulary - 2, ids.vocabulary - 1)
    found = tokenizer("A RED unicorn rolls")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(found) == ["[CLS]", "a", "red", "[UNK]", "rolls", "[SEP]"]
    assert unit(torch.ones(2, 4)).norm(dim=1).tolist() == pytest.approx([1, 1])
