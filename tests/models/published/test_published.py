"""The published implementation, number for number, and its checkpoints in and out."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from published_case import PublishedCase, case_directories
from tiny_models import FIXTURES, MakeModel, fill
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.published.evlgen import (
    captioner_from_published,
    published_config,
    read_published,
    to_published,
    write_origin,
    write_published,
)
from evlvideo.models.trainable import tower_of
from evlvideo.models.weights import read_weights

TOLERANCE = 1e-4
LOSS_TOLERANCE = 1e-5
CONNECTOR_HEADS = {"bert_config": {"num_attention_heads": 4}}
HEADS_OF_TOYS = {"vision_overrides": {"num_heads": 4}, **CONNECTOR_HEADS}


@pytest.fixture(scope="module", params=case_directories(), ids=lambda directory: directory.name)
def case(request: pytest.FixtureRequest) -> PublishedCase:
    return PublishedCase(request.param)


@pytest.fixture(scope="module")
def model(case: PublishedCase) -> EvlVideoForCaptioning:
    return case.model()


def test_there_are_cases() -> None:
    assert case_directories()


# Value for value


def test_vision_features(case: PublishedCase, model: EvlVideoForCaptioning) -> None:
    features = model.vision_tower(case.inputs["pixel_values"])
    torch.testing.assert_close(features, case.expected["vision_features"], rtol=0, atol=TOLERANCE)


def test_vision_embeddings(case: PublishedCase, model: EvlVideoForCaptioning) -> None:
    embeddings = model.ln_vision(case.expected["vision_features"].mean(dim=1))
    torch.testing.assert_close(embeddings, case.expected["vision_embeds"], rtol=0, atol=TOLERANCE)


def test_merged_tokens(case: PublishedCase, model: EvlVideoForCaptioning) -> None:
    merged = model.connector.bert(model.connector.projection(case.expected["vision_embeds"]))
    torch.testing.assert_close(merged, case.expected["merged_tokens"], rtol=0, atol=TOLERANCE)


def test_soft_prompt(case: PublishedCase, model: EvlVideoForCaptioning) -> None:
    prompt = model.encode(case.inputs["pixel_values"])
    torch.testing.assert_close(prompt, case.expected["soft_prompt"], rtol=0, atol=TOLERANCE)


def test_logits(case: PublishedCase, model: EvlVideoForCaptioning) -> None:
    places = real_places(case)
    logits = model(**case.inputs).logits
    torch.testing.assert_close(logits[places], case.expected["logits"][places], rtol=0, atol=TOLERANCE)


def real_places(case: PublishedCase) -> Tensor:
    """The soft prompt and the text; what a language model says at padding is nobody's."""
    mask = case.inputs["attention_mask"].bool()
    prompt = case.expected["soft_prompt"].shape[:2]
    return torch.cat([torch.ones(prompt, dtype=torch.bool), mask], dim=1)


def test_loss(case: PublishedCase, model: EvlVideoForCaptioning) -> None:
    loss = model(**case.inputs).loss
    torch.testing.assert_close(loss, case.expected["loss"].squeeze(), rtol=0, atol=LOSS_TOLERANCE)


def test_greedy_captions(case: PublishedCase, model: EvlVideoForCaptioning) -> None:
    tokens = model.generate(case.inputs["pixel_values"], max_new_tokens=case.sizes["generation"]["max_new_tokens"])
    assert case.until_the_end(tokens) == case.until_the_end(case.expected["greedy_ids"])


def test_beam_captions(case: PublishedCase, model: EvlVideoForCaptioning) -> None:
    generation = case.sizes["generation"]
    tokens = model.generate(
        case.inputs["pixel_values"], max_new_tokens=generation["max_new_tokens"], **generation["beam"]
    )
    assert case.until_the_end(tokens) == case.until_the_end(case.expected["beam5_ids"])


@pytest.mark.needs_cuda
def test_greedy_captions_on_cuda(case: PublishedCase) -> None:
    tokens = (
        case.model()
        .to("cuda")
        .generate(case.inputs["pixel_values"].to("cuda"), max_new_tokens=case.sizes["generation"]["max_new_tokens"])
    )
    assert case.until_the_end(tokens.cpu()) == case.until_the_end(case.expected["greedy_ids"])


# What is trained


def test_trained_weights_are_those_that_the_published_checkpoint_holds(
    case: PublishedCase, model: EvlVideoForCaptioning
) -> None:
    assert sum(weight.requires_grad for weight in model.parameters()) == len(case.checkpoint.weights)
    assert to_published(model).keys() == case.checkpoint.weights.keys()


def test_one_step_changes_exactly_what_is_trained(case: PublishedCase) -> None:
    stepped = case.model().train()
    before = copy.deepcopy(stepped.state_dict())
    trained = [weight for weight in stepped.parameters() if weight.requires_grad]
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0)
    stepped(**case.inputs).loss.backward()
    optimizer.step()
    changed = {name for name, value in stepped.state_dict().items() if not torch.equal(value, before[name])}
    # Keys add the same to all of a query's similarities by their bias, which thus has no gradient but rounding's;
    # BERT's first token type is the only one that is used, in a table that changes as a whole.
    expected = {name for name in before if tower_of(name) is None}
    silent = {name for name in expected if name.endswith(("key.bias",))}
    assert expected - silent <= changed <= expected


# In and out


def test_round_trip_gives_the_same_keys_and_identical_tensors(case: PublishedCase, tmp_path: Path) -> None:
    case.model().save_pretrained(tmp_path / "ours")
    write_published(EvlVideoForCaptioning.from_pretrained(tmp_path / "ours"), tmp_path / "back.pth")
    original = torch.load(case.directory / "checkpoint.pth", weights_only=True)["model"]
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert back.keys() == original.keys()
    assert all(torch.equal(back[name], original[name]) and back[name].dtype == original[name].dtype for name in back)


def edited(case: PublishedCase, tmp_path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    content = torch.load(case.directory / "checkpoint.pth", weights_only=True)
    edit(content)
    torch.save(content, tmp_path / "edited.pth")
    return tmp_path / "edited.pth"


def toy(name: str = "opt-video") -> PublishedCase:
    return PublishedCase(FIXTURES / name)


def load_edited(tmp_path: Path, edit: Callable[[dict[str, Any]], object]) -> EvlVideoForCaptioning:
    case = toy()
    return captioner_from_published(read_published(edited(case, tmp_path, edit)), case.config())


def test_constants_and_half_precision_of_the_original_come_back(tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        model = content["model"]
        model["VLconnector.embeddings.position_ids"] = torch.arange(64)[None]
        for name in [name for name in model if "temporal_merge.key" in name]:
            model[name] = model[name].half()

    checkpoint = read_published(edited(toy(), tmp_path, edit))
    captioner_from_published(checkpoint, toy().config()).save_pretrained(tmp_path / "ours")
    write_origin(checkpoint, tmp_path / "ours")
    model = EvlVideoForCaptioning.from_pretrained(tmp_path / "ours")
    write_published(model, tmp_path / "back.pth", converted=tmp_path / "ours")
    original, back = (torch.load(tmp_path / name, weights_only=True) for name in ("edited.pth", "back.pth"))
    assert back["config"] == original["config"]
    assert back["model"].keys() == original["model"].keys()
    for name, value in original["model"].items():
        assert back["model"][name].dtype == value.dtype
        assert torch.equal(back["model"][name], value)


def test_published_file_is_read_back_as_the_same_model(tmp_path: Path) -> None:
    model = toy().model()
    write_published(model, tmp_path / "back.pth")
    again = captioner_from_published(read_published(tmp_path / "back.pth"), toy().config())
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_wrong_keys_are_all_listed_by_their_published_names(tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        model = content["model"]
        for layer in range(3):
            for name in [name for name in model if name.startswith(f"VLconnector.encoder.layer.{layer}.attention")]:
                model[f"{name}_"] = model.pop(name)
        model["ln_vision.bias"] = torch.ones(3)

    with pytest.raises(UserError) as caught:
        load_edited(tmp_path, edit)
    message = str(caught.value)
    assert "30 weights are missing" in message and "30 weights have no place" in message
    assert len(re.findall(r"VLconnector\.encoder\.layer\.\d\.attention\.[\w.]+", message)) == 60
    assert "ln_vision.bias is (3,), the model's (48,)" in message


def test_contextualizer_beyond_the_towers_depth_is_an_error(tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["model"]["visual_encoder.blocks.3.temporal_merge.alpha"] = torch.zeros(())

    with pytest.raises(UserError, match=r"no place in the model: visual_encoder\.blocks\.3\.temporal_merge\.alpha"):
        load_edited(tmp_path, edit)


class Anything:
    """Stands for an object of somebody's own code."""


def test_file_that_needs_more_than_tensors_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"could not be read: they need .*Anything, which could run code"):
        read_published(edited(toy(), tmp_path, lambda content: content.update(config=Anything())))


@pytest.mark.parametrize("content", [{"ln_vision.weight": torch.ones(2)}, {"model": {}}, {"model": [1]}, {}])
def test_file_of_another_form_is_a_user_error(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match="is not a published checkpoint"):
        read_published(tmp_path / "other.pth")


def test_weights_of_another_model_are_a_user_error(tmp_path: Path) -> None:
    torch.save({"model": {"opt_proj.weight": torch.ones(2), "Qformer.weight": torch.ones(2)}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"no VLconnector\.embeddings\.position_embeddings\.weight"):
        published_config(
            read_published(tmp_path / "other.pth"), "eva_giant_patch14_clip_224", str(toy().directory / "llm")
        )


def test_checkpoint_without_a_language_projection_is_a_user_error(tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        for name in ("opt_proj.weight", "opt_proj.bias"):
            del content["model"][name]

    with pytest.raises(UserError, match=r"opt_proj\.weight or llm_proj\.weight"):
        read_published(edited(toy(), tmp_path, edit)).language_kind  # noqa: B018


@pytest.mark.parametrize(
    ("part", "changes"),
    [("tower", {"bert_config": {"num_attention_heads": 4}}), ("connector", {"vision_overrides": {"num_heads": 4}})],
)
def test_heads_that_cannot_be_told_are_asked_for(part: str, changes: dict[str, Any]) -> None:
    case = toy()
    with pytest.raises(UserError, match=f"{part}.* cannot be inferred"):
        published_config(case.checkpoint, str(case.directory / "eva_vit.pth"), str(case.directory / "llm"), changes)


def test_missing_tower_file_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"no vision tower file at nowhere\.pth"):
        published_config(toy().checkpoint, "nowhere.pth", str(toy().directory / "llm"))


def test_file_that_is_no_eva_tower_is_a_user_error(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.ones(2)}, tmp_path / "resnet.pth")
    with pytest.raises(UserError, match=r"not a vision tower under EVA's names: it has no patch_embed\.proj\.weight"):
        published_config(toy().checkpoint, str(tmp_path / "resnet.pth"), str(toy().directory / "llm"))


# The vision tower


def test_timms_name_is_evlgens_tower_with_39_blocks_and_no_final_norm() -> None:
    values = {"bert_config": {"num_attention_heads": 4}}
    config = published_config(toy().checkpoint, "eva_giant_patch14_clip_224", str(toy().directory / "llm"), values)
    assert (config.vision_weights, config.vision_overrides) == ("timm", {"depth": 39})
    assert not config.vision_final_norm


def test_tower_of_the_file_is_timms(case: PublishedCase, model: EvlVideoForCaptioning) -> None:
    vit = timm.create_model("eva_giant_patch14_clip_224", num_classes=0, **(case.config().vision_overrides or {}))
    vit.norm = torch.nn.Identity()
    vit.load_state_dict(read_weights(case.directory / "eva_vit.pth"))
    images = case.inputs["pixel_values"]
    image_model = PublishedCase(case.directory).model()
    for gate in (weight for name, weight in image_model.named_parameters() if name.endswith("temporal_merge.alpha")):
        gate.data.zero_()
    expected = vit.eval().forward_features(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    assert torch.equal(image_model.vision_tower(images), expected)


def test_blocks_after_the_39th_and_what_follows_the_last_block_are_left_out(tmp_path: Path) -> None:
    sizes = {"img_size": 28, "embed_dim": 88, "num_heads": 1, "mlp_ratio": 1.0}
    vit = fill(timm.create_model("eva_giant_patch14_clip_224", num_classes=0, depth=40, **sizes))
    torch.save(vit.state_dict() | {"head.weight": torch.ones(3, 88)}, tmp_path / "eva.pth")
    config = published_config(
        toy().checkpoint, str(tmp_path / "eva.pth"), str(toy().directory / "llm"), CONNECTOR_HEADS
    )
    tower = EvlVideoForCaptioning.from_towers(config).vision_tower.vit
    assert len(tower.blocks) == 39
    assert torch.equal(tower.blocks[38].attn.qkv.weight, vit.blocks[38].attn.qkv.weight)


# Language models


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    sizes = {"hidden_size": 40, "intermediate_size": 60, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes)).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def as_llama(content: dict[str, Any]) -> None:
    model = content["model"]
    for part in ("weight", "bias"):
        model[f"llm_proj.{part}"] = model.pop(f"opt_proj.{part}")


def test_llama_checkpoint_goes_in_and_out(llama: Path, tmp_path: Path) -> None:
    case = toy()
    checkpoint = read_published(edited(case, tmp_path, as_llama))
    changes = {**HEADS_OF_TOYS, "bos_token_id": 1, "end_token_id": 2}
    config = published_config(checkpoint, str(case.directory / "eva_vit.pth"), str(llama), changes)
    model = captioner_from_published(checkpoint, config)
    torch.testing.assert_close(
        model.encode(case.inputs["pixel_values"]), case.expected["soft_prompt"], rtol=0, atol=TOLERANCE
    )
    assert model.generate(case.inputs["pixel_values"], max_new_tokens=4, num_beams=3).shape[1] <= 4
    back = to_published(model)
    assert back.keys() == checkpoint.weights.keys()
    assert all(torch.equal(back[name], value) for name, value in checkpoint.weights.items())


def test_language_model_of_another_kind_is_a_user_error(llama: Path) -> None:
    case = toy()
    with pytest.raises(UserError, match=r"kind 'opt' \(opt_proj\.weight\), but .* is of the kind 'llama'"):
        published_config(case.checkpoint, str(case.directory / "eva_vit.pth"), str(llama), HEADS_OF_TOYS)


# What the published code cannot compute


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"fusion": "concat"}, "fusion is 'concat'"),
        ({"contextualizer": "merged", "fusion": "mean_tokens"}, "contextualizer is 'merged'"),
        ({"contextualizer": "in_tower", "frame_positions": True}, "frame_positions is True"),
        ({"contextualizer": "in_tower", "contextualizer_blocks": [0]}, r"contextualizer_blocks is \[0\]"),
        ({"merge_reduction": "size_weighted"}, "merge_reduction is 'size_weighted'"),
        ({"merge_r": [3, 2]}, r"merge_r is \[3, 2\]"),
        ({"merge_r": None, "merge_to": 11}, "merge_to is 11; it has merge_r instead"),
    ],
)
def test_model_that_the_published_code_has_not_is_refused(
    make_model: MakeModel, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        to_published(make_model(**changes))
