"""The first stage's passes, against transformers' BLIP-2 for retrieval with the same weights, and what they share."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_connectors import changes
from tiny_models import Towers, chirp, fill, half_towers, pixels, tiny_model
from torch import Tensor, nn
from transformers import BertConfig, BertModel, Blip2Config, Blip2ForImageTextRetrieval
from transformers.modeling_outputs import BaseModelOutputWithPooling

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors.qformer import look
from evlvideo.models.representation.files import (
    NEW_IN_SECOND_STAGE,
    TEXT_BRANCH_NAME,
    is_first_stage,
    read_first_stage,
    write_first_stage,
)
from evlvideo.models.representation.losses import similarities
from evlvideo.models.representation.model import RepresentationModel, TextSizes

SIZES = TextSizes(vocabulary=30, max_tokens=6, width=8, pad_token_id=0, decoding_token_id=29)
IDS = torch.tensor([[1, 5, 6, 2, 0], [1, 7, 2, 0, 0], [1, 8, 9, 10, 2]])
MASK = (IDS != 0).long()
TEXTS = {"text_ids": IDS, "text_mask": MASK, "clips": torch.arange(3)}
IMAGE = chirp(3, 17, 48)


@pytest.fixture
def captioner(towers: Towers) -> EvlVideoForCaptioning:
    return tiny_model(towers, **changes("blip2"))


@pytest.fixture
def model(captioner: EvlVideoForCaptioning) -> RepresentationModel:
    """Its text branch has weights by formula."""
    found = RepresentationModel(captioner, SIZES).eval()
    with torch.no_grad():
        for place, weight in enumerate(found.text_branch().values()):
            if weight.dim():
                weight.copy_(chirp(*weight.shape, offset=place, scale=0.3))
    return found


class Tokens(nn.Module):
    """Stands for a vision tower whose output is known."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, **kwargs: Any) -> BaseModelOutputWithPooling:
        return BaseModelOutputWithPooling(last_hidden_state=self.tokens)


def theirs(model: RepresentationModel) -> Blip2ForImageTextRetrieval:
    """transformers' model with our weights."""
    config = Blip2Config(
        qformer_config={
            **model.qformer.config.to_dict(),
            "vocab_size": SIZES.vocabulary,
            "max_position_embeddings": model.embeddings.position_embeddings.num_embeddings,
        },
        vision_config={"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8},
        text_config={"model_type": "opt", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1},
        num_query_tokens=5,
        image_text_hidden_size=SIZES.width,
        image_token_index=None,
    )
    found = Blip2ForImageTextRetrieval(config).eval()
    found.vision_model = Tokens(IMAGE)
    found.query_tokens.data = model.connector.queries.data
    found.embeddings.load_state_dict(model.embeddings.state_dict())
    found.qformer.load_state_dict(model.qformer.state_dict())
    for ours, other in (
        (model.vision_projection, found.vision_projection),
        (model.text_projection, found.text_projection),
        (model.matching_head, found.itm_head),
    ):
        other.load_state_dict(ours.state_dict())
    return found


@torch.no_grad()
def test_contrast_has_the_similarities_of_transformers(model: RepresentationModel) -> None:
    images, texts, _ = model.compare(IMAGE, IDS, MASK)
    expected = theirs(model)(pixel_values=IMAGE, input_ids=IDS, attention_mask=MASK)
    torch.testing.assert_close(similarities(images, texts), expected.logits_per_image)


@torch.no_grad()
def test_matching_has_the_logits_of_transformers(model: RepresentationModel) -> None:
    found = model.match(IMAGE, IDS, MASK)
    expected = theirs(model)(pixel_values=IMAGE, input_ids=IDS, attention_mask=MASK, use_image_text_matching_head=True)
    torch.testing.assert_close(found, expected.logits_per_image)


@torch.no_grad()
def test_the_queries_that_generate_are_those_of_the_connector(model: RepresentationModel) -> None:
    images, _, _ = model.compare(IMAGE, IDS, MASK)
    alone = model.vision_projection(look(model.connector.qformer, model.connector.queries, IMAGE))
    torch.testing.assert_close(images, nn.functional.normalize(alone, dim=-1))


@torch.no_grad()
def test_a_token_is_predicted_from_those_before_it(model: RepresentationModel) -> None:
    later = IDS.clone()
    later[:, 3:] = 11
    before, after = (model.compare(IMAGE, ids, torch.ones_like(ids))[2] for ids in (IDS, later))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


@torch.no_grad()
def test_what_is_generated_begins_with_the_decoding_token_whatever_opens_the_text(model: RepresentationModel) -> None:
    other = IDS.clone()
    other[:, 0] = 12
    torch.testing.assert_close(model.compare(IMAGE, IDS, MASK)[2], model.compare(IMAGE, other, MASK)[2])


@torch.no_grad()
def test_padding_changes_nothing(model: RepresentationModel) -> None:
    alone = model.compare(IMAGE[1:2], IDS[1:2, :3], MASK[1:2, :3])
    together = model.compare(IMAGE, IDS, MASK)
    torch.testing.assert_close(together[1][1:2], alone[1])
    torch.testing.assert_close(together[2][1:2, :2], alone[2])
    torch.testing.assert_close(model.match(IMAGE, IDS, MASK)[1:2], model.match(IMAGE[1:2], IDS[1:2, :3], MASK[1:2, :3]))


def test_negatives_are_drawn_by_their_own_generator(model: RepresentationModel) -> None:
    def loss(seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        return model(features=IMAGE.unsqueeze(1), **TEXTS, generator=generator).matching_loss.item()

    before = torch.get_rng_state()
    found = [loss(seed) for seed in range(8)]
    assert torch.equal(torch.get_rng_state(), before)
    assert found == [loss(seed) for seed in range(8)]
    assert len(set(found)) > 1


def test_another_caption_of_the_same_clip_is_no_negative(model: RepresentationModel) -> None:
    """Of three clips, the first two are one, so that the third is the only wrong one for both."""
    seen: list[Tensor] = []
    match = model.match
    model.match = lambda image, ids, mask: (seen.append(ids), match(image, ids, mask))[1]  # type: ignore[method-assign]
    texts = {**TEXTS, "clips": torch.tensor([4, 4, 5])}
    for seed in range(10):
        model(features=IMAGE.unsqueeze(1), **texts, generator=torch.Generator().manual_seed(seed))
    for ids in seen:
        torch.testing.assert_close(ids[6:8], IDS[[2, 2]])


def test_every_weight_but_the_towers_gets_a_gradient(model: RepresentationModel) -> None:
    output = model.train()(pixel_values=pixels(3, 1), **TEXTS)
    (output.contrast_loss + output.matching_loss + output.generation_loss).backward()
    without = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert without == []
    assert all(weight.grad is None for weight in model.vision_tower.parameters())


def test_frames_are_averaged_before_the_queries_look(towers: Towers) -> None:
    model = RepresentationModel(tiny_model(towers, **changes("blip2", fusion="mean")), SIZES)
    frames = chirp(3, 2, 17, 48)
    torch.testing.assert_close(
        model.image_tokens(features=frames), model.image_tokens(features=frames.mean(dim=1, keepdim=True))
    )


def test_queries_may_look_at_all_frames(towers: Towers) -> None:
    given = changes("blip2", connector_options={"all_frames": True})
    model = RepresentationModel(tiny_model(towers, **given), SIZES)
    assert model.image_tokens(features=chirp(3, 2, 17, 48)).shape == (3, 34, 48)


def test_half_precision_is_near_single(towers: Towers) -> None:
    losses = []
    for halve in (False, True):
        captioner = tiny_model(towers, **changes("blip2"))
        torch.manual_seed(0)
        model = RepresentationModel(half_towers(captioner) if halve else captioner, SIZES).eval()
        fill(model.qformer)
        with torch.no_grad():
            output = model(pixel_values=pixels(3, 1), **TEXTS, generator=torch.Generator().manual_seed(0))
        assert output.contrast_loss.dtype == output.generation_loss.dtype == torch.float32
        losses.append(torch.stack([output.contrast_loss, output.matching_loss, output.generation_loss]))
    torch.testing.assert_close(losses[1], losses[0], atol=0.1, rtol=0.05)


def test_the_temperature_stays_within_its_bounds(model: RepresentationModel) -> None:
    model.temperature.data.fill_(-1.0)
    model(features=IMAGE.unsqueeze(1), **TEXTS)
    assert model.temperature.item() == pytest.approx(0.001)


def test_a_single_pair_has_no_negatives(model: RepresentationModel) -> None:
    with pytest.raises(ValueError, match="no negatives"):
        model(features=IMAGE[:1].unsqueeze(1), **{name: value[:1] for name, value in TEXTS.items()})


def test_a_checkpoint_keeps_the_text_branch_beside_and_no_language_projection(
    captioner: EvlVideoForCaptioning, model: RepresentationModel, tmp_path: Path
) -> None:
    write_first_stage(tmp_path, captioner, model)
    kept = load_file(tmp_path / "model.safetensors")
    assert {name.partition(".")[0] for name in kept} == {"ln_vision", "connector"}
    assert load_file(tmp_path / TEXT_BRANCH_NAME).keys() == model.text_branch().keys()
    assert is_first_stage(tmp_path)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.5)
    tower = {name for name in before if name.startswith("vision_tower.")}
    read_first_stage(tmp_path, captioner, model)
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], before[name]) for name in before.keys() - tower)


def test_a_checkpoint_opens_as_a_captioner_only_if_its_projection_may_be_new(
    captioner: EvlVideoForCaptioning, model: RepresentationModel, tmp_path: Path
) -> None:
    write_first_stage(tmp_path, captioner, model)
    with pytest.raises(UserError, match=r"2 weights are missing: language_projection\.bias"):
        EvlVideoForCaptioning.from_pretrained(tmp_path)
    opened = EvlVideoForCaptioning.from_pretrained(tmp_path, may_be_missing=NEW_IN_SECOND_STAGE)
    own = captioner.connector.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in opened.connector.state_dict().items())


def test_the_text_branch_starts_from_a_bert(model: RepresentationModel, tmp_path: Path) -> None:
    sizes = model.connector.qformer.config
    bert = BertModel(
        BertConfig(
            hidden_size=sizes.hidden_size,
            num_hidden_layers=sizes.num_hidden_layers,
            num_attention_heads=sizes.num_attention_heads,
            intermediate_size=sizes.intermediate_size,
            max_position_embeddings=model.embeddings.position_embeddings.num_embeddings,
            vocab_size=29,
        )
    )
    bert.save_pretrained(tmp_path)
    new_word = model.embeddings.word_embeddings.weight[29].clone()
    model.load_bert(str(tmp_path), own_tokens=29)
    words = model.embeddings.word_embeddings.weight
    assert torch.equal(words[:29], bert.embeddings.word_embeddings.weight)
    assert torch.equal(words[29], new_word)
    layers = zip(model.qformer.encoder.layer, bert.encoder.layer, strict=True)
    assert all(torch.equal(one.intermediate.dense.weight, other.intermediate.dense.weight) for one, other in layers)
    with pytest.raises(UserError, match=r"word_embeddings\.weight: \(30, 40\) here, \(29, 40\) there"):
        model.load_bert(str(tmp_path), own_tokens=30)
